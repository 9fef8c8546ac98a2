"""What a plan is asked from, as one value: drafts and remedies differ only in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from placement.claims import Claims, loaded_claims
from placement.cost.expert_stats import EVEN, ExpertStats
from placement.cost.predict import GOALS, Costs
from placement.errors import RequestError
from placement.inventory import ModelInventory
from placement.machines.machine import CPU, DeviceKind, Machine
from placement.rules import Rule
from placement.workload import Workload

ALL_LAYERS = 1 << 20  # -ngl all; more blocks than any model has


@dataclass(frozen=True, slots=True)
class Request:
    """Everything a plan follows from. Raises RuleError for rules that cannot be obeyed.

    budgets        bytes per device name, for every device of the machine
    gpu_layers     -ngl as llama.cpp counts it (the head is the first), None: what is fastest
    shares         hint of layers for each GPU in machine order, parts of a whole (-ts); None: none
    optimize       one of GOALS
    expert_stats   which experts are chosen how often
    claims, costs  follow from the others; found once, and again only where these change
    """

    inventory: ModelInventory
    machine: Machine
    rules: tuple[Rule, ...]
    workload: Workload
    budgets: Mapping[str, int]
    gpu_layers: int | None = None
    shares: tuple[float, ...] | None = None
    optimize: str = GOALS[0]
    expert_stats: ExpertStats = EVEN
    claims: Claims = field(default_factory=dict, compare=False, repr=False)
    costs: Costs | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.claims:
            object.__setattr__(self, "claims", loaded_claims(self.inventory, self.rules))
        if self.costs is None:
            costs = Costs(self.inventory, played(self.machine), self.workload)
            object.__setattr__(self, "costs", costs)

    @property
    def cpu_bytes(self) -> int:
        """What may lie on the CPU: its budget, and beside it the file where weights stay mapped,
        for they are the page cache's business.
        """
        mapped = self.inventory.nbytes if self.workload.mapped else 0
        return self.budgets[CPU] + mapped

    @property
    def gpu_layers_text(self) -> str:
        """-ngl as it was typed: a number, or `all`; `auto` where it is left open."""
        words = {None: "auto", ALL_LAYERS: "all"}
        return words.get(self.gpu_layers, str(self.gpu_layers))

    def with_rules(self, rules: Sequence[Rule]) -> "Request":
        """The same with other rules."""
        return replace(self, rules=tuple(rules), claims={})

    def with_gpu_layers(self, gpu_layers: int | None) -> "Request":
        """The same with another -ngl."""
        return replace(self, gpu_layers=gpu_layers)

    def with_workload(self, workload: Workload) -> "Request":
        """The same for another workload."""
        return replace(self, workload=workload, costs=None)


def played(machine: Machine) -> Machine:
    """The machine that simulated GPUs play: plans are made for it, be it slower here."""
    devices = tuple(
        replace(d, kind=DeviceKind.GPU) if d.kind is DeviceKind.SIMULATED_GPU else d
        for d in machine.devices
    )
    return replace(machine, devices=devices)


def check_goal(goal: str) -> None:
    """Raises RequestError for what nobody can optimise."""
    if goal not in GOALS:
        raise RequestError(
            f"cannot optimize for {goal!r}", remedy=f"--optimize takes one of {', '.join(GOALS)}"
        )
