"""Where things go and how much of them: the flags of llama.cpp and ik_llama.cpp -> LoadOptions."""

import argparse
from typing import Any

from hybrid.cli.foreign_flag import foreign_notes
from hybrid.cli.foreign_flags import add_foreign_flags
from hybrid.cli.machine_flags import add_machine_flags
from hybrid.cli.parser import threads, tokens, whole
from hybrid.cli.sharing_flags import add_sharing_flags, sharing_notes, sharing_options
from hybrid.errors import UsageError
from hybrid.runtime.options import KERNELS, CpuMoe, LoadOptions
from hybrid.tokenizer.pretokenizers import CONVENTIONS
from kernels.native import tiers
from placement.cost.predict import GOALS
from placement.machines.machine import CPU
from placement.memory.budgets import parse_budgets, parse_simulate
from placement.request import ALL_LAYERS
from placement.units import parse_bytes
from placement.workload import CACHE_BYTES_PER_32_VALUES, NUMA_POLICIES

MIB = 1 << 20
AUTO_LAYERS = -1
# llama.cpp's words for --numa -> ours
FOREIGN_NUMA = {"distribute": "interleave", "isolate": "local", "numactl": "off"}
# cache formats of llama.cpp and ik_llama.cpp -> the smallest of ours that loses no more
FOREIGN_CACHES = dict.fromkeys(("q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1", "q6_0", "q8_KV"), "q8_0")
# flags whose answers a plan file already holds, by the name of their value
IN_A_PLAN = {
    "rules": "-ot, -cmoe and -ncmoe",
    "gpu_layers": "-ngl",
    "vram": "--vram",
    "ram": "--ram",
    "ctx_size": "-c",
    "ubatch_size": "-ub",
    "cache_type_k": "-ctk",
    "cache_in_ram": "-nkvo",
    "amb": "-amb",
    "optimize": "--optimize",
    "expert_stats": "--expert-stats",
    "split_mode": "-sm",
    "tensor_split": "-ts",
    "margin": "--margin",
    "parallel": "-np",
}


def add_placement_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of every command that makes a plan; call it after the command's own."""
    placement = parser.add_argument_group("placement")
    _add_rules(placement)
    add_sharing_flags(placement)
    _add_sizes(parser.add_argument_group("sizes"))
    _add_machine(parser.add_argument_group("machine and arithmetic"))
    add_foreign_flags(parser)


def load_options(args: argparse.Namespace) -> tuple[LoadOptions, tuple[str, ...]]:
    """The options, and what the user should hear about the flags given.

    Raises PlacementError or UsageError for a value that cannot be meant.
    """
    notes = [*foreign_notes(args.foreign_uses), *sharing_notes(args)]
    if args.cache_type_k in FOREIGN_CACHES:
        ours = FOREIGN_CACHES[args.cache_type_k]
        notes.append(f"-ctk {args.cache_type_k} is taken as -ctk {ours}, the smallest format here")
    if args.numa in FOREIGN_NUMA:
        notes.append(f"--numa {args.numa} is taken as --numa {FOREIGN_NUMA[args.numa]}")
    given = [flag for name, flag in IN_A_PLAN.items() if getattr(args, name) is not None]
    if args.plan and given:
        notes.append(f"--plan {args.plan} decides; without effect: {', '.join(given)}")
    asked = LoadOptions(
        kernels=args.kernels,
        tier=args.tier,
        conventions=args.conventions,
        simulate=parse_simulate(args.simulate) if args.simulate is not None else None,
        devices=tuple(args.device.split(",")) if args.device is not None else None,
        visible=args.visible,
        machine=args.machine,
        profiles=args.profiles,
        plan=args.plan,
        numa=FOREIGN_NUMA.get(args.numa, args.numa),
        mmap=args.mmap,
        threads=args.threads,
        **({} if args.plan else _for_a_new_plan(args)),
    )
    return asked, tuple(notes)


def _for_a_new_plan(args: argparse.Namespace) -> dict[str, Any]:
    """Fields of LoadOptions that a plan file would hold."""
    usual = LoadOptions()
    return {
        "rules": tuple(args.rules or ()),
        "context": args.ctx_size,
        "ubatch": args.ubatch_size,
        "cache_format": FOREIGN_CACHES.get(
            args.cache_type_k, args.cache_type_k or usual.cache_format
        ),
        "cache_in_ram": bool(args.cache_in_ram),
        "attention_work_bytes": args.amb * MIB if args.amb else usual.attention_work_bytes,
        "budgets": _budgets(args),
        "gpu_layers": args.gpu_layers if args.gpu_layers != AUTO_LAYERS else None,
        "optimize": args.optimize or usual.optimize,
        "expert_stats": args.expert_stats,
        **sharing_options(args),
    }


