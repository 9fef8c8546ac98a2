"""What a caller may ask for: how a model is loaded, how tokens are drawn. Plain data, checked when
made, no torch: a mistake is told before anything is read. The command line fills it in.
"""

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from hybrid.errors import UsageError
from hybrid.tokenizer.pretokenizers import CONVENTIONS
from kernels.native import tiers
from placement.machine import canonical_name
from placement.plan import PlacementPlan
from placement.request import GOALS
from placement.rules import Rule
from placement.workload import CACHE_BYTES_PER_32_VALUES

KERNELS = ("fast", "exact")
NUMA_POLICIES = ("interleave", "shard", "local", "off")
MAX_THREADS = 4096
MAX_SEED = (1 << 63) - 1
# what a plan decides already
IN_A_PLAN = (
    "rules",
    "context",
    "ubatch",
    "cache_format",
    "cache_in_ram",
    "attention_work_bytes",
    "budgets",
    "gpu_layers",
    "optimize",
    "expert_stats",
)


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
    cache_in_ram           keep every layer's cache in RAM, where GPUs read it over their bus
    attention_work_bytes   bound of attention's work buffer on GPUs, and in blocks that lie only
                           partly in RAM; a block wholly on the CPU takes one head a thread
    kernels                "fast": on the CPU activations are rounded to eight bits, as ggml does;
                           "exact": float32 arithmetic on exactly decoded weights
    tier                   of the CPU's vector code, a name in kernels.native.tiers; None: the best
                           one here. The last load decides for the whole process
    conventions            "trained": as the model was trained; "llama.cpp": as llama.cpp computes
    simulate               byte budgets of GPUs to be played by the CPU, by name; None probes real
                           ones
    devices                GPUs to use; None all, ("none",) no GPU
    visible                value of CUDA_VISIBLE_DEVICES
    budgets                bytes a device may use at most, by name; below zero: free bytes less that
    gpu_layers             llama.cpp's -ngl; None as many as fit
    optimize               for the time of "decode", "prompt" or "balanced"
    expert_stats           file of how often each expert is chosen (placement/expert_stats.py)
    plan                   a plan, or its file, to be obeyed as it is
    numa                   page policy of the host arena
    mmap                   leave the CPU's weights in the file's memory map
    threads                CPU threads; None: physical cores
    """

    rules: tuple[str | Rule | CpuMoe, ...] = ()
    context: int | None = None
    ubatch: int = 512
    cache_format: str = "f16"
    cache_in_ram: bool = False
    attention_work_bytes: int = 256 << 20
    kernels: str = "fast"
    tier: str | None = None
    conventions: str = "trained"
    simulate: Mapping[str, int] | None = None
    devices: tuple[str, ...] | None = None
    visible: str | None = None
    budgets: Mapping[str, int] | None = None
    gpu_layers: int | None = None
    optimize: str = GOALS[0]
    expert_stats: str | Path | None = None
    plan: PlacementPlan | str | Path | None = None
    numa: str = "interleave"
    mmap: bool = False
    threads: int | None = None

    def __post_init__(self) -> None:
        _one_of("kernels", self.kernels, KERNELS)
        _one_of("tier", self.tier, (None, *tiers.NAMES))
        _one_of("optimize", self.optimize, GOALS)
        _one_of("conventions", self.conventions, CONVENTIONS)
        _one_of("numa", self.numa, NUMA_POLICIES)
        _one_of("cache_format", self.cache_format, tuple(CACHE_BYTES_PER_32_VALUES))
        _one_of("cache_in_ram", self.cache_in_ram, (False, True))
        _one_of("mmap", self.mmap, (False, True))
        _whole("ubatch", self.ubatch, 1)
        _whole("attention_work_bytes", self.attention_work_bytes, 1)
        if self.context is not None:
            _whole("context", self.context, 0)
        if self.threads is not None:
            _whole("threads", self.threads, 1, MAX_THREADS)
        if self.gpu_layers is not None:
            _whole("gpu_layers", self.gpu_layers, 0)
        _all_of("rules", self.rules, (str, Rule, CpuMoe), 'rules=["exps=CPU"]')
        if self.devices is not None:
            _all_of("devices", self.devices, (str,), 'devices=["CUDA0"], or "none"')
        if self.budgets is not None:
            _sizes("budgets", self.budgets, '{"CUDA0": 22 << 30, "CPU": 64 << 30}')
        if self.simulate is not None:
            _simulated_gpus(self.simulate)
        if self.plan is not None:
            self._check_beside_plan()

    @classmethod
    def from_keywords(cls, **given: Any) -> "LoadOptions":
        """The options of a call `hybrid.load(path, **given)`: rules and devices may be one thing
        or any sequence, names of simulated GPUs are spelled as devices are.

        Raises UsageError for an unknown name, with the nearest one, or a value of the wrong kind.
        """
        _known("option", given, cls)
        if "rules" in given:
            given["rules"] = _as_tuple(given["rules"] or ())
        if given.get("devices") is not None:
            given["devices"] = _as_tuple(given["devices"])
        if isinstance(given.get("simulate"), Mapping):
            named = {canonical_name(str(name)): size for name, size in given["simulate"].items()}
            given["simulate"] = dict(sorted(named.items(), key=lambda item: (len(item[0]), item)))
        return cls(**given)

    def _check_beside_plan(self) -> None:
        if not isinstance(self.plan, (PlacementPlan, str, Path)):
            raise UsageError(
                f"plan is of type {type(self.plan).__name__}",
                remedy='plan="plan.json", written by hybrid plan MODEL --save plan.json',
            )
        usual = {field.name: field.default for field in fields(self)}
        if beside := [name for name in IN_A_PLAN if getattr(self, name) != usual[name]]:
            raise UsageError(
                f"plan and {', '.join(beside)} are both given",
                "a plan decides these already",
                remedy=["leave them out", "make another plan with them"],
            )


@dataclass(frozen=True, slots=True)
class SamplingOptions:
    """How a token is drawn. The defaults are llama.cpp's.

    temperature   0 takes the most probable token
    top_k         keep the k most probable, 0 keeps all
    top_p         keep the smallest set whose probability reaches p, 1 keeps all
    min_p         drop tokens below min_p times the best one's probability, 0 drops none
    seed          0 to 2^63 - 1; None draws a fresh one
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.seed is not None:
            _whole("seed", self.seed, 0, MAX_SEED)
        if not _is_whole(self.top_k):
            raise UsageError(f"top-k is {_shown(self.top_k)}", remedy="a whole number, 0 keeps all")
        for name, value in (
            ("temperature", self.temperature),
            ("top-p", self.top_p),
            ("min-p", self.min_p),
        ):
            if not isinstance(value, Real):
                raise UsageError(f"{name} is {_shown(value)}", remedy="a number")
        self._check_ranges()

    @classmethod
    def from_keywords(cls, **given: Any) -> "SamplingOptions":
        """The options of `engine.generate(prompt, **given)`; UsageError for unknown names."""
        _known("sampling option", given, cls)
        return cls(**given)

    def _check_ranges(self) -> None:
        for name, value, good in (
            ("temperature", self.temperature, 0 <= self.temperature < math.inf),
            ("top-k", self.top_k, self.top_k >= 0),
            ("top-p", self.top_p, 0 < self.top_p <= 1),
            ("min-p", self.min_p, 0 <= self.min_p <= 1),
        ):
            if not good:
                raise UsageError(
                    f"{name} {value} is out of range",
                    remedy="temperature >= 0, top-k >= 0, 0 < top-p <= 1, 0 <= min-p <= 1",
                )


