"""Bytes that no tensor of a plan is: CUDA contexts, workspaces of libraries, buffers of loading,
page tables, the program itself. Each part is what is taken, or a bound that its comment names.

A figure here is of a kind of device. `Device.process_bytes`, which a machine's file or the audit of
a run gives, takes its place.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from placement.inventory import ModelShape
from placement.machines.machine import Device, DeviceKind, Machine
from placement.machines.speeds import CONTEXT_MIB
from placement.memory.gpu_step_scratch import STEP_TOKENS, stamp_bytes
from placement.workload import FLOAT_BYTES, Hosted, Workload

Named = tuple[str, int]  # what it is, bytes

MIB = 1 << 20
WORKSPACE = "workspace of products"
CONTEXT_BYTES = round(CONTEXT_MIB * MIB)  # where nobody measured the GPU's own
# Torch's workspace for products, taken of its own pool (pytorch, CUDABlas): Hopper, older ones.
WORKSPACE_BYTES = {9: 32 * MIB, 8: 8 * MIB + 128 * 1024}
NEWEST_WORKSPACE_BYTES = 32 * MIB
# Tensors of 1 MiB, for which torch's pool has segments of its own; held at load, so that no prompt
# needs another one (`hybrid.runtime.gpu.blocks`).
SMALL_TENSORS = 16
POOL_STEP_BYTES = 2 * MIB  # torch rounds a large segment up to whole steps: weights, scratch
# Loading: threads that read, and what each has under way to GPUs.
MOST_READERS = 8
UPLOAD_BYTES = 8 * MIB  # at once: enough for the bus, little enough for many readers
UPLOAD_BUFFERS = 2  # pinned, of each reader
# Anonymous memory of this program beside what the plan counts: Python, torch's CPU build, threads
# (`hybrid run demo --audit`: 164 to 166 MiB).
PROGRAM_BYTES = 166 * MIB
# More of it with torch's CUDA build where no GPU is used, by its libraries (the same command with
# 2.12.1+cu130 and 2.13.0+cpu: 303.7 and 169.4 MiB).
CUDA_BUILD_BYTES = 134 * MIB
# Of a token: its text in the file's metadata and in the tokenizer, with the merges (125 MiB for
# 129280 tokens, 32 MiB for 32000).
VOCABULARY_BYTES = 1024
# In RAM: CUDA's libraries once, and the driver's side of each GPU's context. A process with one
# H200 took 588 to 623 MiB more than the program alone in nine runs, with two 742 and 749.
LIBRARIES_BYTES, DRIVER_BYTES = 472 * MIB, 136 * MIB
# An entry of 8 bytes for a page of 4 KiB. A huge page of anonymous memory has one entry for 2 MiB,
# but Linux keeps the table of its small pages for the day when it is split (VmPTE: 2 MiB a GiB).
PAGE_TABLE_SHARE = 512
# A mailbox's arrays begin on whole lines; 9 more lines are for numbers, and one for its own place.
MAILBOX_LINE, MAILBOX_LINES = 128, 14
MAILBOX_STRETCH = 256  # columns of x that a number tells of
MAILBOX_TOKENS = STEP_TOKENS[-1]


@dataclass(frozen=True, slots=True)
class Held:
    """Planned bytes of one device, as far as overheads follow from them.

    hosted   what it computes; None for the host
    """

    device: Device
    placed_bytes: int
    compute_bytes: int
    hosted: Hosted | None = None

    @property
    def is_real_gpu(self) -> bool:
        return self.device.kind is DeviceKind.GPU and self.placed_bytes + self.compute_bytes > 0


def readers_of(machine: Machine) -> int:
    """Threads that read a model: more than the CPUs only get into each other's way."""
    return min(max(machine.usable_cpus, 1), MOST_READERS)


