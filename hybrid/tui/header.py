"""The top of the screen: what runs, how fast against the prediction, why, and what is amiss."""

from dataclasses import dataclass

from hybrid.live.snapshot import Phase, Progress, Snapshot
from hybrid.tui.amounts import (
    ABSENT,
    count,
    duration,
    ms,
    percent,
    signed_percent,
    size,
    tokens_s,
)
from hybrid.tui.bars import gauge
from hybrid.tui.findings import (
    LARGE_ERROR,
    compared_speed,
    comparison,
    difference,
    predicted_tok_s,
    reason,
    warnings,
)
from hybrid.tui.lines import Line, apart, fitted, joined, one_line, width_of
from hybrid.tui.look import Look

PHASES = {
    Phase.LOADING: ("loading", "strong"),
    Phase.PROMPT: ("reading the prompt", "strong"),
    Phase.DECODE: ("decoding", "done"),
    Phase.IDLE: ("waiting for a prompt", "faint"),
    Phase.ENDED: ("ended", "faint"),
    Phase.FAILED: ("failed", "error"),
}
OVER = (Phase.ENDED, Phase.FAILED)
MOST_ERROR_LINES = 4


@dataclass(frozen=True, slots=True)
class State:
    """Of the view. over   how the run ended, which the snapshot does not know"""

    paused: bool = False
    over: str = ""


def header(
    snapshot: Snapshot, width: int, look: Look, state: State, short: bool = False
) -> list[Line]:
    """Title, plan, rates, then what is known of: progress, reason, warnings, error.

    short    only the rate that the phase is about
    """
    lines = [_title(snapshot, width, look, state), _plan(snapshot, width, look)]
    lines += _rate_lines(snapshot, width, look)[: 1 if short else 2]
    if snapshot.progress is not None:
        lines.append(_progress(snapshot.progress, width, look))
    if snapshot.error:
        lines += _error(snapshot.error, width, look)
    lines += _why(snapshot, width, short)
    amiss = joined(([(one_line(text), "warning")] for text in warnings(snapshot)), "; ", width - 10)
    if amiss:
        lines.append(fitted([(" amiss    ", "warning"), *amiss], width, look.more))
    return lines


def _why(snapshot: Snapshot, width: int, short: bool) -> list[Line]:
    """What was measured, without its end where that has no room; then what was planned."""
    parts: list[Line] = [[(text, "strong")] for text in reason(snapshot).split("; ") if text]
    lines: list[Line] = []
    if parts:
        measured = joined(parts, "; ", width - 10) or parts[0]
        lines.append(fitted([(" why      ", "faint"), *measured], width))
    limit: Line = [(" planned  ", "faint"), (one_line(snapshot.facts.limit), "")]
    decodes = snapshot.phase is Phase.DECODE  # which it is the limit of
    if snapshot.facts.limit and decodes and not short and width_of(limit) <= width:
        lines.append(fitted(limit, width))
    return lines


def _title(snapshot: Snapshot, width: int, look: Look, state: State) -> Line:
    """A run's end says more than its last phase, and than that the view was stopped before."""
    facts = snapshot.facts
    words, name = PHASES[snapshot.phase]
    end: Line = [(f" {words}", name)]
    if state.over:
        end = [(f" {state.over} ", "chosen")]
    elif state.paused and snapshot.phase not in OVER:
        end = [(" PAUSED ", "chosen"), (" ", ""), *end]
    end.append((f"  {duration(snapshot.at - facts.started_at)} ", ""))
    begin = [
        (f" hybrid {facts.command} ", "title"),
        (one_line(facts.model), "strong"),
        (f"  {facts.architecture}  pid {facts.pid}", "faint"),
    ]
    return apart(begin, end, width, look.more)


def _plan(snapshot: Snapshot, width: int, look: Look) -> Line:
    facts = snapshot.facts
    end = [(f"  context {facts.context_tokens}, ubatch {facts.ubatch_tokens} ", "faint")]
    begin = [(" plan     ", "faint"), (one_line(facts.plan_line), "")]
    if width < 100:
        return fitted(begin, width, look.more)
    return apart(begin, end, width, look.more)


def _rate_lines(snapshot: Snapshot, width: int, look: Look) -> list[Line]:
    """One line where both fit, else what the phase is about first."""
    decode, prompt = _decode(snapshot, look), _prompt(snapshot, look)
    if snapshot.phase in (Phase.LOADING, Phase.PROMPT):
        decode, prompt = prompt, decode
    lines = []
    for title, parts in (decode, prompt):
        if parts:
            line = joined(parts, look.join, width - 10)
            lines.append(fitted([(f" {title:8} ", "faint"), *line], width))
    return lines


