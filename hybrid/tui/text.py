"""The end of what was generated."""

from hybrid.live.snapshot import Phase, Snapshot
from hybrid.tui.lines import Line, fitted, wrapped_end
from hybrid.tui.look import Look

NOTHING = {
    Phase.LOADING: "nothing yet: the model is being loaded",
    Phase.PROMPT: "nothing yet: the prompt is being read",
}


def generated(snapshot: Snapshot, width: int, height: int, look: Look) -> list[Line]:
    """The last lines, broken to the width; why there is none while there is none."""
    if not snapshot.text:
        return [fitted([(f" {NOTHING.get(snapshot.phase, 'nothing')}", "faint")], width, look.more)]
    lines = wrapped_end(snapshot.text, width - 2, height)
    return [fitted([(f" {line}", "")], width) for line in lines]