def _add_rules(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-ot",
        "--override-tensor",
        dest="rules",
        action="append",
        metavar="PATTERN=DEVICE,...",
        help="tensors whose name holds PATTERN go to DEVICE (CPU, CUDA0, GPU); repeatable, the "
        "first match wins; PATTERN#0-63=CUDA0 moves a range of experts",
    )
    group.add_argument(
        "-cmoe",
        "--cpu-moe",
        dest="rules",
        action="append_const",
        const=CpuMoe(),
        help="all routed experts in RAM",
    )
    group.add_argument(
        "-ncmoe",
        "--n-cpu-moe",
        dest="rules",
        action="append",
        type=_cpu_moe,
        metavar="N",
        help="routed experts of the first N blocks in RAM, as llama.cpp counts them (ik_llama.cpp "
        "says the same and takes the last ones); those of the others that no rule takes, also none "
        "that follows, on their block's GPU",
    )
    group.add_argument(
        "-ngl",
        "--gpu-layers",
        "--n-gpu-layers",
        type=_gpu_layers,
        metavar="N",
        help="blocks on GPUs, the last ones, the head counted; `all`, `auto` (what is fastest)",
    )
    group.add_argument(
        "--optimize",
        choices=GOALS,
        help="what is to take least time: a token of an answer (decode, the default), of a prompt, "
        "or both alike (balanced)",
    )
    group.add_argument(
        "--expert-stats",
        metavar="FILE",
        help="how often each expert is chosen, as JSON (README): what is left of GPUs is filled "
        "with the busier end of each layer's experts",
    )
    _add_devices(group)


def _add_devices(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--vram",
        metavar="CUDA0=22GiB,...",
        action="append",
        help="budgets of GPUs; CUDA0=-1GiB: that much less than is free",
    )
    group.add_argument(
        "--ram",
        metavar="BYTES",
        help="budget of host memory: 64GiB; --ram=-4GiB: that much less than is free; a number "
        "without a unit is bytes",
    )
    group.add_argument("--device", "-dev", metavar="NAMES", help="GPUs to use: CUDA0,CUDA1 or none")
    group.add_argument("--simulate", metavar="CUDA0=64MiB,...", help="GPUs played by the CPU")
    add_machine_flags(group)
    group.add_argument("--plan", metavar="FILE", help="obey a plan that `plan --save` wrote")


def _add_sizes(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-c",
        "--ctx-size",
        type=tokens(0),
        metavar="N",
        help="tokens of cache, 32768 or 32k; 0: as trained",
    )
    group.add_argument(
        "-ub",
        "--ubatch-size",
        type=tokens(1),
        metavar="N",
        help="prompt tokens computed at once (2048 where GPUs compute them and decoding hardly "
        "pays for it, else 512)",
    )
    group.add_argument(
        "-ctk",
        "--cache-type-k",
        choices=(*CACHE_BYTES_PER_32_VALUES, *FOREIGN_CACHES),
        metavar="FORMAT",
        help=f"format of the latent cache, one of {', '.join(CACHE_BYTES_PER_32_VALUES)} (f16)",
    )
    group.add_argument(
        "-nkvo",
        "--no-kv-offload",
        dest="cache_in_ram",
        action="store_const",
        const=True,
        help="the latent cache of every layer in RAM: GPUs have room for more layers, and read it "
        "over PCIe",
    )
    group.add_argument(
        "-kvo",
        "--kv-offload",
        dest="cache_in_ram",
        action="store_const",
        const=False,
        help="each layer's cache with its attention, the default",
    )
    group.add_argument(
        "-amb",
        "--attention-max-batch",
        dest="amb",
        type=whole(1, 1 << 40),
        metavar="MIB",
        help="bound of attention's work buffer on GPUs, and in blocks that lie only partly in RAM "
        "(256); a block wholly on the CPU takes one head a thread",
    )


def _add_machine(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-t",
        "--threads",
        type=threads,
        metavar="N",
        help="CPU threads (physical cores; -1 is the same)",
    )
    group.add_argument(
        "--numa",
        choices=(*NUMA_POLICIES, *FOREIGN_NUMA),
        default=NUMA_POLICIES[0],
        help="pages of host weights: in turn over all nodes (the default), shard: each node a part "
        "of every expert, local: where the reader is, off: as the process was started",
    )
    group.add_argument(
        "--mmap",
        action="store_true",
        help="leave the CPU's weights in the file's memory map (for models larger than RAM)",
    )
    group.add_argument("--no-mmap", dest="mmap", action="store_false", help="the default")
    group.add_argument(
        "--kernels",
        choices=KERNELS,
        default=KERNELS[0],
        help="fast: activations of products rounded to 8 bits, as ggml does, and graphs and tensor "
        "cores on GPUs (the default); exact: float32, by the reference on GPUs",
    )
    group.add_argument(
        "--tier", choices=tiers.NAMES, help="vector code of the CPU's kernels (the best one there)"
    )
    group.add_argument(
        "--conventions",
        choices=CONVENTIONS,
        default=CONVENTIONS[0],
        help="compute as the model was trained, or as llama.cpp does",
    )


def _cpu_moe(text: str) -> CpuMoe:
    return CpuMoe(whole(0)(text))


def _gpu_layers(text: str) -> int:
    words = {"auto": AUTO_LAYERS, "all": ALL_LAYERS, "-1": AUTO_LAYERS}
    try:
        return words[text] if text in words else whole(0)(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"{text[:40]!r} is neither a number of blocks nor -1 or auto (what is fastest) nor all"
        ) from None


def _budgets(args: argparse.Namespace) -> dict[str, int] | None:
    budgets: dict[str, int] = {}
    for text in args.vram or ():  # a later flag may correct an earlier one
        budgets |= parse_budgets(text)
    if args.ram is not None:
        if CPU in budgets:
            raise UsageError(
                f"--ram {args.ram} and --vram {CPU}=... are two budgets for the same memory",
                remedy=f"keep --ram and drop {CPU}=... from --vram",
            )
        budgets[CPU] = parse_bytes(args.ram, "--ram")
    return budgets or None
