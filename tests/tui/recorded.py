"""Snapshots of real shape for the screen's tests: what a recorder would hand over on six machines,
in each phase. The figures are made up in a plausible size, nobody measured them.
"""

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache

from hybrid.live.snapshot import (
    Comparison,
    DeviceView,
    HostView,
    LayerView,
    MemoryView,
    NodeView,
    Phase,
    Progress,
    Rates,
    RunFacts,
    Sensors,
    Snapshot,
)

GIB = 1 << 30
START = 1_780_000_000.0
TEXT = (
    "The old lighthouse keeper climbed the spiral stairs each evening, counting them under his "
    "breath as his father had done. There were one hundred and ninety-nine steps, though on stormy "
    "nights he could have sworn there was one more.\n\nOn the night of the great gale he counted "
    "two hundred. He stopped, his lamp trembling, and listened: below him, quite clearly, someone "
    "else was counting too. “Who is there?” he called down the shaft, and the wind answered with "
    "a long, low note, like a ship that has lost its way in the fog and asks the land for its "
    "name. 灯台守は静かに待った。 He waited, and the counting went on, slower now, as if"
)


def facts(**changes: object) -> RunFacts:
    """DeepSeek-R1 with its experts in RAM."""
    known = RunFacts(
        pid=48213,
        command="run",
        model="DeepSeek-R1-Q4_K_M",
        architecture="deepseek2",
        plan_line="CUDA0 layers 0-60 without routed experts; experts of 3-60 on CPU (2 nodes)",
        started_at=START,
        context_tokens=16384,
        ubatch_tokens=2048,
        threads=64,
        predicted_decode_tok_s=11.4,
        predicted_prompt_tok_s=481.0,
        predicted_error=0.15,
        limit="RAM read on CPU: 78.1 of 87.7 ms a token at depth 0 (89%)",
    )
    return replace(known, **changes)  # type: ignore[arg-type]


def rates(tok_s: float, seconds: int = 240, tokens: int = 2310) -> Rates:
    """A run that began slowly, wavered, and lost a little as its cache grew."""
    history = tuple(
        tok_s
        * (1.02 - 0.00008 * at)
        * (1 - math.exp(-(at + 1) / 3))
        * (1 + 0.015 * math.sin(at / 5))
        for at in range(seconds)
    )
    return Rates(
        decode_now_tok_s=history[-1],
        decode_10_s_tok_s=sum(history[-10:]) / len(history[-10:]),
        decode_run_tok_s=tok_s,
        prompt_run_tok_s=446.0,
        ms_a_token=1000 / history[-1],
        prompt_tokens=1873,
        reused_tokens=512,
        decode_tokens=tokens,
        history=history,
    )


def memory(weights: Mapping[str, float], total: float, **more: float | None) -> MemoryView:
    """All in GiB: weights by category; cache, compute, other; budget, actual, peak, used."""
    sizes = {name: int(size * GIB) for name, size in weights.items()}
    known = {name: int(size * GIB) for name, size in more.items() if size is not None}
    parts = {name: known.get(name, 0) for name in ("cache", "compute", "other")}
    return MemoryView(
        weights=sizes,
        cache_bytes=parts["cache"],
        compute_bytes=parts["compute"],
        other_bytes=parts["other"],
        planned_bytes=sum(sizes.values()) + sum(parts.values()),
        budget_bytes=known.get("budget", int(total * GIB)),
        total_bytes=int(total * GIB),
        actual_bytes=known.get("actual"),
        peak_bytes=known.get("peak"),
        used_by_all_bytes=known.get("used"),
    )


def sensors(**changes: object) -> Sensors:
    known = Sensors(
        busy_share=0.14,
        temperature_c=61.0,
        power_w=118.0,
        power_limit_w=450.0,
        sm_clock_mhz=2520,
        memory_clock_mhz=10501,
        throttle=(),
        link_generation=4,
        link_width=16,
        link_most_generation=4,
        link_most_width=16,
        link_sent_bytes_s=0.41e9,
        link_received_bytes_s=0.09e9,
    )
    return replace(known, **changes)  # type: ignore[arg-type]


