"""Every format in every tier: decoding, and dot products with rounded activations."""

import gguf
import numpy as np
import pytest
import torch

from kernels.dequantize import cases, dequantize
from kernels.formats import FORMATS
from kernels.native.library import library
from kernels.native.tiers import NAMES
from kernels.testing import assert_same_bits

RUN, RUN_BYTES = 256, 320  # of activations.h
QUANTISED = [known for known in FORMATS if known.block_weights > 1]

every_tier = pytest.mark.parametrize("tier", NAMES)
every_format = pytest.mark.parametrize("known", QUANTISED, ids=lambda known: known.name)


def number_of(tier):
    number = NAMES.index(tier)
    if not library().hybrid_has_tier(number):
        pytest.skip(f"this processor has no tier {tier}")
    return number


def rounded_by_rule(x, width):
    """scale = largest / 127 of each `width`, numbers round(x / scale), ties to even; float64."""
    rows, columns = x.shape
    parts = x.reshape(rows, columns // width, width)
    scale = np.abs(parts).max(axis=2, keepdims=True) / np.float32(127)
    with np.errstate(divide="ignore"):
        inverse = np.where(scale != 0, np.float32(1) / scale, np.float32(0))
    return (np.rint(parts * inverse).astype(np.float64) * scale).reshape(rows, columns)


def dot_rounded(tier, weight, x):
    """[tokens, rows] of the library; what it must not touch is checked here."""
    tokens, columns = x.shape
    rows = weight.shape[0]
    room = torch.full((tokens * -(-columns // RUN) * RUN_BYTES + 64,), 0xA5, dtype=torch.uint8)
    runs = (room.data_ptr() + 63) // 64 * 64
    library().hybrid_round(
        tier, weight.format.ggml_id, x.ctypes.data, columns, columns, tokens, runs
    )
    y = torch.full((tokens, rows + 2), -7.0)
    library().hybrid_dot_rounded(
        tier,
        weight.format.ggml_id,
        weight.blocks.data_ptr(),
        weight.blocks.stride(0),
        0,
        rows,
        columns,
        runs,
        tokens,
        y.data_ptr(),
        rows + 2,
    )
    assert bool((y[:, rows:] == -7).all())
    return y[:, :rows].double().numpy()


def activations(tokens, columns):
    x = np.random.default_rng(tokens).normal(size=(tokens, columns)).astype(np.float32)
    x[0, : columns // 2] *= 100  # blocks of unlike scales
    x[-1, -32:] = 0  # and one of none
    return x


@every_tier
@every_format
@pytest.mark.parametrize("blocks", [1, 2, 3, 4, 5, 6, 7, 8, 9, 44])
def test_rounded_dot_products_are_those_of_decoded_weights(known, tier, blocks):
    tier = number_of(tier)
    columns = blocks * known.block_weights
    for rows, tokens in ((1, 1), (3, 2), (1, 3), (7, 4), (3, 5), (1, 9), (7, 6), (3, 7), (1, 8)):
        weight = cases.like_weights(known, (rows, columns), seed=rows + tokens)
        x = activations(tokens, columns)
        got = dot_rounded(tier, weight, x)
        rounded = rounded_by_rule(x, 32 if known.block_weights == 32 else 256)
        exact = dequantize(weight).double().numpy()
        allowed = 2e-6 * (np.abs(rounded) @ np.abs(exact).T)
        assert (np.abs(got - rounded @ exact.T) <= allowed).all(), (rows, tokens)


@every_tier
@every_format
def test_the_largest_numbers_do_not_overflow(known, tier):
    """Every bit set or none, against the largest activations: sums of products at their ends."""
    tier = number_of(tier)
    columns = 8 * known.block_weights
    weight = cases.like_weights(known, (32, columns))
    blocks = weight.blocks.view(32, 8, known.block_bytes)
    kept = blocks.clone()
    blocks[:16], blocks[16:] = 0xFF, 0
    for at in cases.HALVES_AT.get(known.name, ()):
        blocks[:, :, at : at + 2] = kept[:, :, at : at + 2]
    if known.name == "MXFP4":
        blocks[:, :, 0] = 120
    if known.name == "IQ1_M":
        blocks[:, :, 49:56:2] = kept[:, :, 49:56:2] & 0xF0 | blocks[:, :, 49:56:2] & 0x0F
    for sign in (1, -1):
        x = np.full((2, columns), sign, dtype=np.float32)
        exact = dequantize(weight).double().numpy()
        expected = rounded_by_rule(x, columns) @ exact.T
        allowed = 2e-6 * (np.abs(x.astype(np.float64)) @ np.abs(exact).T)
        assert (np.abs(dot_rounded(tier, weight, x) - expected) <= allowed).all()


@every_tier
@every_format
def test_every_tier_sums_nearly_as_the_scalar_one(known, tier):
    tier = number_of(tier)
    weight = cases.like_weights(known, (7, 44 * known.block_weights))
    x = activations(5, weight.columns)
    scalar = dot_rounded(0, weight, x)
    assert np.abs(dot_rounded(tier, weight, x) - scalar).max() <= 2e-6 * np.abs(scalar).max()


@every_tier
@every_format
def test_a_token_has_the_same_bits_alone_and_among_others(known, tier):
    tier = number_of(tier)
    weight = cases.like_weights(known, (3, 9 * known.block_weights))
    x = activations(7, weight.columns)
    together = dot_rounded(tier, weight, x)
    for token in range(7):
        assert (dot_rounded(tier, weight, x[token : token + 1].copy()) == together[token]).all()


@every_tier
@pytest.mark.parametrize("known", FORMATS, ids=lambda known: known.name)
def test_every_tier_decodes_as_the_gguf_package(known, tier):
    tier = number_of(tier)
    weight = cases.any_bits(known, (33, 3 * known.block_weights), seed=1)
    got = torch.empty(weight.shape)
    failed = library().hybrid_dequantize(
        tier,
        1,  # thread
        known.ggml_id,
        weight.blocks.data_ptr(),
        0,
        33,
        weight.blocks.stride(0),
        33,
        weight.columns,
        got.data_ptr(),
    )
    assert not failed
    with np.errstate(all="ignore"):
        expected = gguf.quants.dequantize(
            weight.blocks.numpy(), gguf.GGMLQuantizationType(known.ggml_id)
        )
    assert_same_bits(got, torch.from_numpy(np.array(expected)).view(weight.shape))
