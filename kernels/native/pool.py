"""The process's pool of native threads (`pool.h`): started once, shared by every engine.

Jobs are run by the ops' native functions, which return an error number for `check`. Calls from
several Python threads take turns. A forked child gets threads of its own with its first job.
"""

import ctypes
import mmap
import sys
import threading
from collections.abc import Callable, Sequence
from time import perf_counter
from types import FrameType

from kernels.errors import KernelInputError, WorkerFailed
from kernels.native.library import library

# The kinds of HybridPoolError in `pool_border.h`; a number is kind + 256 * worker.
_THREW, _ENDED, _STALLED, _TOO_FEW, _NESTED, _NO_THREAD, _NO_MEMORY = range(1, 8)

# Three times the last-level cache of a large server, or else the cache is measured.
READ_NBYTES = 1 << 30
READ_ROUNDS = 5

USUAL_TIMEOUT_S = 60  # kUsualTimeout of the pool

# Decoded and multiplied by one thread in about the time of waking another, 5 us.
SMALL_JOB_WEIGHTS = 1 << 16


def start(cpus: Sequence[int], nodes: Sequence[int]) -> None:
    """One worker per CPU from now on, the calling thread being the first.

    cpus    CPU numbers, one per worker, pinned there; -1 leaves a worker to the system. In an
            order in which any first few are a good choice: a job may use fewer.
    nodes   NUMA node of each, 0 .. nodes - 1 in dense numbering

    Workers that are there already stay; a longer list adds to them, a shorter one changes nothing.
    Raises WorkerFailed when the system gives no thread.
    """
    if not 0 < len(cpus) == len(nodes) <= 1023:
        raise KernelInputError(f"{len(cpus)} CPUs and {len(nodes)} nodes for 1 to 1023 workers")
    numbers = ctypes.c_int32 * len(cpus)
    check(library().hybrid_pool_start(numbers(*cpus), numbers(*nodes), len(cpus)))


def stop() -> None:
    """Ends all workers, after the running job; `start` begins anew, also after a failure."""
    check(library().hybrid_pool_stop())


def threads() -> int:
    """Workers there are, the calling thread among them; 1 when none was started."""
    return int(library().hybrid_pool_workers())


def use_threads(count: int) -> None:
    """How many workers this thread's calls of single ops may take from now on; 0: all there are.

    An engine says it before each pass: engines share the pool, and may have asked for fewer.
    """
    _wanted.threads = count


def job_threads() -> int:
    """Workers for one op that the calling thread starts now."""
    return min(_wanted.threads or threads(), threads())


def threads_for(weights: int) -> int:
    """The same for a job of this many decoded weights: small ones do not repay waking others."""
    return 1 if weights < SMALL_JOB_WEIGHTS else job_threads()


def reserve(nbytes: int) -> None:
    """At least this much scratch for every worker, on its own NUMA node; outside jobs only."""
    check(library().hybrid_pool_reserve(nbytes))


def set_timeout(seconds: float) -> None:
    """How long a worker may keep others waiting before it has failed; at first USUAL_TIMEOUT_S."""
    check(library().hybrid_pool_set_timeout(seconds))


def clocks(on: bool) -> None:  # noqa: FBT001
    """Workers' clocks at zero, and whether they run from now on: 50 ns a barrier of each."""
    check(library().hybrid_pool_clocks(int(on)))


def experts_seconds(count: int) -> list[float]:
    """What each of the first workers has spent in routed experts since `clocks(True)`, without
    waits for other workers.
    """
    found = (ctypes.c_double * count)()
    check(library().hybrid_pool_clocked(ctypes.addressof(found), count))
    return list(found)


def read_gb_s(threads: int, nbytes: int = READ_NBYTES) -> float:
    """Bytes per second, in 1e9, at which this many workers together read RAM: the best of five.

    nbytes   of fresh memory, each worker's part touched first by itself
    """
    with mmap.mmap(-1, nbytes) as memory:
        if hasattr(mmap, "MADV_HUGEPAGE"):
            memory.madvise(mmap.MADV_HUGEPAGE)
        buffer = (ctypes.c_char * nbytes).from_buffer(memory)
        try:
            address = ctypes.addressof(buffer)
            check(library().hybrid_pool_fill(address, nbytes, threads))
            return max(read_at_gb_s(address, nbytes, threads) for _ in range(READ_ROUNDS))
        finally:
            del buffer  # else the map cannot be closed


def read_at_gb_s(address: int, nbytes: int, threads: int) -> float:
    """The same of memory that is there, once."""
    elapsed, words = ctypes.c_double(), ctypes.c_uint64()
    told = (ctypes.addressof(elapsed), ctypes.addressof(words))
    check(library().hybrid_pool_read(address, nbytes, threads, *told))
    return nbytes / elapsed.value / 1e9


class _Spent(threading.local):
    """Of one thread: engines on several threads count their own."""

    seconds = 0.0


_spent = _Spent()


class _Wanted(threading.local):
    threads = 0


_wanted = _Wanted()
# Frames of calls in which a worker stalled, and with them the tensors it may still write to.
_given_up: list[FrameType | None] = []


def run(function: Callable[..., int], *arguments: object) -> None:
    """Calls a native function that returns an error number, and `check`s that."""
    began = perf_counter()
    code = function(*arguments)
    _spent.seconds += perf_counter() - began
    check(code)


def native_seconds() -> float:
    """Wall time that this thread has spent in functions called through `run`."""
    return _spent.seconds


def check(code: int) -> None:
    """Raises what the error number of this thread's last native call means; 0 means success.

    WorkerFailed when a worker failed, KernelInputError when the call was wrong.
    """
    if code == 0:
        return
    kind, worker = code % 256, code // 256
    if kind == _STALLED:
        _given_up.append(sys._getframe())
    said = library().hybrid_pool_error_text().decode(errors="replace")
    message = {
        _THREW: f"worker {worker} of the thread pool failed: {said}; the call can be made again",
        _ENDED: f"the thread of worker {worker} of the pool ended within a job; {_REFUSED}",
        _STALLED: f"worker {worker} of the thread pool did not answer in time: its thread was"
        f" stopped, or the machine is short of CPUs or RAM; {_REFUSED}, with fewer threads (-t)"
        " if the machine is busy",
        _NO_THREAD: f"the system gives no thread to worker {worker} of the pool; try -t {worker},"
        " or raise the limit (ulimit -u, pids.max of the cgroup)",
        _NO_MEMORY: f"there is no RAM for the scratch of worker {worker} of the pool; try fewer"
        " threads (-t) or a smaller -ub",
    }
    if kind in message:
        raise WorkerFailed(message[kind])
    wrong = {
        _TOO_FEW: f"a job asks for more threads than the {worker} of the pool",
        _NESTED: "the pool was called from within one of its jobs",
    }
    raise KernelInputError(wrong.get(kind, f"the pool does not know such an argument ({code})"))


_REFUSED = "its work is lost and the pool refuses more: start the program again"