@lru_cache(maxsize=8)
def usages(layers: int, experts: int, tokens: int, seed: int = 5) -> tuple[tuple[int, ...], ...]:
    """Counts of a skewed router: a few hot experts, some that no token ever chose."""
    chance = random.Random(seed)
    found = []
    for _ in range(layers):
        weights = [chance.paretovariate(1.6) - 1 for _ in range(experts)]
        scale = tokens * 8 / sum(weights)
        found.append(tuple(int(weight * scale) for weight in weights))
    return tuple(found)


def layer_views(
    places: list[tuple[str, tuple[str, ...]]], attention_s: float, slow_s: float, fast_s: float
) -> tuple[LayerView, ...]:
    """Of (attention's device, experts' devices) per layer; experts on a CPU take slow_s."""
    counts = usages(sum(1 for _, experts in places if experts), 256, 2310)
    shown, moe = [], 0
    for index, (attention, experts) in enumerate(places):
        wave = 1 + 0.12 * math.sin(index * 1.7)
        spent = slow_s if any(name.startswith("CPU") for name in experts) else fast_s
        shown.append(
            LayerView(
                index=index,
                attention=attention,
                experts=experts,
                attention_s=attention_s * wave,
                experts_s=spent * wave if experts else None,
                usage=counts[moe] if experts else (),
            )
        )
        moe += bool(experts)
    return tuple(shown)


def node(number: int, read_gb_s: float, limit_gb_s: float, **more: float) -> NodeView:
    chance = random.Random(number)
    cores = int(more.get("cores", 32))
    return NodeView(
        node=number,
        total_bytes=int(more.get("total", 384) * GIB),
        used_bytes=int(more.get("used", 214) * GIB),
        ours_bytes=int(more.get("ours", 188.2) * GIB),
        read_bytes_s=read_gb_s * 1e9,
        read_limit_bytes_s=limit_gb_s * 1e9,
        read_limit_is_measured=bool(more.get("measured", True)),
        experts_s=more.get("experts_s", 0.0662),
        experts_read_bytes_s=more["experts_read"] * 1e9 if "experts_read" in more else None,
        huge_bytes=int(more.get("ours", 188.2) * 0.97 * GIB),
        core_load=tuple(0.97 - 0.4 * chance.random() ** 6 for _ in range(cores)),
    )


def host(resident: float = 377.1, load: float = 0.93) -> HostView:
    return HostView(
        resident_bytes=int(resident * GIB),
        major_faults=12,
        major_faults_s=0.0,
        disc_read_bytes_s=0.0,
        huge_bytes=int(resident * 0.97 * GIB),
        load_share=load,
    )


def cpu_only() -> Snapshot:
    """V2-Lite on 16 cores of one socket; nothing of NVML."""
    places: list[tuple[str, tuple[str, ...]]] = [("CPU", ())] + [("CPU", ("CPU",))] * 26
    views = layer_views(places, 0.00008, 0.00036, 0.0001)
    counts = usages(26, 64, 900, seed=9)
    cpu = DeviceView(
        name="CPU",
        kind="cpu",
        description="AMD Ryzen 9 7950X, 16 cores, 2 channels DDR5",
        memory=memory(
            {"attention": 0.71, "dense": 0.04, "shared": 0.52, "routed": 8.21, "embed+head": 0.34},
            61.9,
            cache=0.46,
            compute=0.31,
            other=0.2,
            budget=55.7,
            actual=10.6,
            peak=10.9,
            used=17.3,
        ),
        seconds={
            "experts": 0.0093,
            "attention": 0.0022,
            "dense": 0.0007,
            "head": 0.0011,
            "sampling": 0.0002,
            "waiting": 0.0004,
            "other": 0.0003,
        },
        window=70,
        cache_used_tokens=1204,
        cache_capacity_tokens=16384,
        read_bytes_s=51.8e9,
        read_limit_bytes_s=61.2e9,
    )
    usage = iter(counts)
    return Snapshot(
        at=START + 61,
        facts=facts(
            model="DeepSeek-V2-Lite-Chat-Q4_K_M",
            plan_line="CPU layers 0-26",
            threads=16,
            predicted_decode_tok_s=72.0,
            predicted_prompt_tok_s=774.0,
            limit="RAM read on CPU: 12.6 of 13.9 ms a token at depth 0 (91%)",
        ),
        phase=Phase.DECODE,
        rates=rates(70.4, seconds=44, tokens=3010),
        compared=Comparison(1204, 70.2, 71.3),
        devices=(cpu,),
        nodes=(node(0, 51.8, 61.2, cores=16, total=61.9, used=17.3, ours=10.6, experts_s=0.0093),),
        layers=tuple(replace(view, usage=next(usage)) if view.experts else view for view in views),
        host=host(10.6, 0.97),
        text=TEXT,
    )


