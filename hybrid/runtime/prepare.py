"""From a path and options to a plan, without torch: everything `hybrid plan` prints and `load`
obeys.

open the file -> hyper-parameters -> inventory -> machine -> rules -> workload -> plan
"""

import json
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from hybrid.errors import UsageError
from hybrid.gguf.inventory import inventory
from hybrid.gguf.reader import GgufFile
from hybrid.gguf.shortfall import file_notes, without_file_notes
from hybrid.models.config import ModelConfig
from hybrid.runtime.expert_usage import read_expert_stats
from hybrid.runtime.machines import machine_for
from hybrid.runtime.node_layout import HostLayout, host_layout
from hybrid.runtime.options import CpuMoe, LoadOptions
from kernels.errors import NativeLibraryMissing
from kernels.native import tiers
from placement.cost.node_reads import with_policy
from placement.cost.predict import predict
from placement.errors import PlanError
from placement.inventory import ModelInventory
from placement.machines.cpus import ThreadCpus, choose_cpus, described_cpus
from placement.machines.estimates import speeds_of
from placement.machines.machine import CPU, DeviceKind, Machine
from placement.memory.budgets import with_margins
from placement.memory.file_map import with_mapping
from placement.plan import PlacementPlan
from placement.plan_check import check_plan
from placement.plan_json import from_json
from placement.planner import plan as make_plan
from placement.rules import Rule, cpu_moe_rule, fallbacks_last, n_cpu_moe_rules, parse_rules
from placement.workload import Workload

# Prompt tokens at once, unless the user says: on CPUs as llama.cpp has it, on GPUs four times as
# many, which V2-Lite on an H200 reads four times as fast.
USUAL_UBATCH, GPU_UBATCH = 512, 2048
DEMO = "demo"
DEMO_FILE = "tiny-tales-q4_k_m.gguf"
# A cache for the trained 160 k tokens, which nobody asked for, would push layers off the GPU.
SAVING = "write one: hybrid plan MODEL --save plan.json"
DEFAULT_CONTEXT_TOKENS = 8192


@dataclass(frozen=True, slots=True)
class CpuKernels:
    """How the CPU will compute.

    mode      "fast" or "exact"
    tier      of vector code; None where no compiled library is there to ask
    threads   of the pool
    """

    mode: str
    tier: str | None
    threads: int

    def text(self) -> str:
        """One line: "fast, avx2, 8 threads"."""
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return ", ".join(word for word in (self.mode, self.tier, threads) if word)


@dataclass(frozen=True, slots=True)
class Prepared:
    """All that is known before a byte of weights is read.

    cpus     those that the threads are pinned to
    kernels  what these run
    layout   which node of the host's memory gets which bytes
    notes    what the user should hear, one line each
    """

    file: GgufFile
    config: ModelConfig
    inventory: ModelInventory
    machine: Machine
    plan: PlacementPlan
    cpus: ThreadCpus
    kernels: CpuKernels
    layout: HostLayout
    notes: tuple[str, ...]


def prepare(path: str | Path, options: LoadOptions, *, overfull_too: bool = False) -> Prepared:
    """Open the model and place it.

    path           a GGUF file (any part of a split one), or "demo" for the packaged model
    overfull_too   also where it does not fit: for who asks what would
    """
    tier = chosen_tier(options.tier) if options.machine is None else options.tier
    file = GgufFile.open(model_path(path))
    config = ModelConfig.from_gguf(file, conventions=options.conventions)
    stock = inventory(file, config.shape())
    machine, of_machine = machine_for(options)
    here = options.machine is None
    cpus = choose_cpus(options.threads) if here else described_cpus(machine, options.threads)
    if options.plan is not None:
        plan = options.plan if isinstance(options.plan, PlacementPlan) else read_plan(options.plan)
        _check_kernels(plan, options.kernels)
        plan = with_mapping(plan, mapped=options.mmap)
        check_plan(plan, stock, machine)
        plan = _simulated_here(plan, machine)
    else:
        plan = new_plan(options, stock, machine, len(cpus.cpus), overfull_too=overfull_too)
    layout = host_layout(plan, stock, file.tensors, machine, options, cpus.system_nodes)
    if options.machine is not None and options.plan is None:
        plan = replace(plan, machine=str(options.machine))
    numa = layout.policy.value  # shard becomes interleave where nothing can be cut
    if options.plan is not None or numa != plan.workload.numa_policy:
        plan = with_policy(plan, machine, speeds_of(machine), numa)
        usage = read_expert_stats(options.expert_stats, stock)
        here_now = None if plan.played_gpus else predict(plan, stock, machine, usage)
        plan = replace(plan, prediction=here_now)
    # of the file as it is now: a plan that was read may be older than the end of a download
    plan = replace(plan, notes=(*file_notes(file), *without_file_notes(plan.notes)))
    notes = (*of_machine, *_notes(plan, stock), *layout.notes)
    found = CpuKernels(options.kernels, tier, len(cpus.cpus))
    return Prepared(file, config, stock, machine, plan, cpus, found, layout, notes)


