"""A plan as a command line of llama.cpp or ik_llama.cpp that places every tensor alike there.

    -ngl, -ts   give blocks and head a GPU, as far as these can: blocks in order, the first on the
                CPU, as many on each GPU as the plan has
    -ot         puts every tensor that they would put elsewhere; patterns name tensors from the
                first letter to the last, so their order does not matter
    --numa      distribute: threads over all NUMA nodes, as pages in turn over them are planned

Both programs count differently: -ngl of llama.cpp counts the head as its first layer, ik_llama.cpp
offloads the head only beyond the last block. Source: their code, as of August 2026.
"""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from placement.cost.node_reads import INTERLEAVE
from placement.errors import PlacementError
from placement.inventory import ModelInventory, Role, TensorInfo
from placement.machines.machine import CPU, UNLOADED
from placement.plan import Assignment, PlacementPlan
from placement.report.speed import short_rates
from placement.tensor_names import layers_text, number_pattern

LLAMA_CPP, IK = PROGRAMS = ("llama.cpp", "ik")
MIB = 1 << 20
LEAST_BATCH = 2048  # -b of both programs, which is never below -ub


@dataclass(frozen=True, slots=True)
class Exported:
    """words of the command line; notes say where it cannot do what the plan does."""

    words: tuple[str, ...]
    notes: tuple[str, ...]

    def text(self) -> str:
        """For a shell, one rule a line, then the sizes."""
        lines = [""]
        for word in self.words:
            if word in ("-ot", "-c"):
                lines.append("   ")
            lines[-1] += f" {shlex.quote(word)}"
        return " \\\n".join(line[1:] for line in lines)


@dataclass(frozen=True, slots=True)
class Offload:
    """What -ngl and -ts say, and where blocks and head are by them.

    counts   layers of each GPU, the head counted where it is offloaded
    """

    gpu_layers: int
    counts: tuple[int, ...]
    blocks: tuple[str, ...]
    head: str


def export(
    plan: PlacementPlan,
    inventory: ModelInventory,
    program: str,
    model: str,
    whole: Callable[[], Sequence[str]] = tuple,
    memory_nodes: int = 1,
) -> Exported:
    """The command line.

    program        one of PROGRAMS
    model          the file, as it is to be typed
    whole          flags that leave no layer in part, each with what it leads to; asked where it
                   helps
    memory_nodes   NUMA nodes with memory of the machine that the plan is for
    Raises PlacementError for a plan with ranges of experts, which neither program knows.
    """
    parts = [part for part in plan.assignments if part.experts is not None]
    if parts:
        raise _of_ranges(plan, inventory, program, parts, whole)
    offload = offloaded(plan, inventory, program)
    words = ["llama-server", "-m", model, "-ngl", str(offload.gpu_layers)]
    if len(offload.counts) > 1 and any(offload.counts):
        words += ["-sm", "layer", "-ts", ",".join(map(str, offload.counts))]
    for rule in _rules(plan, inventory, offload):
        words += ["-ot", rule]
    words += _sizes(plan, program)
    if memory_nodes > 1 and plan.workload.numa_policy == INTERLEAVE:
        words += ["--numa", "distribute"]
    return Exported(tuple(words), _notes(plan, offload))


def offloaded(plan: PlacementPlan, inventory: ModelInventory, program: str) -> Offload:
    """-ngl and -ts of the plan's homes, and what they do there."""
    gpus = [use.name for use in plan.devices if use.name != CPU]
    count = len(plan.layers)
    start = next((i for i, home in enumerate(plan.layers) if home != CPU), count)
    blocks = [CPU] * start + _in_order(plan.layers[start:], gpus)
    head = _head_home(plan, inventory)
    if program == LLAMA_CPP:
        with_head = start < count or head != CPU
        gpu_layers = count + 1 - start if with_head else 0
    else:
        with_head = start == 0
        gpu_layers = count + 1 if with_head else count - start
    if not with_head:
        head = CPU
    elif start < count and (head == CPU or gpus.index(head) < gpus.index(blocks[-1])):
        head = blocks[-1]
    layers = [*blocks[start:], *([head] if with_head else [])]
    counts = tuple(layers.count(gpu) for gpu in gpus)
    return Offload(gpu_layers, counts, tuple(blocks), head)


