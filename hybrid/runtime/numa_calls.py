"""The two calls of Linux about pages and NUMA nodes: mbind says where they shall lie, move_pages
where they do.

    mbind       (address, bytes, mode, node mask, bits of it, flags)      before the first touch
    move_pages  (0, count, addresses, no nodes, result, 0)                moves nothing: asks

Called by number where that is known, so libnuma need not be installed; through libnuma elsewhere.
An error is an OSError, never a line on stderr as libnuma's own functions print it.
"""

import ctypes
import mmap
import platform
from collections import Counter
from collections.abc import Callable, Sequence
from enum import Enum

# include/uapi/asm-generic/unistd.h for all but x86
_NUMBERS = {
    "x86_64": {"mbind": 237, "move_pages": 279},
    "aarch64": {"mbind": 235, "move_pages": 239},
    "riscv64": {"mbind": 235, "move_pages": 239},
}
# include/uapi/linux/mempolicy.h; a preferred node with an empty mask is the local one
_PREFERRED, _BIND, _INTERLEAVE = 1, 2, 3
_MASK_BITS = 64

ASKED_AT_ONCE = 1 << 16
# Of large memory every 509th page is asked about: a prime, so that no interleaving hides from it.
ASKED_AT_MOST = 1 << 20
STRIDE_PAGES = 509


class NumaPolicy(str, Enum):
    INTERLEAVE = "interleave"  # pages in turn over all nodes
    SHARD = "shard"  # each node a part of every routed expert; all else interleaved
    LOCAL = "local"  # the node of the thread that touches first
    OFF = "off"  # whatever the process was started with (numactl)


def set_policy(address: int, nbytes: int, policy: NumaPolicy, nodes: Sequence[int]) -> None:
    """Decide where pages of address .. address+nbytes-1 will lie, none of them touched yet.

    address  of a page
    nodes    INTERLEAVE: in turn over these; SHARD: on these alone; else of no effect

    Raises OSError, also where the system has no such call.
    """
    if policy is NumaPolicy.OFF:
        return
    mode = {NumaPolicy.INTERLEAVE: _INTERLEAVE, NumaPolicy.SHARD: _BIND}.get(policy, _PREFERRED)
    chosen = () if mode == _PREFERRED else nodes
    words = [0] * (max(chosen, default=0) // _MASK_BITS + 1)
    for node in chosen:
        words[node // _MASK_BITS] |= 1 << node % _MASK_BITS
    mask = (ctypes.c_uint64 * len(words))(*words)
    bits = len(words) * _MASK_BITS + 1 if chosen else 0  # the kernel takes one off
    _call("mbind")(
        ctypes.c_void_p(address),
        ctypes.c_ulong(nbytes),
        ctypes.c_ulong(mode),
        ctypes.byref(mask) if chosen else None,
        ctypes.c_ulong(bits),
        ctypes.c_ulong(0),
    )


def pages_by_node(address: int, nbytes: int) -> dict[int, int]:
    """Touched pages of the range on each node, of PAGESIZE whatever they are made of; an estimate
    beyond ASKED_AT_MOST pages. Raises OSError.
    """
    stride = 1 if nbytes <= ASKED_AT_MOST * mmap.PAGESIZE else STRIDE_PAGES
    pages = range(address, address + nbytes, stride * mmap.PAGESIZE)
    ask = _call("move_pages")
    counts: Counter[int] = Counter()
    for first in range(0, len(pages), ASKED_AT_ONCE):
        some = pages[first : first + ASKED_AT_ONCE]
        addresses = (ctypes.c_uint64 * len(some))(*some)
        nodes = (ctypes.c_int * len(some))()
        ask(
            ctypes.c_int(0),
            ctypes.c_ulong(len(some)),
            addresses,
            None,
            nodes,
            ctypes.c_int(0),
        )
        counts.update(nodes)
    return {node: count * stride for node, count in counts.items() if node >= 0}  # else no page


def _call(name: str) -> Callable[..., None]:
    """The call, raising OSError for what it returns below zero."""
    function = _entry(name)

    def checked(*arguments: object) -> None:
        if function(*arguments) < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"{name}: {_meaning(number)}")

    return checked


def _entry(name: str) -> Callable[..., int]:
    number = _NUMBERS.get(platform.machine(), {}).get(name)
    if platform.system() == "Linux" and number is not None:
        syscall = ctypes.CDLL(None, use_errno=True).syscall
        syscall.restype = ctypes.c_long
        return lambda *arguments: int(syscall(ctypes.c_long(number), *arguments))
    try:
        import numa  # noqa: PLC0415  fails at import where libnuma.so is missing

        library = ctypes.CDLL(numa.LIBNUMA._name, use_errno=True)
        function = getattr(library, name)
    except (ImportError, AttributeError, OSError, TypeError) as error:
        raise OSError(0, f"{name}: libnuma is missing (install libnuma1)") from error
    function.restype = ctypes.c_long
    return lambda *arguments: int(function(*arguments))


def _meaning(number: int) -> str:
    """An error number in words, with the reason that containers have for the commonest."""
    words = {
        1: "not permitted (a container needs the capability SYS_NICE)",
        22: "refused (a node of it has no memory, or none for this process)",
        38: "this kernel has no NUMA support",
    }
    return words.get(number, f"error {number}")