def _known(what: str, given: Mapping[str, Any], cls: type[Any]) -> None:
    """Refuse names that are no field of `cls`, with the nearest one."""
    known = [field.name for field in fields(cls)]
    if unknown := [name for name in given if name not in known]:
        near = difflib.get_close_matches(unknown[0], known, n=1, cutoff=0.6)
        raise UsageError(
            f"unknown {what} {unknown[0]!r}",
            remedy=[*(f"did you mean {name}?" for name in near), f"one of {', '.join(known)}"],
        )


def _as_tuple(value: Any) -> tuple[Any, ...]:
    """One string or rule stands for a sequence of one."""
    one = isinstance(value, (str, Rule, CpuMoe)) or not hasattr(value, "__iter__")
    return (value,) if one else tuple(value)


def _one_of(name: str, value: object, known: tuple[object, ...]) -> None:
    if value not in known:
        raise UsageError(
            f"{name} {_shown(value)} is not known", remedy=f"one of {', '.join(map(str, known))}"
        )


def _whole(name: str, value: Any, least: int, most: float = math.inf) -> None:
    if not _is_whole(value) or not least <= value <= most:
        upper = f" and at most {most}" if most < math.inf else ""
        raise UsageError(
            f"{name} is {_shown(value)}", remedy=f"a whole number of at least {least}{upper}"
        )


def _is_whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _all_of(name: str, values: object, kinds: tuple[type, ...], example: str) -> None:
    if not isinstance(values, tuple):
        raise UsageError(f"{name} is {_shown(values)}", remedy=example)
    if wrong := [value for value in values if not isinstance(value, kinds)]:
        raise UsageError(f"{name} holds {_shown(wrong[0])}", remedy=example)


def _sizes(name: str, sizes: object, example: str) -> None:
    """Whole bytes by device name."""
    if not isinstance(sizes, Mapping):
        raise UsageError(f"{name} is {_shown(sizes)}", remedy=f"{name}={example}, in bytes")
    for device, nbytes in sizes.items():
        if not isinstance(device, str) or not _is_whole(nbytes):
            raise UsageError(
                f"{name} of {device} is {_shown(nbytes)}", remedy=f"{name}={example}, in bytes"
            )


def _simulated_gpus(sizes: Mapping[str, int]) -> None:
    """The checks of `placement.budgets.parse_simulate`, for sizes that were never a text."""
    example = '{"CUDA0": 64 << 20, "CUDA1": 48 << 20}'
    _sizes("simulate", sizes, example)
    if empty := [name for name, nbytes in sizes.items() if nbytes <= 0]:
        raise UsageError(
            f"simulate gives {empty[0]} {sizes[empty[0]]} bytes",
            remedy=f"simulate={example}, in bytes",
        )
    if set(sizes) != {f"CUDA{number}" for number in range(len(sizes))}:
        raise UsageError(
            f"simulate names {', '.join(sizes)}; GPUs are CUDA0, CUDA1, ... without gaps",
            remedy=f"simulate={example}",
        )


def _shown(value: object) -> str:
    """A value inside one line of a message."""
    return repr(value)[:80]
