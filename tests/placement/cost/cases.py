"""Models and machines of docs/log.md, and what was measured there: cases of the cost model.

Speeds are those that the log gives for the machine of the run, or what `hybrid doctor` would
measure alone there; none is chosen per case.
"""

from dataclasses import dataclass, replace
from typing import Any

from placement.inventory import ModelInventory, Role, TensorInfo
from placement.machines.machine import CPU, Device, DeviceKind, Machine
from placement.machines.speeds import GpuSpeeds, HostSpeeds, MachineSpeeds
from tests.placement.models import GIB, model, tensor
from tools.model_shapes import LITE, V3

QUERY_LATENT = 1536  # of V3

# Copy: the product benches. Products: 8192 x 8192 in Q8_0. Cache: 16 heads, 16k to 64k rows, 2.6
# TB/s. Block: prepare, split, unfold and router of V2-Lite alone in a graph, 2.3 + 7.1 + 4.9 + 5.2
# us, and 2 us of launches beside. Prompts: 27 blocks in 66 ms, whether of 512 or 2048 tokens;
# attention as its bench has it. Crossing: 8.9 us waiting for an empty job.
H200 = GpuSpeeds(
    copy_gb_s=4235.0,
    product_share=0.70,
    cache_share=0.61,
    matmul_tflops=600.0,
    attention_tflops=430.0,
    block_us=22.0,
    prompt_block_us=2450.0,
    to_gpu_gb_s=55.0,
    to_host_gb_s=55.0,
    together_gb_s=55.0,
    crossing_us=8.9,
    handover_us=40.0,
)
# 16 Emerald Rapids cores beside the H200: 108 GB/s in the run that a profile was made of; 21 us for
# an experts' job beside its bytes; 222 us of host a token. Shares of experts and products: 0.97.
BESIDE_H200 = HostSpeeds(
    read_gb_s=108.0, product_share=0.97, matmul_tflops=6.7, job_us=21.0, token_us=222.0
)
# The same kind of processor in a run of its own; 3 % of 13 ms outside native code.
SIXTEEN_CORES = HostSpeeds(
    read_gb_s=215.0, product_share=0.93, matmul_tflops=6.7, job_us=21.0, token_us=400.0
)
# As `hybrid doctor` measured them in the run of the entry "Plans against runs on an H200"; a token
# outside of kernels as estimated, for it was measured in another way then.
DOCTORS_H200 = GpuSpeeds(
    copy_gb_s=4180.0,
    product_share=0.938,
    cache_share=0.598,
    matmul_tflops=786.9,
    attention_tflops=432.8,
    block_us=29.5,
    prompt_block_us=1.15 * 1952,
    to_gpu_gb_s=55.5,
    to_host_gb_s=55.3,
    together_gb_s=55.5,
    crossing_us=11.2,
    handover_us=23.1,
)
DOCTORS_HOST = HostSpeeds(
    read_gb_s=155.8, product_share=0.875, matmul_tflops=5.75, job_us=9.05, token_us=222.0
)
# Likewise in "Plans against runs once more", a machine with two H200 and 32 cores: 16 threads.
AGAIN_H200 = GpuSpeeds(
    copy_gb_s=4187.0,
    product_share=0.893,
    cache_share=0.585,
    matmul_tflops=779.9,
    attention_tflops=428.9,
    block_us=27.5,
    prompt_block_us=1.15 * 4772,
    to_gpu_gb_s=55.3,
    to_host_gb_s=52.6,
    together_gb_s=53.3,
    crossing_us=9.57,
    handover_us=26.1,
)
AGAIN_HOST = HostSpeeds(
    read_gb_s=114.9, product_share=0.915, matmul_tflops=3.76, job_us=14.1, token_us=130.7
)
# Likewise in "Four GPUs for the first time": 64 cores, of which 32 computed. Until then a prompt's
# block was a fifth of the demo's whole pass.
FOUR_H200 = replace(
    DOCTORS_H200,
    copy_gb_s=4182.0,
    product_share=0.936,
    cache_share=0.58,
    block_us=28.0,
    crossing_us=9.4,
    handover_us=23.3,
)
FOUR_HOST = HostSpeeds(
    read_gb_s=228.8,
    product_share=0.439,
    matmul_tflops=8.01,
    job_us=20.8,
    token_us=125.5,
    by_threads=((16, 102.3), (24, 139.5), (32, 177.5), (48, 214.1), (64, 228.8)),
)
# 2 Zen 5 cores: 36 to 50 GB/s as others on the host allow; products of slabs at 2 x 0.6 TFLOP/s.
TWO_CORES = HostSpeeds(
    read_gb_s=43.0, product_share=0.94, matmul_tflops=1.2, job_us=5.0, token_us=900.0
)
# As `hybrid doctor` measured them in the entry "A plan against a run on two cores, nothing else
# running"; a token outside of kernels as estimated.
DOCTORS_TWO_CORES = HostSpeeds(
    read_gb_s=55.18, product_share=0.6844, matmul_tflops=0.8051, job_us=8.027, token_us=222.0
)


