"""The cases of the golden reports: (model, machine, flags) -> text.

After a wanted change, write them anew, read every difference for sense, and commit:

    python -m tests.placement.golden_reports && git diff tests/placement/golden
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from placement.machines.machine import CPU, Device, DeviceKind, Link, Machine, NumaNode
from placement.memory.budgets import device_budgets
from placement.plan import PlacementPlan
from placement.planner import plan
from placement.prediction import Pace, Prediction
from placement.report.diff import diff_plans, diff_text
from placement.report.explain import explain, explanation_text
from placement.report.placement import tensor_report
from placement.report.text import Page, text_report
from placement.report.what_if import parse_settings, try_settings, what_if_text
from placement.request import Request
from placement.rules import cpu_moe_rule, n_cpu_moe_rules, parse_rules
from placement.solve.draft import draft
from placement.workload import Workload
from tests.placement.models import GIB, MIB, deepseek_v3, machine, tiny

GOLDEN = Path(__file__).parent / "golden"
MEASURED = Prediction(
    decode=(
        Pace(0, 1, 13.9, {"CPU experts": 0.0631, "GPU attention": 0.0049, "crossing": 0.0039}),
        Pace(16384, 1, 12.8, {"CPU experts": 0.0631, "GPU attention": 0.0112, "crossing": 0.0039}),
        Pace(32767, 1, 11.9, {"CPU experts": 0.0631, "GPU attention": 0.017, "crossing": 0.0039}),
    ),
    prompt=(
        Pace(0, 2048, 231.4, {"PCIe": 0.0038, "GPU products": 0.0005, "GPU attention": 0.00002}),
        Pace(16384, 2048, 190.2, {"PCIe": 0.0038, "GPU products": 0.0005, "GPU attention": 0.001}),
    ),
    error=0.12,
    limit="RAM read on CPU: 63.1 of 71.9 ms a token",
    source="measured 2026-11-21",
)


def rig(*gpu_bytes: int, ram: int, nodes: int = 1, generation: int = 4) -> Machine:
    """Real GPUs with links, every second one on the next NUMA node."""
    gpus = tuple(
        Device(f"CUDA{i}", DeviceKind.GPU, size, size, "GPU", numa_node=i % nodes)
        for i, size in enumerate(gpu_bytes)
    )
    links = tuple(Link(gpu.name, 1, 16, generation, 16) for gpu in gpus)
    each = tuple(NumaNode(i, (i,), ram // nodes, ram // nodes) for i in range(nodes))
    host = Device(CPU, DeviceKind.CPU, ram, ram)
    return Machine((host, *gpus), links, each, physical_cores=32, usable_cpus=32)


def cpu_only() -> str:
    """A tiny model, no GPU, nothing asked for."""
    return text_report(plan(tiny(), machine(), (), Workload(256, 16)), tiny())


def one_gpu() -> str:
    """V3 on one card of 12 GiB: some blocks stay on the CPU."""
    inventory, where = deepseek_v3(), machine(12 * GIB, ram=400 * GIB)
    return text_report(plan(inventory, where, (), Workload(32768)), inventory)


def two_gpus_with_rules() -> str:
    """V3 on two cards: a rule that moves experts, one behind it, one that means nothing."""
    inventory, where = deepseek_v3(), machine(40 * GIB, 24 * GIB, ram=512 * GIB)
    texts = [r"blk\.(3|4)\..*_exps=CUDA0,exps=CPU", "up_exps=CUDA1", r"blk\.5.attn_out=CUDA1"]
    rules = (
        *parse_rules([*texts, "fnn_down=CPU"], where.device_names),
        *n_cpu_moe_rules(9, 61, True),
    )
    load = Workload(16384, cache_format="q8_0")
    return text_report(plan(inventory, where, rules, load), inventory)


def expert_range() -> str:
    """Ranges of experts on two GPUs, and a block that is not loaded."""
    where = machine(2 * MIB, MIB)
    rules = parse_rules(["exps#0-2=CUDA0,exps#3-3=CUDA1"], where.device_names)
    load = Workload(256, 16, attention_work_bytes=MIB // 4)
    return text_report(plan(tiny(mtp=True), where, rules, load), tiny(mtp=True))


def desktop_guide_line() -> str:
    """The line of most guides, -ngl 99 -ot exps=CPU, on a card of 24 GiB, with its speed."""
    inventory, where = deepseek_v3(), rig(24 * GIB, ram=384 * GIB)
    rules = parse_rules(["exps=CPU"], where.device_names)
    made = plan(inventory, where, rules, Workload(32768, 2048, kernels="fast"), gpu_layers=99)
    return text_report(replace(made, prediction=MEASURED), inventory, where)


def sixteen_gpus() -> str:
    """V3 on sixteen cards of 24 GiB and two NUMA nodes: most experts where their blocks are."""
    inventory, where = deepseek_v3(), rig(*[24 * GIB] * 16, ram=256 * GIB, nodes=2)
    rules = n_cpu_moe_rules(24, 61, True)
    guess = replace(
        MEASURED,
        decode=MEASURED.decode[:1],
        error=0.4,
        source="estimated from the names of the devices",
    )
    made = plan(inventory, where, rules, Workload(8192), budgets={"CUDA3": 20 * GIB})
    return text_report(replace(made, prediction=guess), inventory, where)


def traps() -> str:
    """Rules that match more than was meant, each with what to type."""
    inventory, where = deepseek_v3(), rig(80 * GIB, 80 * GIB, ram=512 * GIB, generation=5)
    texts = [r"blk.3.*_exps=CUDA0", "ffn_=CPU", r"blk\.(5|6)\..*exps=CUDA1", "chexps=CPU"]
    rules = parse_rules(texts, where.device_names)
    made = plan(inventory, where, rules, Workload(8192, kernels="fast"))
    return text_report(made, inventory, where)


def router_and_split() -> str:
    """A router in RAM, gate and up of one layer apart."""
    inventory, where = deepseek_v3(), rig(48 * GIB, ram=512 * GIB)
    texts = ["gate_inp=CPU", r"blk\.(8|9|1[0-2])\.ffn_(gate|down)_exps=CUDA0"]
    made = plan(
        inventory,
        where,
        parse_rules(texts, where.device_names),
        Workload(8192, 4096, kernels="fast"),
    )
    return text_report(made, inventory, where)


def long_context_in_ram() -> str:
    """-nkvo with 128 k tokens and q8_0, on a narrow terminal that knows only ASCII."""
    inventory, where = deepseek_v3(), rig(16 * GIB, ram=512 * GIB)
    load = Workload(131072, 1024, cache_format="q8_0", cache_in_ram=True)
    made = plan(inventory, where, (cpu_moe_rule(),), load)
    page = Page(width=76, blocks=False)
    return text_report(made, inventory, where, page=page)


def every_tensor() -> str:
    """--tensors of a tiny model with -ngl and --n-cpu-moe."""
    where = machine(2 * MIB)
    rules = n_cpu_moe_rules(2, 4, True)
    load = Workload(256, 16, attention_work_bytes=MIB // 4)
    return tensor_report(plan(tiny(mtp=True), where, rules, load, gpu_layers=4))


def explained() -> str:
    """--explain: rules that came too late, and what elsewhere would cost."""
    inventory, where = deepseek_v3(), machine(40 * GIB, 24 * GIB, ram=512 * GIB)
    texts = [r"blk\.(3|4)\..*_exps=CUDA0,exps=CPU", "ffn_.*_exps=CUDA1"]
    rules = parse_rules(texts, where.device_names)
    made = plan(inventory, where, rules, Workload(16384, kernels="fast"))
    found = explain(
        made, inventory, r"^(token|blk\.(4|7|8)\.(ffn_.*_exps|attn_out))", slower_in_ram
    )
    return explanation_text(made, found)


def compared() -> str:
    """--diff of two plans."""
    inventory, where = deepseek_v3(), machine(40 * GIB, 24 * GIB, ram=512 * GIB)
    before, after = (
        plan(inventory, where, parse_rules([text], where.device_names), load)
        for text, load in (
            (r"blk\.(3|4)\..*_exps=CUDA0,exps=CPU", Workload(16384)),
            (r"exps#0-15=CUDA0,exps=CPU", Workload(65536, cache_format="q8_0")),
        )
    )
    faster = replace(MEASURED.decode[0], tokens_per_s=15.25)
    then = replace(MEASURED, decode=(faster, *MEASURED.decode[1:]))
    return diff_text(
        diff_plans(replace(before, prediction=MEASURED), replace(after, prediction=then))
    )


def asked_what_if() -> str:
    """--what-if over contexts and numbers of GPUs, one of which is too small."""
    inventory = deepseek_v3()

    def make(settings: dict[str, int | str]) -> PlacementPlan:
        count = int(settings["gpus"])
        where = machine(*[12 * GIB] * count, ram=400 * GIB)
        budgets = device_budgets(where, None)
        rules = parse_rules(["exps=CPU"], where.device_names)
        load = Workload(int(settings["ctx"]))
        made = draft(Request(inventory, where, rules, load, budgets, gpu_layers=62))
        return replace(made, prediction=MEASURED)

    rows = parse_settings(["ctx=8k,64k", "gpus=0,1,2,3"])
    return what_if_text(try_settings(rows, make))


def slower_in_ram(made: PlacementPlan) -> Prediction:
    """A model of speeds for the tests: a token takes 1 ms per GiB of weights in RAM."""
    seconds = made.devices[0].weights_bytes / GIB / 1e3
    return Prediction((Pace(0, 1, 1 / seconds, {"CPU experts": seconds}),), (), 0, "RAM", "tests")


CASES: tuple[Callable[[], str], ...] = (
    cpu_only,
    one_gpu,
    two_gpus_with_rules,
    expert_range,
    desktop_guide_line,
    sixteen_gpus,
    traps,
    router_and_split,
    long_context_in_ram,
    every_tensor,
    explained,
    compared,
    asked_what_if,
)


if __name__ == "__main__":
    for case in CASES:
        (GOLDEN / f"{case.__name__}.txt").write_text(case(), encoding="utf-8")
