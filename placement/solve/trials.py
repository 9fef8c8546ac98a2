"""Changed requests tried out, a bounded number of them: whether one fits is found by the way that
needs least RAM, and only what is offered is planned in full.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from placement.plan import DeviceUse, PlacementPlan
from placement.request import Request
from placement.solve.draft import draft

# The solver's time grows with the GPUs; a plan that does not fit is to be told within a second.
MOST_DRAFTS = 192  # over the number of GPUs, and FEWEST at least
FEWEST = 12
CONTEXT_STEP = 256
SMALLEST_UBATCH = 16
MOST_HALVINGS = 64  # of one search, likewise
FEWEST_HALVINGS = 3


@dataclass(frozen=True, slots=True)
class Remedy:
    """One change.

    text       what to type, or to do
    request    with the change
    plan       what it leads to
    is_budget  it takes more of the machine, nothing of the request is smaller
    is_meant   it is what the user meant, by all that one can tell
    """

    text: str
    request: Request
    plan: PlacementPlan
    is_budget: bool = False
    is_meant: bool = False

    @property
    def rank(self) -> int:
        """Those of a lower one are told first."""
        return 0 if self.is_meant else 2 if self.is_budget else 1


def overfull(plan: PlacementPlan) -> list[DeviceUse]:
    """Devices whose planned bytes exceed their budget."""
    return [use for use in plan.devices if use.total_bytes > use.budget_bytes]


class Trials:
    """Drafts of changes to one request; `left` of them may still be made."""

    def __init__(self, request: Request) -> None:
        gpus = max(len(request.machine.gpus), 1)
        self._request = request
        self.left = max(MOST_DRAFTS // gpus, FEWEST)
        self._halvings = max(MOST_HALVINGS // gpus, FEWEST_HALVINGS)

    def lean(self, request: Request) -> PlacementPlan | None:
        """The draft that needs least RAM, None where no more may be made."""
        if self.left < 1:
            return None
        self.left -= 1
        return draft(request, lean=True)

    def fits(self, request: Request) -> bool:
        """Whether any plan of it does, as far as drafts may be made."""
        plan = self.lean(request)
        return plan is not None and not overfull(plan)

    def tried(self, request: Request) -> PlacementPlan | None:
        """The plan of a request that fits."""
        if not self.fits(request):
            return None
        plan = draft(request)
        return None if overfull(plan) else plan

    @cached_property
    def free_layers(self) -> PlacementPlan | None:
        """The plan without -ngl, where one is given and that fits."""
        if self._request.gpu_layers is None:
            return None
        return self.tried(self._request.with_gpu_layers(None))

    @cached_property
    def of_size(self) -> bool:
        """Whether any smaller context, micro-batch or cache may help: the smallest of all fit."""
        workload = self._request.workload
        least = replace(
            workload,
            context_tokens=min(workload.context_tokens, CONTEXT_STEP),
            ubatch_tokens=min(workload.ubatch_tokens, SMALLEST_UBATCH),
            cache_format="q8_0",
        )
        return self.fits(self._request.with_workload(least))

    def one(self, text: str, changed: Request) -> Iterator[Remedy]:
        """The change, if it fits."""
        plan = self.tried(changed)
        if plan is not None:
            yield Remedy(text, changed, plan)

    def first_fit(
        self,
        steps: int,
        changed: Callable[[int], Request],
        text: Callable[[int], str],
        fits: Callable[[PlacementPlan], bool] | None = None,
    ) -> Iterator[Remedy]:
        """The smallest step 1..steps whose changed request fits; more steps need less. With many
        GPUs one near it.

        fits   enough for going on with fewer steps; in the end all devices must have room
        """
        enough = fits or (lambda plan: not overfull(plan))

        def holds(step: int) -> bool:
            plan = self.lean(changed(step))
            return plan is not None and enough(plan)

        if steps < 1 or not holds(steps):
            return
        low, high = 0, steps
        for _ in range(self._halvings):
            if high - low < 2 or self.left < 1:
                break
            middle = (low + high) // 2
            low, high = (low, middle) if holds(middle) else (middle, high)
        plan = draft(changed(high))
        if not overfull(plan):
            yield Remedy(text(high), changed(high), plan)