def chosen_tier(name: str | None) -> str | None:
    """The tier that `name` leads to, the best one for None; None where there is no library to ask.

    Raises UsageError for one that does not run here.
    """
    try:
        here = tiers.here()
    except NativeLibraryMissing:
        return None  # told when something is to be computed
    if name is not None and name not in here:
        raise UsageError(
            f"the vector code of tier {name} does not run on this processor",
            f"these do: {', '.join(here)}",
            remedy=[f"--tier {here[-1]}", "leave --tier out: the best one is taken"],
        )
    return name or here[-1]


def model_path(path: str | Path) -> Path:
    """The file behind -m: a path, or the packaged demo model."""
    if str(path) == DEMO:
        return Path(str(resources.files("hybrid"))) / "data" / DEMO_FILE
    return Path(path)


def read_plan(path: str | Path) -> PlacementPlan:
    """A plan that `hybrid plan --save` wrote. Raises PlanError, naming it, for any other file."""
    try:
        return from_json(json.loads(Path(path).read_text(encoding="utf-8")))
    except PlanError as error:
        raise PlanError(f"{path}: {error.cause}", *error.details, remedy=error.remedies) from None
    except FileNotFoundError:
        raise PlanError(f"there is no file {path}", remedy=SAVING) from None
    except UnicodeDecodeError:
        raise PlanError(f"{path} is no text, so no saved plan", remedy=SAVING) from None
    except (OSError, ValueError, RecursionError) as error:
        raise PlanError(f"{path} cannot be read as a plan", str(error), remedy=SAVING) from error


def all_rules(options: LoadOptions, stock: ModelInventory, machine: Machine) -> tuple[Rule, ...]:
    """Rules in command-line order, the MoE switches among them; --n-cpu-moe's fallback last."""
    rules: list[Rule] = []
    for rule in options.rules:
        if isinstance(rule, CpuMoe) and rule.layers is None:
            rules.append(cpu_moe_rule())
        elif isinstance(rule, CpuMoe):
            rules += n_cpu_moe_rules(rule.layers or 0, stock.shape.layers, bool(machine.gpus))
        elif isinstance(rule, Rule):
            rules.append(rule)
        else:
            rules += parse_rules([rule], machine.device_names, first_number=len(rules) + 1)
    return fallbacks_last(rules)


def workload(options: LoadOptions, stock: ModelInventory, threads: int) -> Workload:
    """Context, micro-batch, cache; context 0 means the trained one. A micro-batch larger than the
    context would only reserve scratch that no prompt can use.
    """
    trained = stock.shape.trained_context_tokens
    context = options.context
    if context is None:
        context = min(trained, DEFAULT_CONTEXT_TOKENS)
    context = context or trained
    return Workload(
        context_tokens=context,
        ubatch_tokens=min(options.ubatch or USUAL_UBATCH, context),
        cache_format=options.cache_format,
        attention_work_bytes=options.attention_work_bytes,
        threads=threads,
        cache_in_ram=options.cache_in_ram,
        kernels=options.kernels,
        sequences=options.sequences,
        mapped=options.mmap,
        numa_policy=options.numa,
    )


def new_plan(
    options: LoadOptions,
    stock: ModelInventory,
    machine: Machine,
    threads: int,
    *,
    overfull_too: bool = False,
) -> PlacementPlan:
    """The plan that these options ask for on this machine.

    overfull_too   give a plan also where it does not fit
    Raises PlacementError.
    """
    made = make_plan(
        stock,
        machine,
        all_rules(options, stock, machine),
        workload(options, stock, threads),
        budgets=with_margins(machine, options.budgets, options.margins),
        gpu_layers=options.gpu_layers,
        shares=options.shares,
        optimize=options.optimize,
        expert_stats=read_expert_stats(options.expert_stats, stock),
        longer_ubatch=GPU_UBATCH if options.ubatch is None else None,
        overfull_too=overfull_too,
    )
    return replace(made, prediction=None) if made.played_gpus else made


def _simulated_here(plan: PlacementPlan, machine: Machine) -> PlacementPlan:
    """A plan that was read, with the marks of this machine's GPUs."""
    played = {gpu.name for gpu in machine.gpus if gpu.kind is DeviceKind.SIMULATED_GPU}
    uses = (replace(use, simulated=use.name in played) for use in plan.devices)
    return replace(plan, devices=tuple(uses))


def _check_kernels(plan: PlacementPlan, asked: str) -> None:
    """A plan has scratch for one kind of kernels, and says which layers that kind takes."""
    planned = plan.workload.kernels
    if planned != asked and any(home != CPU for home in plan.layers):
        raise PlanError(
            f"the plan is for {planned} kernels on GPUs, {asked} ones are asked for",
            remedy=[
                f"--kernels {planned}",
                f"make the plan again: hybrid plan MODEL --kernels {asked} --save plan.json",
            ],
        )


def _notes(plan: PlacementPlan, stock: ModelInventory) -> tuple[str, ...]:
    asked, trained = plan.workload.context_tokens, stock.shape.trained_context_tokens
    if asked <= trained:
        return plan.notes
    text = f"context {asked} is longer than the {trained} tokens this model was trained for"
    return (*plan.notes, f"{text}; answers may turn to nonsense past them")
