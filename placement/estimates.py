"""Speeds of a machine, always: its own, or figures of a common desktop where nobody measured."""

from placement.machine import Machine
from placement.speeds import GpuSpeeds, HostSpeeds, MachineSpeeds

_HOST = HostSpeeds(
    read_gb_s=40.0, product_share=0.85, matmul_tflops=1.0, job_us=20.0, token_us=200.0
)
_GPU = GpuSpeeds(
    copy_gb_s=820.0,
    product_share=0.75,
    cache_share=0.45,
    matmul_tflops=56.0,
    attention_tflops=28.0,
    block_us=27.0,
    prompt_block_us=2450.0,
    to_gpu_gb_s=25.0,
    to_host_gb_s=25.0,
    together_gb_s=25.0,
    crossing_us=12.0,
    handover_us=40.0,
)


def speeds_of(machine: Machine) -> MachineSpeeds:
    """Never fails: measured or described speeds, else estimates with a wide error."""
    if machine.speeds is not None:
        return machine.speeds
    return MachineSpeeds(_HOST, {gpu.name: _GPU for gpu in machine.gpus}, "estimated", 0.6)