def _of_ranges(
    plan: PlacementPlan,
    inventory: ModelInventory,
    program: str,
    parts: Sequence[Assignment],
    whole: Callable[[], Sequence[str]],
) -> PlacementError:
    """parts   of tensors that lie on two devices"""
    asked = [part for part in parts if part.rule is not None]
    part = (asked or parts)[0]
    first, last = part.experts or (0, 0)
    remedies = [] if asked else list(whole())
    if asked:
        remedies = [f"rule {(part.rule or 0) + 1} without its '#' moves whole tensors"]
    details = ["its rules move whole tensors"]
    if plan.prediction is not None:
        details.append(f"as planned {short_rates(plan.prediction)}")
    return PlacementError(
        f"{program} cannot place experts {first}-{last} of {part.tensor} apart",
        *details,
        remedy=remedies or [f"-cmoe, or -ncmoe {layers_in_ram(plan, inventory)}: no layer in part"],
    )


def layers_in_ram(plan: PlacementPlan, inventory: ModelInventory) -> int:
    """-ncmoe that keeps in RAM as many layers' experts as have any there now, the first ones."""
    routed = {t.name: t.layer for t in inventory.tensors if t.role is Role.ROUTED_EXPERT}
    layers = sorted({layer for layer in routed.values() if layer is not None})
    there = {routed[p.tensor] for p in plan.assignments if p.tensor in routed and p.device == CPU}
    return layers[len(there) - 1] + 1 if there else 0


def _in_order(homes: Sequence[str], gpus: Sequence[str]) -> list[str]:
    """The homes where they follow the GPUs' order, the GPU before where they do not."""
    found: list[str] = []
    for home in homes:
        before = found[-1] if found else home
        goes_on = home != CPU and gpus.index(home) >= gpus.index(before)
        found.append(home if goes_on else before)
    return found


def _head_home(plan: PlacementPlan, inventory: ModelInventory) -> str:
    """Where the head's weights are; a tied embedding stays where rows are looked up."""
    heads = {tensor.name for tensor in inventory.tensors if tensor.role is Role.HEAD}
    return next((part.device for part in plan.assignments if part.tensor in heads), CPU)


def _default(tensor: TensorInfo, offload: Offload) -> str:
    if tensor.role is Role.EMBEDDING:
        return CPU
    return offload.head if tensor.layer is None else offload.blocks[tensor.layer]


def _rules(plan: PlacementPlan, inventory: ModelInventory, offload: Offload) -> list[str]:
    """One for each device and set of names that the same blocks have there."""
    tensors = {tensor.name: tensor for tensor in inventory.tensors}
    outside: list[str] = []
    names: dict[tuple[str, int], list[str]] = {}
    for part in plan.assignments:
        tensor = tensors[part.tensor]
        if part.device == UNLOADED or part.device == _default(tensor, offload):
            continue
        if tensor.layer is None:
            outside.append(f"^{_literal(part.tensor)}$={part.device}")
        else:
            names.setdefault((part.device, tensor.layer), []).append(_within(part))
    layers: dict[tuple[str, tuple[str, ...]], list[int]] = {}
    for (device, layer), found in names.items():
        layers.setdefault((device, tuple(sorted(found))), []).append(layer)
    inside = [
        rf"^blk\.{number_pattern(numbers)}\.({'|'.join(map(_literal, found))})$={device}"
        for (device, found), numbers in layers.items()
    ]
    return inside + outside


def _within(part: Assignment) -> str:
    """ "blk.3.ffn_up_exps.weight" -> "ffn_up_exps.weight"."""
    return part.tensor.split(".", 2)[2]


def _literal(name: str) -> str:
    return name.replace(".", r"\.")


def _sizes(plan: PlacementPlan, program: str) -> list[str]:
    """Flags of both programs; -c is there what all sequences share."""
    load = plan.workload
    words = ["-c", str(load.context_tokens * load.sequences), "-np", str(load.sequences)]
    words += ["-b", str(max(LEAST_BATCH, load.ubatch_tokens)), "-ub", str(load.ubatch_tokens)]
    words += ["-ctk", load.cache_format, "-t", str(load.threads)]
    if load.cache_in_ram:
        words.append("-nkvo")
    if program == IK:
        return [*words, "-mla", "3", "-amb", str(max(load.attention_work_bytes // MIB, 1))]
    return [*words, "-fa", "on", "-fit", "off"]


def _notes(plan: PlacementPlan, offload: Offload) -> tuple[str, ...]:
    pairs = enumerate(zip(plan.layers, offload.blocks, strict=True))
    moved = [layer for layer, (home, there) in pairs if home != there]
    if not moved or plan.workload.cache_in_ram:
        return ()
    return (
        f"the cache of {layers_text(moved)} will not be where the plan has it: -ngl and"
        " -ts keep blocks in the order of the GPUs, and -ot moves weights alone",
    )