@dataclass(frozen=True, slots=True)
class Case:
    """One measured figure of docs/log.md.

    tokens   of the prompt, 0: decoding
    depth    tokens before; of decoding, half way through
    """

    name: str
    model: str
    host: HostSpeeds
    gpus: int
    rules: tuple[str, ...]
    measured: float
    depth: int = 0
    tokens: int = 0
    ubatch: int = 512
    threads: int = 16
    gpu: GpuSpeeds = H200
    context: int = 20_600
    cache_format: str = "f16"


ALL, CPU_EXPERTS = ("exps=CUDA0",), ("exps=CPU",)
CASES = (
    Case("lite, all on the GPU", "lite", BESIDE_H200, 1, ALL, 713),
    Case("lite, all on the GPU, 4096", "lite", BESIDE_H200, 1, ALL, 645, depth=4096),
    Case("lite, all on the GPU, 16384", "lite", BESIDE_H200, 1, ALL, 592, depth=16384),
    Case("lite, experts in RAM", "lite", BESIDE_H200, 1, CPU_EXPERTS, 113),
    Case("lite, experts in RAM, 4096", "lite", BESIDE_H200, 1, CPU_EXPERTS, 108, depth=4096),
    Case("V3, 6 layers, experts in RAM", "v3", BESIDE_H200, 1, CPU_EXPERTS, 132),
    Case("lite, 16 cores", "lite", SIXTEEN_CORES, 0, (), 77.7),
    Case("lite, 2 cores", "lite", TWO_CORES, 0, (), 18.05, threads=2),
    Case("prompt, all on the GPU", "lite", BESIDE_H200, 1, ALL, 7593, tokens=4096),
    Case("prompt, -ub 2048", "lite", BESIDE_H200, 1, ALL, 30836, tokens=4096, ubatch=2048),
    Case("prompt, all, 16384", "lite", BESIDE_H200, 1, ALL, 7480, depth=16384, tokens=4096),
    Case("prompt, streamed", "lite", BESIDE_H200, 1, CPU_EXPERTS, 3348, tokens=4096),
    Case(
        *("prompt, streamed, -ub 2048", "lite", BESIDE_H200, 1, CPU_EXPERTS, 13107),
        tokens=4096,
        ubatch=2048,
    ),
    Case(
        *("prompt, streamed, 16384", "lite", BESIDE_H200, 1, CPU_EXPERTS, 3326),
        depth=16384,
        tokens=4096,
    ),
    Case("prompt of 128, 16 cores", "lite", SIXTEEN_CORES, 0, (), 774, tokens=128),
    Case("prompt of 512, 16 cores", "lite", SIXTEEN_CORES, 0, (), 994, tokens=512),
    Case("prompt of 128, 2 cores", "lite", TWO_CORES, 0, (), 160, tokens=128, threads=2),
    Case("prompt of 512, 2 cores", "lite", TWO_CORES, 0, (), 180, tokens=512, threads=2),
)

SOME_CPU = (r"blk\.([0-9]|1[0-2])\.ffn_.*_exps=CPU", "exps=CUDA0")


def _of_doctor(name: str, rules: tuple[str, ...], measured: float, **others: Any) -> Case:
    gpus = others.pop("gpus", 1)
    model = others.pop("model", "lite")
    return Case(name, model, DOCTORS_HOST, gpus, rules, measured, gpu=DOCTORS_H200, **others)


def _again(name: str, rules: tuple[str, ...], measured: float, **others: Any) -> Case:
    case = _of_doctor(name, rules, measured, **others)
    return replace(case, name=f"{name}, again", host=AGAIN_HOST, gpu=AGAIN_H200)


