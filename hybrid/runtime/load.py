"""`hybrid.load`: prepare, reserve, read, build. The whole of loading on one page."""

from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from hybrid.errors import MachineError
from hybrid.models.registry import builder
from hybrid.runtime.engine import Engine
from hybrid.runtime.gpu.blocks import GpuBlocks
from hybrid.runtime.gpu.check import check_gpu
from hybrid.runtime.gpu.failures import gpu_failures_told
from hybrid.runtime.loader import make_caches, place_weights, reserve_memory
from hybrid.runtime.machine_here import need_machine_here
from hybrid.runtime.memory import DeviceMemory, open_memories
from hybrid.runtime.native_block import NativeBlocks
from hybrid.runtime.option_names import options_named
from hybrid.runtime.options import LoadOptions
from hybrid.runtime.pinning import pin_experts
from hybrid.runtime.placed import PlacedParts
from hybrid.runtime.prepare import Prepared, prepare
from hybrid.runtime.prompt import open_tokenizer
from hybrid.runtime.reading import Progress, ReadHow, read_weights
from hybrid.runtime.stats import Meter
from hybrid.runtime.timed_ops import TimedBlocks
from hybrid.tokenizer.tokenizer import Tokenizer
from kernels.errors import NativeLibraryMissing
from kernels.native import pool, tiers
from kernels.native.library import library
from placement.errors import DoesNotFit
from placement.machines.machine import CPU, DeviceKind
from placement.memory.overheads import readers_of
from placement.units import format_bytes

# Of the RAM that weights leave free, what the file may take in the cache before it is dropped.
CACHE_SHARE, CACHE_SHARE_OF_NODES = 7 / 8, 1 / 2


def load(path: str | Path, *, progress: Progress | None = None, **options: Any) -> Engine:
    """Load a model for generation.

    path       a GGUF file, any part of a split one, or "demo"
    progress   called with (bytes done, bytes in all) while weights are read
    options    fields of `hybrid.runtime.options.LoadOptions`
    returns    an Engine whose memory is wholly reserved

    Raises HybridError subclasses, before the first byte of weights is read when something does not
    fit.
    """
    with options_named(), gpu_failures_told():
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.empty_cache()  # of engines that are gone: the plan asks what is free
        wanted = LoadOptions.from_keywords(**options)
        need_machine_here(wanted.machine)
        prepared = prepare(path, wanted)
        tokenizer = open_tokenizer(prepared, wanted.conventions)
        return load_prepared(prepared, tokenizer, wanted, progress)


def load_prepared(
    prepared: Prepared,
    tokenizer: Tokenizer | None,
    options: LoadOptions,
    progress: Progress | None = None,
) -> Engine:
    """The second half of `load`, for callers that print the plan and check a prompt first."""
    started = perf_counter()
    _need_native_kernels()
    prepared.file.require_data()
    tiers.use(options.tier)
    cpus = prepared.cpus
    pool.start(cpus.cpus, cpus.nodes)
    threads = len(cpus.cpus)
    plan, shape, file = prepared.plan, prepared.inventory.shape, prepared.file
    layout = prepared.layout
    for device in prepared.machine.gpus:
        if any(use.total_bytes for use in plan.devices if use.name == device.name):
            check_gpu(device, exact=options.kernels == "exact")
    memories = open_memories(plan.devices, prepared.machine, layout)
    _check_ram(prepared, options)
    reserve_memory(plan, memories, shape, layout, mapped=options.mmap)
    weights, pieces = place_weights(file, plan, memories, layout, mapped=options.mmap)
    meter = Meter()
    exact = options.kernels == "exact"
    native = NativeBlocks(exact=exact, threads=threads, meter=meter)
    gpu = GpuBlocks(meter, threads, exact=exact)
    timed = TimedBlocks(meter, shape.expert_count)
    places = {name: memory.place for name, memory in memories.items()}
    homes = [places[home] for home in plan.layers]
    parts = PlacedParts(file.path.name, weights, places, homes, meter, native, gpu, timed)
    # Built before the weights are read: a missing tensor is told now, not after 400 GB.
    model = builder(prepared.config.architecture)(
        prepared.config, parts, attention_work_bytes=plan.workload.attention_work_bytes
    )
    workspace = _reserve_scratch(prepared, memories[CPU], native, gpu)
    caches = make_caches(plan, memories, shape)
    pinning = pin_experts(plan, memories, mapped=options.mmap)
    how = _read_how(prepared, options)
    read_weights(file, pieces, progress or _no_progress, how, gpu.planes, pinning)
    native.fill_vectors()
    native.chain(caches)
    gpu.ready(caches, workspace, shape, plan.workload)
    gpu.rehearse(model.embedding, caches, plan.workload)
    engine = Engine(
        model=model,
        caches=caches,
        tokenizer=tokenizer,
        prepared=prepared,
        memories=memories,
        meter=meter,
        threads=threads,
        usage=(native.usage, gpu.usage, timed.usage),
        notes=cpus.notes,
    )
    engine.stats.load_s = perf_counter() - started
    return engine


