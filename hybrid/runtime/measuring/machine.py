"""Measures this machine for the planner: what `hybrid doctor` prints and keeps as a profile.

    host    RAM reads by threads and by NUMA node, experts of one token, products of a prompt,
            a job's own time                                              host.py
    GPUs    copies, products of one token and of many, the bus alone and together, crossings,
            handing over                                                  gpu.py

Whatever cannot be measured will be estimated, and is one line among the faults.
"""

from collections.abc import Callable

from hybrid.runtime.measuring.gpu import measure_gpus
from hybrid.runtime.measuring.host import measure_host
from hybrid.runtime.measuring.readings import Readings
from kernels.native import pool, tiers
from placement.machines.cpus import ThreadCpus
from placement.machines.machine import DeviceKind, Machine


def measure_machine(machine: Machine, cpus: ThreadCpus, say: Callable[[str], None]) -> Readings:
    """Takes some seconds, 2 GiB of RAM and 1 GiB of each GPU.

    cpus   the pool's threads are pinned to these; it is started here
    say    is told what is measured next

    Raises NativeLibraryMissing and WorkerFailed where no kernel can run on the CPU.
    """
    readings = Readings(say)
    tiers.use(None)
    pool.start(cpus.cpus, cpus.nodes)
    measure_host(machine, len(cpus.cpus), readings)
    measure_gpus([gpu for gpu in machine.gpus if gpu.kind is DeviceKind.GPU], readings)
    return readings
