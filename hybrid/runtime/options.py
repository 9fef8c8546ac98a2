"""What a caller may ask for when loading a model. Plain data, no torch: the command line fills it
in."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hybrid.errors import UsageError
from placement.plan import PlacementPlan
from placement.rules import Rule

CONVENTIONS = ("trained", "llama.cpp")
KERNELS = ("exact",)
NUMA_POLICIES = ("interleave", "local", "off")


@dataclass(frozen=True, slots=True)
class CpuMoe:
    """--cpu-moe (layers None: all routed experts in RAM) or --n-cpu-moe N (those of the first N
    blocks)."""

    layers: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """Everything `hybrid.load` and the commands take, read once and handed down.

    rules                  -ot texts, parsed rules and MoE switches, in order of precedence
    context                tokens of cache to reserve; None: the smaller of trained and 8192, 0:
                           trained
    ubatch                 prompt tokens computed at once
    cache_format           "f32", "f16", "bf16" or "q8_0"
    attention_work_bytes   bound of the expanded attention's work buffer
    kernels                "exact": float32 arithmetic on exactly decoded weights
    conventions            "trained": as the model was trained; "llama.cpp": as llama.cpp computes
    simulate               byte budgets of GPUs to be played by the CPU, by name; None probes real
                           ones
    devices                GPUs to use; None all, ("none",) no GPU
    visible                value of CUDA_VISIBLE_DEVICES
    budgets                bytes a device may use at most, by name; below zero: free bytes less that
    gpu_layers             llama.cpp's -ngl; None as many as fit
    plan                   a plan, or its file, to be obeyed as it is
    numa                   page policy of the host arena
    mmap                   leave the CPU's weights in the file's memory map
    threads                CPU threads; None: physical cores
    """

    rules: tuple[str | Rule | CpuMoe, ...] = ()
    context: int | None = None
    ubatch: int = 512
    cache_format: str = "f16"
    attention_work_bytes: int = 256 << 20
    kernels: str = "exact"
    conventions: str = "trained"
    simulate: Mapping[str, int] | None = None
    devices: tuple[str, ...] | None = None
    visible: str | None = None
    budgets: Mapping[str, int] | None = None
    gpu_layers: int | None = None
    plan: PlacementPlan | str | Path | None = None
    numa: str = "interleave"
    mmap: bool = False
    threads: int | None = None

    def __post_init__(self) -> None:
        _one_of("kernels", self.kernels, KERNELS)
        _one_of("conventions", self.conventions, CONVENTIONS)
        _one_of("numa", self.numa, NUMA_POLICIES)
        _at_least("context", self.context, 0)
        _at_least("ubatch", self.ubatch, 1)
        _at_least("threads", self.threads, 1)
        _at_least("gpu_layers", self.gpu_layers, 0)


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UsageError(f"{name} {value!r} is not known", remedy=f"one of {', '.join(known)}")


def _at_least(name: str, value: int | None, least: int) -> None:
    if value is not None and value < least:
        raise UsageError(f"{name} is {value}", remedy=f"a whole number of at least {least}")
