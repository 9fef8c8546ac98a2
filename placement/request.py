"""What a plan is asked from, as one value: drafts and remedies differ only in it."""

from collections.abc import Mapping
from dataclasses import dataclass

from placement.inventory import ModelInventory
from placement.machine import Machine
from placement.rules import Rule
from placement.workload import Workload


@dataclass(frozen=True, slots=True)
class Request:
    """Everything a plan follows from.

    budgets      bytes per device name, for every device of the machine
    gpu_layers   -ngl as llama.cpp counts it (the head is the first), None for as many as fit
    shares       hint of layers for each GPU in machine order, parts of a whole (-ts); None: by room
    """

    inventory: ModelInventory
    machine: Machine
    rules: tuple[Rule, ...]
    workload: Workload
    budgets: Mapping[str, int]
    gpu_layers: int | None = None
    shares: tuple[float, ...] | None = None