def _reserve_scratch(
    prepared: Prepared, host: DeviceMemory, native: NativeBlocks, gpu: GpuBlocks
) -> Tensor:
    """The CPU's, for blocks of its own and for what GPUs call it for: never at the same time."""
    workload, threads = prepared.plan.workload, len(prepared.cpus.cpus)
    shared, own = native.needs(workload.ubatch_tokens, workload.context_tokens)
    shared = max(shared, gpu.cpu_bytes())
    host.used["compute"] = shared + threads * own
    _check_scratch(prepared, shared + threads * own)
    workspace = torch.zeros(shared, dtype=torch.uint8)
    native.reserve(workspace, own)
    return workspace


def _ram_bytes(prepared: Prepared) -> int:
    """Planned for RAM: simulated GPUs live there too, beside what the plan puts there."""
    real_gpus = {d.name for d in prepared.machine.devices if d.kind is DeviceKind.GPU}
    return sum(use.total_bytes for use in prepared.plan.devices if use.name not in real_gpus)


def _read_how(prepared: Prepared, options: LoadOptions) -> ReadHow:
    """The file cache is kept for the next load where the file fits into RAM beside the weights."""
    spare = prepared.machine.host.free_bytes - _ram_bytes(prepared)
    several = len(prepared.layout.nodes) > 1  # then a full one would push weights to another
    fits = prepared.plan.model_bytes <= spare * (CACHE_SHARE_OF_NODES if several else CACHE_SHARE)
    return ReadHow(readers_of(prepared.machine), forget=not fits and not options.mmap)


def _check_ram(prepared: Prepared, options: LoadOptions) -> None:
    needed = _ram_bytes(prepared)
    free = prepared.machine.host.free_bytes
    told = CPU in (options.budgets or {})
    if needed > free and not told and not options.mmap:
        raise DoesNotFit(
            "the plan needs more RAM than is free",
            f"needs {format_bytes(needed)} with its simulated GPUs, {format_bytes(free)} are free",
            remedy="smaller simulated GPUs, or --ram SIZE if RAM will grow with use",
        )


def _check_scratch(prepared: Prepared, needed: int) -> None:
    """A plan out of a file may have been made for fewer threads."""
    planned = sum(use.compute_bytes for use in prepared.plan.devices if use.name == CPU)
    if needed > planned:
        threads, of_plan = len(prepared.cpus.cpus), prepared.plan.workload.threads
        raise DoesNotFit(
            "the plan has too little scratch for this many threads",
            f"{threads} threads need {format_bytes(needed)}, planned are {format_bytes(planned)}"
            f" for {of_plan}",
            remedy=["make the plan again: hybrid plan MODEL --save plan.json", f"-t {of_plan}"],
        )


def _need_native_kernels() -> None:
    try:
        library()
    except NativeLibraryMissing as error:
        raise MachineError(
            "the compiled kernels are not there",
            str(error),
            remedy=[
                "make native, in a source tree",
                "pip install --force-reinstall --no-deps . with a C++17 compiler there",
            ],
        ) from error


def _no_progress(done_bytes: int, total_bytes: int) -> None:
    pass