def gpu_overheads(held: Held, workload: Workload, readers: int) -> tuple[Named, ...]:
    """Of one GPU; nothing for one that is played by the CPU or holds nothing."""
    if not held.is_real_gpu:
        return ()
    context = held.device.process_bytes
    fast = workload.kernels == "fast" and held.hosted is not None and held.hosted.homes > 0
    small = SMALL_TENSORS * MIB if fast else 0
    return (
        ("CUDA context", CONTEXT_BYTES if context is None else context),
        (WORKSPACE, workspace_bytes(held.device)),
        ("segments of torch's pool", small + 2 * POOL_STEP_BYTES),
        # given back before the scratch is taken, so that only what is more counts
        ("buffers of loading", max(readers * UPLOAD_BYTES - held.compute_bytes, 0) if fast else 0),
    )


def workspace_bytes(gpu: Device) -> int:
    """Of torch's products of matrices on a GPU."""
    major = int((gpu.compute_capability or "99").partition(".")[0])
    return WORKSPACE_BYTES.get(major, NEWEST_WORKSPACE_BYTES)


def host_overheads(
    shape: ModelShape, workload: Workload, host: Held, gpus: Sequence[Held], readers: int
) -> tuple[Named, ...]:
    """Of RAM. GPUs that are played by the CPU lie in RAM too, which loading checks."""
    real = [gpu for gpu in gpus if gpu.is_real_gpu]
    homes = [gpu.hosted for gpu in real if gpu.hosted is not None and gpu.hosted.homes]
    program = host.device.process_bytes
    if program is None:
        program = PROGRAM_BYTES + VOCABULARY_BYTES * shape.vocabulary
    found: list[Named] = [("the program and its vocabulary", program)]
    if real:
        drivers = LIBRARIES_BYTES + len(real) * DRIVER_BYTES
        found.append(("CUDA's libraries and the driver's side of contexts", drivers))
        found.append(("pinned buffers of loading", readers * UPLOAD_BUFFERS * UPLOAD_BYTES))
    elif host.device.cuda_torch and host.device.process_bytes is None:
        found.append(("libraries of torch's CUDA build", CUDA_BUILD_BYTES))
    if homes and workload.kernels == "fast":
        pinned = sum(_pinned_bytes(shape, hosted) for hosted in homes)
        found.append(("mailboxes and rows of decode steps, pinned", pinned))
    mapped = host.placed_bytes + host.compute_bytes
    found.append(("page tables", mapped // PAGE_TABLE_SHARE))
    return tuple(found)


def most_host_overheads(
    machine: Machine, shape: ModelShape, workload: Workload, ram_bytes: int
) -> int:
    """Of RAM at most, with this budget and all GPUs in use: for who chooses what goes there."""
    everything = Hosted(layers=1, routed_experts=True, head=True, homes=1, away_experts=1)
    host = Held(machine.host, ram_bytes, 0)
    gpus = [Held(gpu, 1, 0, everything) for gpu in machine.gpus]
    found = host_overheads(shape, workload, host, gpus, readers_of(machine))
    return sum(nbytes for _, nbytes in found)


def _pinned_bytes(shape: ModelShape, hosted: Hosted) -> int:
    """Of one GPU: its mailbox, inputs and logits of decode steps. Torch rounds pinned memory up to
    powers of two, at most to twice its size.
    """
    nbytes = FLOAT_BYTES * sum(STEP_TOKENS) * (shape.embedding_length + 4)
    nbytes += stamp_bytes(shape)
    if hosted.head:
        nbytes += FLOAT_BYTES * sum(STEP_TOKENS) * (shape.vocabulary + 2)
    if hosted.away_experts:
        rows = 2 * shape.embedding_length + 4 * shape.expert_used_count
        stretches = -(-shape.embedding_length // MAILBOX_STRETCH)
        nbytes += FLOAT_BYTES * (MAILBOX_TOKENS * rows + stretches) + MAILBOX_LINES * MAILBOX_LINE
    return 2 * nbytes
