"""The plan: which device holds which tensor (or range of experts) and why, as a frozen value.

The same plan file gives the same run. Assignments stand in file order, every tensor once, or once
per expert range. JSON both ways: `plan_json.py`; a plan from a file is held against model and
machine by `plan_check.py`.
"""

from dataclasses import dataclass

from placement.prediction import Prediction
from placement.rules import Rule
from placement.workload import Workload

PLAN_VERSION = 1


@dataclass(frozen=True, slots=True)
class Assignment:
    """One tensor, or the experts first..last of it, on one device.

    rule     index into the plan's rules, the first of several; None when the planner chose
    reason   a phrase for a person, one for each rule
    """

    tensor: str
    experts: tuple[int, int] | None
    device: str
    nbytes: int
    rule: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class DeviceUse:
    """Planned bytes of one device by category, against its budget.

    simulated   a GPU that the CPU plays
    """

    name: str
    budget_bytes: int
    weights_bytes: int
    cache_bytes: int
    compute_bytes: int
    other_bytes: int
    simulated: bool = False

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.cache_bytes + self.compute_bytes + self.other_bytes


@dataclass(frozen=True, slots=True)
class PlacementPlan:
    """Everything the loader needs and everything the user reads.

    layers       home of each trunk block: where its attention, cache and activations live
    prediction   None where nobody asked for speeds, or where the CPU plays GPUs
    machine      what --machine named; empty: planned for the machine it was made on
    """

    model: str
    architecture: str
    model_bytes: int
    assignments: tuple[Assignment, ...]
    layers: tuple[str, ...]
    devices: tuple[DeviceUse, ...]
    rules: tuple[Rule, ...]
    workload: Workload
    notes: tuple[str, ...] = ()
    prediction: Prediction | None = None
    machine: str = ""
    version: int = PLAN_VERSION

    @property
    def played_gpus(self) -> tuple[str, ...]:
        """GPUs that hold something and are played by the CPU: how fast they are says nothing."""
        return tuple(use.name for use in self.devices if use.simulated and use.total_bytes)