def _gpu(name: str, **changes: object) -> DeviceView:
    known = DeviceView(
        name=name,
        kind="gpu",
        description="NVIDIA GeForce RTX 4090",
        memory=memory(
            {"attention": 6.61, "dense": 0.62, "shared": 1.42, "embed+head": 0.93},
            23.99,
            cache=1.07,
            compute=2.31,
            other=0.48,
            budget=22.8,
            actual=13.2,
            peak=13.6,
            used=14.1,
        ),
        seconds={
            "attention": 0.0131,
            "dense": 0.0017,
            "experts": 0.0041,
            "head": 0.0011,
            "crossing": 0.0021,
            "waiting": 0.0649,
            "other": 0.0011,
        },
        window=11,
        cache_used_tokens=4183,
        cache_capacity_tokens=16384,
        read_bytes_s=742e9,
        read_limit_bytes_s=921e9,
        crossing_bytes=1_663_000,
        sensors=sensors(),
    )
    return replace(known, **changes)  # type: ignore[arg-type]


def _cpu(**changes: object) -> DeviceView:
    known = DeviceView(
        name="CPU",
        kind="cpu",
        description="2 x AMD EPYC 9554, 24 channels DDR5",
        memory=memory(
            {"routed": 366.1},
            755.4,
            compute=1.1,
            other=3.2,
            budget=738.0,
            actual=371.3,
            peak=377.1,
            used=428.0,
        ),
        seconds={
            "experts": 0.0671,
            "sampling": 0.0004,
            "waiting": 0.0189,
            "other": 0.0017,
        },
        window=11,
        read_bytes_s=223e9,
        read_limit_bytes_s=338e9,
    )
    return replace(known, **changes)  # type: ignore[arg-type]


def one_gpu() -> Snapshot:
    """R1 on two sockets and a 4090: attention there, experts in RAM."""
    places: list[tuple[str, tuple[str, ...]]] = [("CUDA0", ())] * 3 + [("CUDA0", ("CPU",))] * 58
    return Snapshot(
        at=START + 412,
        facts=facts(),
        phase=Phase.DECODE,
        rates=rates(11.2),
        compared=Comparison(4182, 11.0, 11.1),
        devices=(_gpu("CUDA0"), _cpu(read_limit_is_measured=True)),
        nodes=(
            node(0, 112.0, 169.0, experts_read=149.0),
            node(1, 111.0, 169.0, experts_s=0.0671, experts_read=146.0),
        ),
        layers=layer_views(places, 0.00022, 0.00115, 0.00007),
        host=host(),
        text=TEXT,
    )


def _one_of_four(number: int) -> DeviceView:
    """Of `four_gpus`."""
    sizes = {"attention": 1.71, "shared": 0.36, "routed": 18.0}
    held = 22.9 if number == 2 else 22.1
    return _gpu(
        f"CUDA{number}",
        description="NVIDIA GeForce RTX 3090",
        memory=memory(
            sizes,
            24.0,
            cache=0.27,
            compute=1.4,
            other=0.4,
            budget=22.8,
            actual=held,
            peak=held + 0.2,
            used=held + (0.8 if number == 0 else 0.02),
        ),
        seconds={
            "attention": 0.0041 + 0.0004 * number,
            "dense": 0.0006 if number == 0 else 0.0,
            "experts": 0.0032,
            "head": 0.0013 if number == 3 else 0.0,
            "crossing": 0.0009,
            "waiting": 0.0742 - 0.0014 * number,
            "other": 0.0004,
        },
        sensors=sensors(
            temperature_c=88.0 if number == 1 else 64.0,
            power_limit_w=350.0,
            sm_clock_mhz=1110 if number == 1 else 1695,
            memory_clock_mhz=9501,
            throttle=("temperature",) if number == 1 else (),
            link_width=4 if number == 3 else 16,
        ),
        read_bytes_s=512e9,
        read_limit_bytes_s=836e9,
    )


