"""What a caller may ask for: how a model is loaded, how tokens are drawn. Plain data, checked when
made, no torch: a mistake is told before anything is read. The command line fills it in.
"""

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from numbers import Real
from pathlib import Path
from typing import Any

from hybrid.errors import UsageError
from hybrid.runtime.machine_here import check_machine
from hybrid.runtime.option_checks import (
    all_of,
    is_whole,
    one_of,
    shown,
    simulated_gpus,
    sizes,
    whole,
)
from hybrid.runtime.option_names import option_of
from hybrid.tokenizer.pretokenizers import CONVENTIONS
from kernels.native import tiers
from placement.cost.predict import GOALS
from placement.machines.machine import canonical_name
from placement.plan import PlacementPlan
from placement.rules import Rule
from placement.workload import CACHE_BYTES_PER_32_VALUES, MAX_SEQUENCES, NUMA_POLICIES

KERNELS = ("fast", "exact")
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
    "split",
    "shares",
    "margins",
    "sequences",
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
    ubatch                 prompt tokens computed at once; None: 2048 where GPUs compute them and no
                           tensor has to make room for it, else 512
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
    machine                a preset, or a machine file: plan for it; what is here runs nothing then
    profiles               folder of what `hybrid doctor` measured; None: speeds are estimated
    budgets                bytes a device may use at most, by name; below zero: free bytes less that
    gpu_layers             llama.cpp's -ngl; None as many as fit
    optimize               for the time of "decode", "prompt" or "balanced"
    expert_stats           file of how often each expert is chosen (placement/cost/expert_stats.py)
    split                  "layer": contiguous layers over the GPUs; "none": one GPU, `main_gpu`
    main_gpu               number of that GPU among those that are there
    shares                 a hint of layers for each GPU, parts of a whole; None by free bytes
    margins                bytes left free on each GPU without a budget, the last one for all that
                           follow; empty: `placement.memory.budgets.GPU_MARGIN_BYTES`
    sequences              caches to plan for; loading reserves memory for one all the same
    plan                   a plan, or its file, to be obeyed as it is
    numa                   page policy of the host arena
    mmap                   leave the CPU's weights in the file's memory map
    threads                CPU threads; None: physical cores
    """

    rules: tuple[str | Rule | CpuMoe, ...] = ()
    context: int | None = None
    ubatch: int | None = None
    cache_format: str = "f16"
    cache_in_ram: bool = False
    attention_work_bytes: int = 256 << 20
    kernels: str = "fast"
    tier: str | None = None
    conventions: str = "trained"
    simulate: Mapping[str, int] | None = None
    devices: tuple[str, ...] | None = None
    visible: str | None = None
    machine: str | Path | None = None
    profiles: Path | None = None
    budgets: Mapping[str, int] | None = None
    gpu_layers: int | None = None
    optimize: str = GOALS[0]
    expert_stats: str | Path | None = None
    split: str = "layer"
    main_gpu: int = 0
    shares: tuple[float, ...] | None = None
    margins: tuple[int, ...] = ()
    sequences: int = 1
    plan: PlacementPlan | str | Path | None = None
    numa: str = "interleave"
    mmap: bool = False
    threads: int | None = None

    def __post_init__(self) -> None:
        one_of("kernels", self.kernels, KERNELS)
        one_of("tier", self.tier, (None, *tiers.NAMES))
        one_of("optimize", self.optimize, GOALS)
        one_of("conventions", self.conventions, CONVENTIONS)
        one_of("numa", self.numa, NUMA_POLICIES)
        one_of("cache_format", self.cache_format, tuple(CACHE_BYTES_PER_32_VALUES))
        one_of("cache_in_ram", self.cache_in_ram, (False, True))
        one_of("mmap", self.mmap, (False, True))
        whole("attention_work_bytes", self.attention_work_bytes, 1)
        if self.ubatch is not None:
            whole("ubatch", self.ubatch, 1)
        if self.context is not None:
            whole("context", self.context, 0)
        if self.threads is not None:
            whole("threads", self.threads, 1, MAX_THREADS)
        if self.gpu_layers is not None:
            whole("gpu_layers", self.gpu_layers, 0)
        self._check_sharing()
        all_of("rules", self.rules, (str, Rule, CpuMoe), 'rules=["exps=CPU"]')
        if self.devices is not None:
            all_of("devices", self.devices, (str,), 'devices=["CUDA0"], or "none"')
        if self.budgets is not None:
            sizes("budgets", self.budgets, '{"CUDA0": 22 << 30, "CPU": 64 << 30}')
        if self.simulate is not None:
            simulated_gpus(self.simulate)
        check_machine(self.machine, self.simulate)
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
        for name in ("devices", "shares", "margins"):
            if given.get(name) is not None:
                given[name] = _as_tuple(given[name])
        if isinstance(given.get("simulate"), Mapping):
            named = {canonical_name(str(name)): size for name, size in given["simulate"].items()}
            given["simulate"] = dict(sorted(named.items(), key=lambda item: (len(item[0]), item)))
        return cls(**given)

    def _check_sharing(self) -> None:
        one_of("split", self.split, ("layer", "none"))
        whole("main_gpu", self.main_gpu, 0)
        whole("sequences", self.sequences, 1, MAX_SEQUENCES)
        all_of("margins", self.margins, (int,), "margins=(512 << 20,)")
        for nbytes in self.margins:
            whole("margins", nbytes, 0)
        if self.shares is not None:
            all_of("shares", self.shares, (int, float), "shares=(3, 1)")
            if min(self.shares, default=-1) < 0 or not 0 < sum(self.shares) < math.inf:
                raise UsageError("shares gives no GPU a share", remedy="shares=(3, 1)")

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
            whole("seed", self.seed, 0, MAX_SEED)
        if not is_whole(self.top_k):
            raise UsageError(f"top-k is {shown(self.top_k)}", remedy="a whole number, 0 keeps all")
        for name, value in (
            ("temperature", self.temperature),
            ("top-p", self.top_p),
            ("min-p", self.min_p),
        ):
            if not isinstance(value, Real):
                raise UsageError(f"{name} is {shown(value)}", remedy="a number")
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
        if cls is LoadOptions and (meant := option_of(unknown[0])):
            raise UsageError(f"unknown {what} {unknown[0]!r}", remedy=meant)
        near = difflib.get_close_matches(unknown[0], known, n=1, cutoff=0.6)
        raise UsageError(
            f"unknown {what} {unknown[0]!r}",
            remedy=[*(f"did you mean {name}?" for name in near), f"one of {', '.join(known)}"],
        )


def _as_tuple(value: Any) -> tuple[Any, ...]:
    """One string or rule stands for a sequence of one."""
    one = isinstance(value, (str, Rule, CpuMoe)) or not hasattr(value, "__iter__")
    return (value,) if one else tuple(value)
