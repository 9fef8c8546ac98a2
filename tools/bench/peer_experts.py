"""The peer's side of `tools/bench/kernels.py --peer`: row products of ik_llama.cpp's wheel.

Run by an interpreter that has the wheel; needs nothing else. Reads a line of JSON per question:

    format, rows, columns   of one matrix: ggml id, rows, weights of a row
    copies                  of the matrix in memory, all of them read in a pass
    cpus                    one thread on each
    seconds                 about how long to measure; at least one pass is made
    blocks, x, y            files: the matrix, one token of float32, and where to leave its product

and answers {"seconds": of a pass}, {"error": why not this format} or {"fatal": why not at all}; an
empty question asks whether the library is there.

Activations are rounded by the library's own function for the type that its product takes. A pass is
one call a thread, for its part of the rows of all copies: nothing of Python is in the figure.
"""

import ctypes
import importlib.util
import json
import mmap
import os
import sys
import threading
import time
from pathlib import Path

HUGE_PAGE_BYTES = 2 << 20
TRAITS_BYTES = 256  # more than the record has

# Offsets in the record of a type: its functions and the type of the other factor.
FROM_FLOAT, VEC_DOT_TYPE = 48, 80


class InitParameters(ctypes.Structure):
    _fields_ = (
        ("nbytes", ctypes.c_size_t),
        ("memory", ctypes.c_void_p),
        ("no_allocation", ctypes.c_bool),
    )


class Library:
    """libggml of the wheel, found without importing it."""

    def __init__(self) -> None:
        spec = importlib.util.find_spec("ik_llama_cpp")
        if spec is None or spec.origin is None:
            raise OSError("ik_llama_cpp is not installed there: pip install ik_llama_cpp")
        found = sorted(Path(spec.origin).parent.glob("**/libggml*.so*"))
        if not found:
            raise OSError(f"no libggml in {Path(spec.origin).parent}")
        self._library = ctypes.CDLL(str(found[0]))
        self._library.ggml_init.restype = ctypes.c_void_p
        self._library.ggml_init(InitParameters(1 << 20, None, True))  # fills its float16 table
        size, number, pointer = ctypes.c_long, ctypes.c_int, ctypes.c_void_p
        self._library.ggml_row_size.restype = ctypes.c_size_t
        self._library.ggml_row_size.argtypes = [number, ctypes.c_int64]
        self.multiply = self._library.iqk_mul_mat
        self.multiply.restype = ctypes.c_bool
        self.multiply.argtypes = [
            *(size, size, size, number, pointer, size),
            *(number, pointer, size, pointer, size, number, number),
        ]

    def rounded(self, format_id: int, x: ctypes.Array, columns: int) -> "tuple[int, ctypes.Array]":
        """The type that products with this format take, and x as that.

        Raises LookupError when the library has no such format.
        """
        other = int.from_bytes(self._traits(format_id)[VEC_DOT_TYPE : VEC_DOT_TYPE + 4], "little")
        convert = int.from_bytes(self._traits(other)[FROM_FLOAT : FROM_FLOAT + 8], "little")
        if not other or not convert:
            raise LookupError("it has no products of rounded activations with it")
        out = (ctypes.c_char * (self._library.ggml_row_size(other, columns) + 4096))()
        signature = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
        signature(convert)(ctypes.addressof(x), ctypes.addressof(out), columns)
        return other, out

    def row_bytes(self, type_id: int, columns: int) -> int:
        return self._library.ggml_row_size(type_id, columns)

    def _traits(self, type_id: int) -> bytes:
        record = (ctypes.c_char * TRAITS_BYTES)()
        self._library.ggml_internal_get_type_traits(record, ctypes.c_int(type_id))
        return bytes(record)


class Memory:
    """Huge pages that are kept between questions."""

    def __init__(self) -> None:
        self.nbytes, self.address, self._kept = 0, 0, None

    def of(self, nbytes: int) -> int:
        if nbytes > self.nbytes:
            memory = mmap.mmap(-1, nbytes + HUGE_PAGE_BYTES, flags=mmap.MAP_PRIVATE)
            memory.madvise(mmap.MADV_HUGEPAGE)
            first = ctypes.addressof(ctypes.c_char.from_buffer(memory))
            self._kept, self.nbytes = memory, nbytes
            self.address = first + -first % HUGE_PAGE_BYTES
        return self.address


def main() -> None:
    memory, library, filled = Memory(), None, ()
    for line in sys.stdin:
        question = json.loads(line)
        try:
            library = library or Library()
            wanted = tuple(map(question.get, ("format", "rows", "columns", "copies")))
            answer = answered(library, memory, question, wanted != filled) if question else {}
            filled = wanted
        except LookupError as error:
            answer = {"error": str(error)}
        except (OSError, AttributeError) as error:
            answer = {"fatal": str(error)}
        print(json.dumps(answer), flush=True)


def answered(library: Library, memory: Memory, question: dict, fill: bool) -> dict:
    rows, columns, format_id = question["rows"], question["columns"], question["format"]
    blocks = Path(question["blocks"]).read_bytes()
    x = (ctypes.c_float * columns).from_buffer_copy(Path(question["x"]).read_bytes())
    other, rounded = library.rounded(format_id, x, columns)
    address = memory.of(len(blocks) * question["copies"])
    if fill:
        for copy in range(question["copies"]):
            ctypes.memmove(address + copy * len(blocks), blocks, len(blocks))
    count, every = len(question["cpus"]), rows * question["copies"]
    y = (ctypes.c_float * every)()
    which = (
        *(every, 1, columns, format_id, address, len(blocks) // rows, other),
        *(ctypes.addressof(rounded), library.row_bytes(other, columns), ctypes.addressof(y), every),
    )
    seconds, done = timed(library, which, question["cpus"], 1)
    if not done:
        raise LookupError("iqk_mul_mat does not take it")
    passes = int(question["seconds"] / seconds)
    if passes:
        seconds, done = timed(library, which, question["cpus"], passes)
    Path(question["y"]).write_bytes(bytes(y)[: 4 * rows])
    return {"seconds": seconds / max(1, passes), "threads": count}


def timed(library: Library, which: tuple, cpus: "list[int]", passes: int) -> "tuple[float, bool]":
    """From the first thread's begin to the last one's end; whether all calls were taken."""
    barrier = threading.Barrier(len(cpus))
    times: list[tuple[float, float, bool]] = []

    def run(index: int) -> None:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {cpus[index]})
        barrier.wait()
        begin, done = time.perf_counter(), True
        for _ in range(passes):
            done = library.multiply(*which, index, len(cpus)) and done
        times.append((begin, time.perf_counter(), done))

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(cpus))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = max(end for _, end, _ in times) - min(begin for begin, _, _ in times)
    return taken, all(done for *_, done in times)


if __name__ == "__main__":
    main()