def four_gpus() -> Snapshot:
    """R1 on four 3090s that hold the experts of twelve layers; one is too hot, one badly seated."""
    places: list[tuple[str, tuple[str, ...]]] = []
    for index in range(61):
        name = f"CUDA{index * 4 // 61}"
        kept = (index % 16) >= 13
        places.append((name, () if index < 3 else (name,) if kept else ("CPU",)))
    return Snapshot(
        at=START + 3921,
        facts=facts(
            plan_line="CUDA0-3 layers 0-60 with the experts of 12; the other experts on CPU",
            command="chat",
            predicted_decode_tok_s=14.6,
        ),
        phase=Phase.DECODE,
        rates=rates(11.6, tokens=18204),
        compared=Comparison(4182, 11.4, 14.1),
        devices=(*map(_one_of_four, range(4)), _cpu(read_limit_is_measured=False)),
        nodes=(
            node(0, 96.0, 169.0, experts_s=0.0651, measured=False),
            node(1, 93.0, 169.0, experts_s=0.0671, measured=False),
        ),
        layers=layer_views(places, 0.00026, 0.00131, 0.00024),
        host=replace(host(), major_faults=8123, major_faults_s=370.0, disc_read_bytes_s=0.31e9),
        text=TEXT,
        notes=("automatic NUMA balancing moves pages: sysctl kernel.numa_balancing=0",),
    )


def sixteen_gpus() -> Snapshot:
    """R1 wholly on sixteen 3090s, layer after layer."""
    gpus = []
    for number in range(16):
        gpu = _gpu(
            f"CUDA{number}",
            description="NVIDIA GeForce RTX 3090",
            memory=memory(
                {"attention": 0.52, "shared": 0.1, "routed": 20.1 + 0.1 * (number % 3)},
                24.0,
                cache=0.07,
                compute=0.9,
                other=0.4,
                budget=23.2,
                actual=22.2 + 0.1 * (number % 3),
                peak=22.6,
                used=22.3 + 0.1 * (number % 3),
            ),
            seconds={
                "attention": 0.00121,
                "experts": 0.00142 + 0.0001 * (number % 4),
                "head": 0.0008 if number == 15 else 0.0,
                "crossing": 0.0002,
                "waiting": 0.0452 - 0.0001 * (number % 4),
                "other": 0.0002,
            },
            sensors=sensors(link_width=8, link_most_width=8, power_limit_w=280.0),
            read_bytes_s=611e9,
            read_limit_bytes_s=836e9,
        )
        gpus.append(gpu)
    cpu = _cpu(
        description="AMD EPYC 7502, 8 channels DDR4",
        memory=memory({"embed+head": 0.5}, 251.5, other=3.0, budget=240.0, actual=4.1, used=21.0),
        seconds={"sampling": 0.0003, "waiting": 0.0481, "other": 0.0002},
        read_bytes_s=None,
        read_limit_bytes_s=None,
    )
    places: list[tuple[str, tuple[str, ...]]] = []
    for index in range(61):
        name = f"CUDA{index * 16 // 61}"
        places.append((name, () if index < 3 else (name,)))
    return Snapshot(
        at=START + 77,
        facts=facts(
            plan_line="CUDA0-15 layers 0-60 (4 each), head on CUDA15; embedding on CPU",
            predicted_decode_tok_s=19.8,
            limit="reading weights from GPU memory: 31.2 of 50.5 ms a token at depth 0 (62%)",
        ),
        phase=Phase.DECODE,
        rates=rates(20.4, seconds=66),
        compared=Comparison(4182, 20.2, 19.6),
        devices=(*gpus, cpu),
        nodes=(NodeView(0, int(251.5 * GIB), 21 * GIB),),
        layers=layer_views(places, 0.0003, 0.001, 0.00039),
        host=HostView(resident_bytes=int(4.1 * GIB), load_share=0.03),
        text=TEXT,
    )