def _on_four(name: str, measured: float, **others: Any) -> Case:
    sizes = {"threads": 32, "ubatch": 2048}
    return Case(name, "lite", FOUR_HOST, 4, (), measured, gpu=FOUR_H200, **sizes, **others)


def _on_two_cores(name: str, measured: float, depth: int = 0, tokens: int = 0) -> Case:
    host = DOCTORS_TWO_CORES
    return Case(name, "lite", host, 0, (), measured, depth, tokens, threads=2, context=8192)


LONG: dict[str, Any] = {"context": 131_072, "cache_format": "q8_0", "ubatch": 4096}
WIDE: dict[str, Any] = {"context": 65_536, "ubatch": 4096, "model": "v3"}
SPLIT: dict[str, Any] = {"context": 32_768, "ubatch": 2048, "gpus": 2}
# Medians of `hybrid bench --audit`: six configurations with GPUs, one without.
AUDITED = (
    _of_doctor("all, 2k", ALL, 703, context=2048, depth=32),
    _of_doctor("all, 2k, prompt", ALL, 7379, context=2048, tokens=512),
    _of_doctor("all, 128k, q8_0", ALL, 573, depth=32, **LONG),
    _of_doctor("all, 128k, q8_0, 16384", ALL, 490, depth=16_416, **LONG),
    _of_doctor("all, 128k, q8_0, prompt", ALL, 42_842, tokens=4096, **LONG),
    _of_doctor("all, 128k, q8_0, prompt at 16384", ALL, 29_950, tokens=4096, depth=16_384, **LONG),
    _of_doctor("in RAM", CPU_EXPERTS, 133, depth=16, ubatch=2048),
    _of_doctor("in RAM, 16384", CPU_EXPERTS, 120, depth=16_400, ubatch=2048),
    _of_doctor("in RAM, prompt", CPU_EXPERTS, 12_837, tokens=2048, ubatch=2048),
    _of_doctor(
        "in RAM, prompt at 16384", CPU_EXPERTS, 12_781, tokens=2048, depth=16_384, ubatch=2048
    ),
    _of_doctor("some in RAM", SOME_CPU, 250, depth=24, ubatch=1024, context=32_768),
    _of_doctor("some in RAM, 16384", SOME_CPU, 225, depth=16_408, ubatch=1024, context=32_768),
    _of_doctor("some in RAM, prompt", SOME_CPU, 11_126, tokens=1024, ubatch=1024, context=32_768),
    _of_doctor(
        "some in RAM, prompt at 16384",
        SOME_CPU,
        10_255,
        tokens=1024,
        depth=16_384,
        ubatch=1024,
        context=32_768,
    ),
    _of_doctor("V3, in RAM, prompt", CPU_EXPERTS, 9953, tokens=4096, **WIDE),
    _of_doctor("two GPUs", (), 683, depth=32, **SPLIT),
    _of_doctor("two GPUs, 16384", (), 601, depth=16_416, **SPLIT),
    _of_doctor("two GPUs, prompt", (), 27_180, tokens=2048, **SPLIT),
    _of_doctor("two GPUs, prompt at 16384", (), 26_246, tokens=2048, depth=16_384, **SPLIT),
    _again("all, 2k, prompt", ALL, 3520.5, context=2048, tokens=512),
    _again("all, 128k, q8_0", ALL, 577.9, depth=32, **LONG),
    _again("all, 128k, q8_0, 16384", ALL, 461.0, depth=16_416, **LONG),
    _again("all, 128k, q8_0, prompt", ALL, 31_225, tokens=4096, **LONG),
    _again("in RAM", CPU_EXPERTS, 112.0, depth=16, ubatch=2048),
    _again("in RAM, 16384", CPU_EXPERTS, 104.8, depth=16_400, ubatch=2048),
    _again("in RAM, prompt", CPU_EXPERTS, 12_629, tokens=2048, ubatch=2048),
    _again("in RAM, prompt at 16384", CPU_EXPERTS, 12_801, tokens=2048, depth=16_384, ubatch=2048),
    _again("some in RAM", SOME_CPU, 194.6, depth=24, ubatch=1024, context=32_768),
    _again("some in RAM, 16384", SOME_CPU, 192.5, depth=16_408, ubatch=1024, context=32_768),
    _again(
        "some in RAM, prompt at 16384",
        SOME_CPU,
        6796,
        tokens=1024,
        depth=16_384,
        ubatch=1024,
        context=32_768,
    ),
    _again("V3, in RAM", CPU_EXPERTS, 135.2, depth=16, **WIDE),
    _again("V3, in RAM, prompt", CPU_EXPERTS, 9639, tokens=4096, **WIDE),
    _again("two GPUs, 16384", (), 537.8, depth=16_416, **SPLIT),
    _again("two GPUs, prompt", (), 15_862, tokens=2048, **SPLIT),
    _again("two GPUs, prompt at 16384", (), 16_543, tokens=2048, depth=16_384, **SPLIT),
    _again("two GPUs, in RAM, prompt", CPU_EXPERTS, 12_735, tokens=2048, **SPLIT),
    _on_four("four GPUs", 649.9, depth=32),
    _on_two_cores("two cores", 19.62, depth=32),
    _on_two_cores("two cores, 4096", 13.81, depth=4128),
    _on_two_cores("two cores, prompt of 512", 142.1, tokens=512),
    _on_two_cores("two cores, prompt of 4096", 97.5, tokens=4096),
    _on_two_cores("two cores, prompt of 512 at 4096", 67.4, depth=4096, tokens=512),
    _on_two_cores("two cores, prompt of 4096 at 4096", 59.0, depth=4096, tokens=4096),
)
# Beyond what is allowed. The RAM read 156 GB/s when it was measured and 114 when the first of these
# runs began, 115 and 102 with the experts in RAM of two GPUs. The engine that made 617 tok/s in the
# audit made 680 a minute later; launches of prompts took 5.4 ms a block, and 3.9 a minute later.
AUDITED_OUTSIDE = (
    _of_doctor("V3, in RAM", CPU_EXPERTS, 148, depth=16, **WIDE),
    _again("all, 2k", ALL, 616.6, context=2048, depth=32),
    _again("two GPUs", (), 599.0, depth=32, **SPLIT),
    _again("two GPUs, in RAM", CPU_EXPERTS, 91.7, depth=16, **SPLIT),
    _again("all, 128k, q8_0, prompt at 16384", ALL, 21_253, tokens=4096, depth=16_384, **LONG),
    _again("some in RAM, prompt", SOME_CPU, 9797, tokens=1024, ubatch=1024, context=32_768),
)