def _decode(snapshot: Snapshot, look: Look) -> tuple[str, list[Line]]:
    rates = snapshot.rates
    parts: list[Line] = []
    speeds = (rates.decode_now_tok_s, rates.decode_10_s_tok_s, rates.decode_run_tok_s)
    if any(speed is not None for speed in speeds):
        parts.append([(f"{tokens_s(speeds[0])} tok/s now", "strong")])
        parts.append([(f"{tokens_s(speeds[2])} run", "")])
        if comparison(snapshot, Phase.DECODE) is None:
            parts.append([(f"{tokens_s(speeds[1])} over 10 s", "")])
    parts += _predicted(snapshot, Phase.DECODE)
    parts += _error_of_prediction(snapshot, look) if parts else []
    if rates.ms_a_token is not None:
        parts.append([(f"last token {ms(rates.ms_a_token / 1e3)} ms", "")])
    if rates.decode_tokens:
        parts.append([(f"{rates.decode_tokens} tokens", "")])
    return "decode", parts


def _prompt(snapshot: Snapshot, look: Look) -> tuple[str, list[Line]]:
    rates = snapshot.rates
    parts: list[Line] = []
    if rates.prompt_now_tok_s is not None and snapshot.phase is Phase.PROMPT:
        parts.append([(f"{tokens_s(rates.prompt_now_tok_s)} tok/s now", "strong")])
    if rates.prompt_run_tok_s is not None:
        parts.append([(f"{tokens_s(rates.prompt_run_tok_s)} run", "")])
    parts += _predicted(snapshot, Phase.PROMPT)
    if rates.prompt_tokens:
        parts.append([(f"{rates.prompt_tokens} tokens", "")])
    if rates.reused_tokens:
        parts.append([(f"{rates.reused_tokens} reused", "")])
    return "prompt", parts


def _predicted(snapshot: Snapshot, phase: Phase) -> list[Line]:
    """The prediction; where this phase runs or ran last, the speed before it that it is of, and how
    far off it is: one part, as neither says anything alone.
    """
    tok_s = predicted_tok_s(snapshot, phase)
    if tok_s is None:
        return []
    text = f"predicted {tokens_s(tok_s)}"
    its, off = comparison(snapshot, phase), difference(snapshot)
    if its is None or off is None:
        return [[(text, "")]]
    worse = off < -(snapshot.facts.predicted_error or LARGE_ERROR)
    beside = (f" ({signed_percent(off)})", "warning" if worse else "done")
    return [[(f"{compared_speed(its, phase)}, {text}", ""), beside]]


def _error_of_prediction(snapshot: Snapshot, look: Look) -> list[Line]:
    error = snapshot.facts.predicted_error
    return [[(f"its error {look.about}{percent(error)}", "faint")]] if error else []


def _progress(progress: Progress, width: int, look: Look) -> Line:
    """A bar with what is done, how fast, and when it will be."""
    of = f"{count(progress.done)} of {count(progress.total)} {progress.unit}"
    if progress.unit == "bytes":
        of = f"{size(progress.done, progress.total)} of {size(progress.total)}"
    share = progress.done / progress.total if progress.total else None
    words = f" {percent(share)}  {of}"
    if progress.rate_s is not None:
        speed = f"{progress.rate_s / 1e9:.2f} GB" if progress.unit == "bytes" else ""
        words += f"  {speed or tokens_s(progress.rate_s)}/s"
    eta = ABSENT if progress.eta_s is None else duration(progress.eta_s)
    words += f"  {eta} left "
    what = f" {one_line(progress.what)[:20]:8} "
    cells = max(min(width - len(what) - len(words), 60), 4)
    return fitted([(what, "strong"), *gauge(share, cells, look), (words, "")], width, look.more)


def _error(text: str, width: int, look: Look) -> list[Line]:
    lines = [one_line(line) for line in text.splitlines() if line.strip()]
    shown = lines[:MOST_ERROR_LINES]
    titles = [" error    ", *[" " * 10] * (len(shown) - 1)]
    return [
        fitted([(title, "error"), (line, "error")], width, look.more)
        for title, line in zip(titles, shown, strict=True)
    ]