def prompt_phase() -> Snapshot:
    """The same machine as `one_gpu`, a third through a long prompt; experts are streamed."""
    decode = one_gpu()
    gpu, cpu = decode.devices
    gpu = replace(
        gpu,
        seconds={},
        window=0,
        cache_used_tokens=14336,
        read_bytes_s=None,
        crossing_bytes=None,
        sensors=sensors(busy_share=0.91, power_w=391.0, link_sent_bytes_s=23.6e9),
    )
    return replace(
        decode,
        at=START + 61,
        phase=Phase.PROMPT,
        rates=Rates(prompt_now_tok_s=463.0, prompt_run_tok_s=451.0, prompt_tokens=39210),
        compared=Comparison(12288, 463.0, 466.0),
        devices=(gpu, replace(cpu, seconds={}, window=0, read_bytes_s=None)),
        nodes=tuple(
            replace(each, read_bytes_s=None, experts_s=None, experts_read_bytes_s=None)
            for each in decode.nodes
        ),
        layers=tuple(replace(layer, attention_s=None, experts_s=None) for layer in decode.layers),
        progress=Progress("prompt", "tokens", 14336, 39210, 463.0, 53.7),
        text="",
    )


def loading() -> Snapshot:
    decode = prompt_phase()
    return replace(
        decode,
        at=START + 42,
        phase=Phase.LOADING,
        rates=Rates(),
        compared=None,
        devices=tuple(
            replace(
                device,
                cache_used_tokens=None,
                memory=replace(
                    device.memory,
                    actual_bytes=part,
                    peak_bytes=part,
                    used_by_all_bytes=part + 3 * GIB,
                ),
            )
            for device, part in zip(decode.devices, (4 * GIB, 131 * GIB), strict=True)
        ),
        layers=tuple(replace(layer, usage=()) for layer in decode.layers),
        host=replace(host(131.0, 0.22), disc_read_bytes_s=6.1e9),
        progress=Progress("weights", "bytes", 139 * GIB, 377 * GIB, 3.4e9, 75.0),
    )


def failed() -> Snapshot:
    return replace(
        one_gpu(),
        phase=Phase.FAILED,
        error=(
            "CUDA0 has no room for the cache of 65536 tokens\n"
            "  needs 4.3 GiB, free 1.1 GiB of 24.0 GiB\n"
            "  try   -c 16384   or   --cache-type-k q8_0"
        ),
        notes=(),
    )


def nothing_measured() -> Snapshot:
    """A container without NVML, /proc and counters, before the first token."""
    bare = MemoryView({"routed": 8 * GIB, "attention": GIB}, 0, 0, 0, 9 * GIB, 0, 0)
    return Snapshot(
        at=START + 3,
        facts=facts(
            model="DeepSeek-V2-Lite-Chat-Q4_K_M",
            plan_line="CPU layers 0-26",
            predicted_decode_tok_s=None,
            predicted_prompt_tok_s=None,
            predicted_error=None,
            limit="",
        ),
        phase=Phase.IDLE,
        rates=Rates(),
        devices=(DeviceView("CPU", "cpu", "", bare, {}),),
        layers=tuple(LayerView(index, "CPU", ("CPU",) if index else ()) for index in range(27)),
    )


SCENES: Mapping[str, Callable[[], Snapshot]] = {
    "cpu": cpu_only,
    "gpu1": one_gpu,
    "gpu4": four_gpus,
    "gpu16": sixteen_gpus,
    "prompt": prompt_phase,
    "loading": loading,
    "error": failed,
    "nothing": nothing_measured,
}
SIZES = ((80, 24), (120, 40), (200, 60))
