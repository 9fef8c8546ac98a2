"""Launches `prepare.cu`: cache rows, rotated queries and absorbed queries of a decode step."""

import ctypes

import torch

from kernels.cuda import Program, Record
from kernels.errors import KernelInputError
from kernels.latent_block.gpu_records import (
    THREADS,
    Angles,
    AnglesRecord,
    NewRows,
    NewRowsRecord,
    Queries,
    check,
    check_devices,
    format_struct,
    input_bytes,
    power_of_two_in,
    processors,
    token_class,
    unit_weights,
)
from kernels.planar import MatrixRecord, PlanarTensor

PROGRAM = Program("latent_block/prepare.cu")
CACHE_FORMATS = ("F32", "F16", "BF16", "Q8_0")
BLOCKS_PER_PROCESSOR = 2
MOST_PASSES = 8  # rows of a tile, one after the other, that a thread takes part in
UNTRANSPOSED_ROWS, UNTRANSPOSED_PITCH = 128, 33  # kRows, kPitch of absorb_untransposed


class PrepareRecord(Record):
    _fields_ = [
        ("key", MatrixRecord),
        ("q", ctypes.c_void_p),
        ("q_latent", ctypes.c_void_p),
        ("fresh", NewRowsRecord),
        ("angles", AnglesRecord),
        ("tokens", ctypes.c_int32),
        ("heads", ctypes.c_int32),
        ("nope", ctypes.c_int32),
        ("head_rows", ctypes.c_int32),
        ("rope_blocks", ctypes.c_int32),
        ("tiles", ctypes.c_int32),
        ("tile_values", ctypes.c_int32),
        ("lane_bits", ctypes.c_int32),
    ]