def lite() -> ModelInventory:
    """V2-Lite's shape, routed experts IQ4_NL, other matrices Q8_0: 9.5 GB."""
    return _experts_in(model(LITE, "lite", weights="Q8_0"), "IQ4_NL", 18 / 32)


def v3_of_6_layers() -> ModelInventory:
    """V3's shape with its query latent, routed experts Q4_K, other matrices Q8_0."""
    cut = replace(V3, layers=6)
    whole = _experts_in(model(cut, "v3", weights="Q8_0"), "Q4_K", 144 / 256)
    tensors: list[TensorInfo] = []
    for each in whole.tensors:
        if not each.name.endswith("attn_q.weight"):
            tensors.append(each)
            continue
        block, (rows, columns) = each.name.removesuffix("attn_q.weight"), each.shape
        sizes = {"attn_q_a": (QUERY_LATENT, columns), "attn_q_b": (rows, QUERY_LATENT)}
        tensors += [
            tensor(f"{block}{name}.weight", size, Role.ATTENTION, "Q8_0")
            for name, size in sizes.items()
        ]
    return replace(whole, tensors=tuple(tensors))


def there(host: HostSpeeds, gpus: int, gpu: GpuSpeeds = H200) -> Machine:
    """A machine with so many GPUs of 139 GiB."""
    names = [f"CUDA{i}" for i in range(gpus)]
    ram = Device(CPU, DeviceKind.CPU, 512 * GIB, 512 * GIB)
    cards = (Device(name, DeviceKind.GPU, 139 * GIB, 139 * GIB) for name in names)
    speeds = MachineSpeeds(host, dict.fromkeys(names, gpu), "measured", 0.15)
    return Machine((ram, *cards), speeds=speeds)


def _experts_in(inventory: ModelInventory, fmt: str, bytes_per_weight: float) -> ModelInventory:
    tensors = (
        replace(t, format=fmt, nbytes=int(t.matrix_values * t.experts * bytes_per_weight))
        if t.role is Role.ROUTED_EXPERT
        else t
        for t in inventory.tensors
    )
    return replace(inventory, tensors=tuple(tensors))
