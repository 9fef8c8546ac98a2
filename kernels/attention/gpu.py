"""Decode: absorbed attention over the latent cache, cut into splits of the context, and their merge.

One program holds a group of heads (16, 32 or 64: queries [group, latent + rope] in shared memory)
and walks one split of the cached rows. A tile of rows is loaded once: it is the keys, and its
first columns are the values.

    grid (splits, head groups, tokens)          grid (heads, columns / COLUMNS, tokens)
    split 0 |rows 0 .. n-1 | -> partial 0 \\
    split 1 |rows n ..     | -> partial 1  } -> merge: weights 2^(max_i - max) of every split
    surplus |               |    untouched /

Lengths are device memory and the grid is that of the longest context, so a captured graph is
replayed while the context grows; surplus programs end at once. How many splits a length has is
the formula of `Splits`; whoever merges evaluates the same one.
"""

import triton
import triton.language as tl
from torch import Tensor

from kernels.attention.gpu_plan import Tiles, granule, needed_bytes, row_columns, splits_of, tiles_of
from kernels.errors import KernelInputError
