"""What a loaded engine's process holds, in the shape that the sources ask for. Imports torch."""

import mmap
from typing import TYPE_CHECKING

from hybrid.runtime.arena import HostArena
from hybrid.runtime.audit import actual_bytes
from hybrid.runtime.memory import HostMemory
from placement.report.audit import TOTAL

if TYPE_CHECKING:
    from hybrid.runtime.engine import Engine


def held_bytes(engine: "Engine") -> dict[str, int]:
    """Bytes by device; nothing when a GPU that is lost refuses to tell."""
    try:
        found = actual_bytes(engine)
    except (RuntimeError, OSError):
        return {}
    return {name: held.get(TOTAL, sum(held.values())) for name, held in found.items()}


def ours_by_node(engine: "Engine") -> dict[int, int]:
    """Bytes of arenas by NUMA node, as the kernel placed them: walks page tables, so ask once."""
    pages: dict[int, int] = {}
    for memory in engine.memories.values():
        for arena in _arenas(memory) if isinstance(memory, HostMemory) else ():
            found = arena.placement()
            for node, count in found.pages_per_node.items() if found else ():
                pages[node] = pages.get(node, 0) + count
    return {node: count * mmap.PAGESIZE for node, count in pages.items()}


def _arenas(memory: HostMemory) -> list[HostArena]:
    alone = [memory.arena] if memory.arena is not None else []
    return [*alone, *memory.bound.values(), *memory.caches.values()]
