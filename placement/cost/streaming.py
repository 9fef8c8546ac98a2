"""From how many tokens on prompts bring experts in RAM to the GPU: where that is sooner done than
the CPU's products, on this machine and with these weights.

    streamed   all experts of a layer over PCIe, or the GPU's products with them if they take longer
    computed   the CPU's products with the tokens that chose each
"""

from placement.cost.gpu import prompt_products_s
from placement.cost.host import experts_of_a_prompt_s
from placement.cost.pieces import speeds_of_run
from placement.cost.work import LayerWork, model_work
from placement.inventory import ModelInventory
from placement.machines.estimates import speeds_of
from placement.machines.machine import Machine
from placement.machines.speeds import GpuSpeeds, HostSpeeds
from placement.workload import STREAM_TOKENS, Workload

# Tokens an expert that are tried; a CPU that is faster with the last of them is left to its work.
TRIED: tuple[int, ...] = (*range(8, 64, 4), *range(64, 256, 16), *range(256, 1025, 64))


def stream_tokens(inventory: ModelInventory, machine: Machine, workload: Workload) -> int:
    """Tokens that each expert has on average, of the layer with most bytes, by the slowest bus."""
    if not machine.gpus or workload.kernels != "fast":
        return STREAM_TOKENS
    layer = max(model_work(inventory).layers, key=lambda work: work.routed.nbytes)
    if not layer.experts:
        return STREAM_TOKENS
    speeds = speeds_of_run(speeds_of(machine), workload)
    gpu = min((speeds.gpus[gpu.name] for gpu in machine.gpus), key=lambda it: it.to_gpu_gb_s)
    for each in TRIED:
        if _pays(layer, each, gpu, speeds.host, workload.threads):
            return each
    return TRIED[-1]


def _pays(layer: LayerWork, each: int, gpu: GpuSpeeds, host: HostSpeeds, threads: int) -> bool:
    tokens = each * layer.experts // layer.used
    arriving = layer.routed.nbytes / (gpu.to_gpu_gb_s * 1e9)
    streamed = max(arriving, prompt_products_s(layer.routed, each, gpu))
    return streamed <= experts_of_a_prompt_s(layer, 1.0, tokens, host, threads)