def prepare(
    queries: Queries, fresh: NewRows, angles: Angles, *, tile_values: int | None = None
) -> None:
    """One launch between the projections and the attention of a decode step:

        cache[rows[t]] = (rms_norm(kv[t, :latent]) norm, rotated kv[t, latent:]), converted
        absorbed[t, h] = (W_key[h] transposed q[t, h, :nope], rotated q[t, h, nope:])

    queries, fresh, angles   see their classes; 1 to 8 tokens, all on one device
    tile_values              latent values of a head that a block takes; None: by the device

    Weights of blocks where the key is `transposed` meet queries rounded to int8 by 32, as
    activations of any product are; else float32. Cache rows are rounded to nearest even; Q8_0 rows
    are those of `kernels.quantize`. CPU tensors are emulated, for tests.

    Does not wait for the GPU. Raises KernelInputError when shapes, dtypes or devices do not fit.
    Source: DeepSeek-V2 report, section 2.1.2; pairs of the rotation as in `kernels.rope`.
    """
    tokens, heads, length = queries.absorbed.shape
    key, device = queries.key, queries.absorbed.device
    _check(queries, fresh, angles)
    rope = 2 * len(angles.frequency)
    latent = length - rope
    nope = queries.q.shape[-1] - rope
    lanes, tile_values = _tile(queries, latent, tile_values)
    record = PrepareRecord(
        key=key.record(),
        q=queries.q.data_ptr(),
        q_latent=queries.absorbed.data_ptr(),
        fresh=_new_rows_record(fresh, latent),
        angles=AnglesRecord(
            angles.positions.data_ptr(), angles.frequency.data_ptr(), angles.amplitude, rope
        ),
        tokens=tokens,
        heads=heads,
        nope=nope,
        head_rows=key.head_rows,
        rope_blocks=-(-tokens * heads * rope // 2 // THREADS),
        tiles=-(-latent // tile_values),
        tile_values=tile_values,
        lane_bits=lanes.bit_length() - 1,
    )
    name = kernel_name(key.weight, queries.transposed, token_class(tokens))
    blocks = tokens + record.rope_blocks + heads * record.tiles
    PROGRAM.kernel(name, device).launch(
        (blocks, 1, 1), THREADS, record, _shared_bytes(queries, nope, length)
    )


def kernel_name(weight: PlanarTensor, transposed: bool, tokens: int) -> str:
    form = "true" if transposed else "false"
    return f"prepare<{format_struct(weight)}, {form}, {tokens}, {THREADS}>"


def _tile(queries: Queries, latent: int, tile_values: int | None) -> tuple[int, int]:
    """Lanes of a row and latent values of a tile."""
    if not queries.transposed:
        return 1, 32
    weight = queries.key.weight
    lanes = min(32, power_of_two_in(-(-weight.columns // unit_weights(weight))))
    at_once = THREADS // lanes
    if tile_values is None:
        wanted = BLOCKS_PER_PROCESSOR * processors(weight.device)
        passes = queries.key.heads * latent // (at_once * wanted)
        tile_values = at_once * min(max(passes, 1), MOST_PASSES)
    return lanes, tile_values


def _shared_bytes(queries: Queries, nope: int, length: int) -> int:
    tokens = token_class(len(queries.q))
    row_bytes = 4 * (-(-length // 32) * 32)
    if queries.transposed:
        return max(row_bytes, tokens * input_bytes(queries.key.weight, nope))
    floats = UNTRANSPOSED_ROWS * UNTRANSPOSED_PITCH + THREADS * tokens + tokens * nope
    return max(row_bytes, 4 * floats)


def _new_rows_record(fresh: NewRows, latent: int) -> NewRowsRecord:
    return NewRowsRecord(
        kv=fresh.kv.data_ptr(),
        norm=fresh.norm.data_ptr(),
        rows=fresh.rows.data_ptr(),
        cache=fresh.cache.rows.data_ptr(),
        row_bytes=fresh.cache.rows.stride(0),
        epsilon=fresh.epsilon,
        latent=latent,
        format=fresh.cache.format.ggml_id,
    )


def _check(queries: Queries, fresh: NewRows, angles: Angles) -> None:
    tokens, heads, length = queries.absorbed.shape
    rope, key = 2 * len(angles.frequency), queries.key
    latent = length - rope
    key_latent, nope = key.count, key.weight.columns
    if not queries.transposed:
        key_latent, nope = nope, key_latent
    if (key.heads, key_latent) != (heads, latent):
        raise KernelInputError(
            f"a key of {key.heads} heads and {key_latent} latent values cannot absorb queries into"
            f" {tuple(queries.absorbed.shape)} with {rope} rotated values"
        )
    check("q", queries.q, torch.float32, (tokens, heads, nope + rope))
    check("absorbed", queries.absorbed, torch.float32, (tokens, heads, length))
    check("kv", fresh.kv, torch.float32, (tokens, length))
    check("norm", fresh.norm, torch.float32, (latent,))
    check("rows", fresh.rows, torch.int64, (tokens,))
    check("positions", angles.positions, torch.int32, (tokens,))
    check("frequency", angles.frequency, torch.float64, (rope // 2,))
    _check_cache(fresh, length)
    check_devices(
        queries.absorbed.device,
        q=queries.q,
        key=key.weight.data,
        kv=fresh.kv,
        norm=fresh.norm,
        cache=fresh.cache.rows,
        rows=fresh.rows,
        positions=angles.positions,
        frequency=angles.frequency,
    )


def _check_cache(fresh: NewRows, length: int) -> None:
    rows, known = fresh.cache.rows, fresh.cache.format
    if known.name not in CACHE_FORMATS:
        raise KernelInputError(f"a cache is {', '.join(CACHE_FORMATS)}, not {known.name}")
    wanted = known.row_bytes(-(-length // known.block_weights) * known.block_weights)
    word = 4 if known.name == "F32" else 2
    if rows.dtype != torch.uint8 or rows.dim() != 2 or rows.shape[1] != wanted:
        raise KernelInputError(
            f"cache rows of {length} {known.name} values are uint8 [capacity, {wanted}],"
            f" not {rows.dtype} {tuple(rows.shape)}"
        )
    if rows.stride(1) != 1 or rows.stride(0) % word or rows.data_ptr() % word:
        raise KernelInputError(f"cache rows must begin at multiples of {word} bytes")
