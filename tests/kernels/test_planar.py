import pytest
import torch

from kernels.dequantize.cases import any_bits
from kernels.errors import KernelInputError
from kernels.formats import BY_NAME, FORMATS
from kernels.planar import (
    PlanarTensor,
    as_in_file,
    gpu,
    place_rows,
    prepare_place_rows,
    reference,
    to_blocks,
    to_planar,
)
from tests.kernels.aot import CAPABILITIES, cuda_resources
from tools import make_codebook_headers

every_format = pytest.mark.parametrize("known", FORMATS, ids=lambda known: known.name)
Q4_K = BY_NAME["Q4_K"]


def some_blocks(known, leading=(3, 5), blocks=3):
    return any_bits(known, (*leading, known.block_weights * blocks))


@every_format
def test_every_bit_of_a_block_has_its_own_place_in_the_planes(known):
    assert sum(reference.plane_bytes(known.name)) == known.block_bytes
    places = reference.bit_sources(known.name)
    assert sorted(places.tolist()) == list(range(8 * known.block_bytes))


@every_format
@pytest.mark.parametrize("piece", [1, 1 << 22])
def test_blocks_come_back_whatever_the_pieces(known, piece, monkeypatch):
    monkeypatch.setattr(reference, "PIECE_WEIGHTS", piece)
    weight = some_blocks(known)
    planar = to_planar(weight)
    assert planar.nbytes == weight.nbytes == planar.data.numel()
    assert planar.shape == weight.shape
    assert torch.equal(to_blocks(planar).blocks, weight.blocks)


@every_format
def test_planes_begin_aligned_to_what_is_read_of_them(known):
    """An odd number of blocks moves a plane by its bytes per block times an odd number."""
    begin = 0
    for width in reference.plane_bytes(known.name):
        widest = min(16, width & -width)
        assert begin % widest == 0, f"{width} bytes a block, {begin} in front"
        begin += width


@pytest.mark.parametrize("name", ["Q8_0", "Q4_K", "F16"])
def test_a_cut_shares_memory_and_keeps_its_rows(name):
    weight = some_blocks(BY_NAME[name], (6, 5))
    planar = to_planar(weight)
    cut = planar[1:5][2:3]
    assert cut.data.data_ptr() == planar.data.data_ptr()
    assert cut.shape == (1, 5, weight.columns)
    assert cut.record().first_row == 15
    assert cut.record().rows == 5
    assert torch.equal(to_blocks(cut).blocks, weight.blocks[3:4])


def test_a_cut_of_a_matrix_counts_rows():
    weight = some_blocks(Q4_K, (7,))
    assert torch.equal(to_blocks(to_planar(weight)[2:6]).blocks, weight.blocks[2:6])


def test_a_cut_with_steps_is_refused():
    with pytest.raises(KernelInputError, match="step"):
        to_planar(some_blocks(Q4_K))[::2]


def test_strided_heads_are_sorted_as_if_they_stood_alone():
    heads = some_blocks(Q4_K, (4, 6))[:, 2:5]
    assert torch.equal(to_blocks(to_planar(heads)).blocks, heads.blocks)


def test_planes_over_their_own_blocks_are_refused():
    weight = some_blocks(Q4_K)
    with pytest.raises(KernelInputError, match="own memory"):
        to_planar(weight, out=weight.blocks.view(-1))


def empty_planes(weight, device="cpu"):
    data = torch.full((weight.nbytes,), 0xA5, dtype=torch.uint8, device=device)
    rows = weight.nbytes // weight.format.row_bytes(weight.columns)
    return PlanarTensor(data, weight.format, weight.shape, rows)


def rows_of(weight, first, count, device="cpu"):
    rows = weight.blocks.flatten(0, -2)[first : first + count].to(device)
    return type(weight)(rows, weight.format, weight.columns)


ARRIVING = [(6, 5), (0, 2), (11, 4), (2, 4)]  # first row and rows of each piece, out of order


@every_format
def test_rows_placed_piece_by_piece_are_what_the_whole_gives(known):
    weight = some_blocks(known)
    planar = empty_planes(weight)
    for first, count in ARRIVING:
        place_rows(planar, first, rows_of(weight, first, count))
    assert torch.equal(planar.data, to_planar(weight).data)


@every_format
def test_the_kernel_places_what_the_reference_places(known):
    weight = some_blocks(known, blocks=max(3, 32 // known.block_weights))
    per_row = weight.columns // known.block_weights
    planar = empty_planes(weight)
    for first, count in ARRIVING:
        rows = rows_of(weight, first, count)
        gpu.split_into(rows.blocks.view(-1), known, planar.data, first * per_row)
    assert torch.equal(planar.data, to_planar(weight).data)


def test_a_kernel_of_many_blocks_takes_each_once():
    """More blocks than a block of threads holds, and a last one that is not full."""
    weight = some_blocks(BY_NAME["Q5_0"], (3, 2 * gpu.BLOCKS + 1), 1)
    planar = empty_planes(weight)
    gpu.split_into(weight.blocks.view(-1), weight.format, planar.data, 0)
    assert torch.equal(planar.data, to_planar(weight).data)


@pytest.mark.parametrize("name", ["Q6_K", "F16"])
def test_rows_are_placed_in_a_cut_and_nowhere_else(name):
    weight = some_blocks(BY_NAME[name], (6, 5))
    planar = empty_planes(weight)
    place_rows(planar[2:4], 3, rows_of(weight, 13, 4))
    expected = type(weight)(torch.full_like(weight.blocks, 0xA5), weight.format, weight.columns)
    expected = to_blocks(empty_planes(expected)).blocks.flatten(0, -2)
    expected[13:17] = rows_of(weight, 13, 4).blocks
    assert torch.equal(to_blocks(planar).blocks.flatten(0, -2), expected)


@pytest.mark.parametrize(
    ("first", "rows"),
    [
        (12, some_blocks(Q4_K, (4,))),
        (-1, some_blocks(Q4_K, (4,))),
        (0, some_blocks(Q4_K, (4,), 2)),
        (0, some_blocks(BY_NAME["Q5_K"], (4,))),
        (0, some_blocks(Q4_K, (2, 2))),
        (0, some_blocks(Q4_K, (8,))[::2]),
    ],
    ids=["beyond", "before", "columns", "format", "leading", "strided"],
)
def test_rows_that_do_not_fit_are_not_placed(first, rows):
    planar = empty_planes(some_blocks(Q4_K))
    with pytest.raises(KernelInputError, match="rows"):
        place_rows(planar, first, rows)
    assert (planar.data == 0xA5).all()


def test_rows_in_the_planes_own_memory_are_refused():
    weight = some_blocks(Q4_K, (15,))
    planar = empty_planes(weight)
    own = type(weight)(planar.data.view(15, -1)[3:5], Q4_K, weight.columns)
    with pytest.raises(KernelInputError, match="own memory"):
        place_rows(planar, 3, own)


@every_format
def test_a_format_is_as_in_the_file_when_its_planes_are_its_blocks(known):
    weight = some_blocks(known)
    same = torch.equal(to_planar(weight).data, weight.blocks.view(-1))
    assert as_in_file(known) == same == (known.block_weights == 1)


@pytest.mark.parametrize("capability", CAPABILITIES, ids=str)
def test_no_gpu_spills_registers(capability):
    needs = cuda_resources("planar/gpu.cu", [gpu.KERNEL], capability)[gpu.KERNEL]
    assert needs.spill_bytes == needs.stack_bytes == 0


@pytest.mark.parametrize(
    "out",
    [
        torch.empty(10, dtype=torch.uint8),
        torch.empty(15 * 3 * 144, dtype=torch.int8),
        torch.empty(15 * 3 * 144 + 1, dtype=torch.uint8)[1:],
        torch.empty(15 * 3 * 144, dtype=torch.uint8, device="meta"),
    ],
    ids=["bytes", "dtype", "alignment", "device"],
)
def test_an_out_that_does_not_fit_is_refused(out):
    with pytest.raises(KernelInputError):
        to_planar(some_blocks(Q4_K), out=out)


def test_rows_beyond_the_planes_are_refused():
    data = torch.empty(3 * 144, dtype=torch.uint8)
    with pytest.raises(KernelInputError, match="rows 2 to 4 of 3"):
        PlanarTensor(data, Q4_K, (2, 256), total_rows=3, first_row=2)


@pytest.mark.parametrize("name", make_codebook_headers.FILES)
def test_codebook_headers_are_what_gguf_says(name):
    text = (make_codebook_headers.FOLDER / name).read_text(encoding="utf-8")
    assert text == make_codebook_headers.header(name)


@pytest.mark.gpu
@every_format
def test_a_gpu_sorts_as_the_cpu_does(known):
    weight = some_blocks(known)
    on_gpu = type(weight)(weight.blocks.cuda(), known, weight.columns)
    planar = to_planar(on_gpu)
    assert torch.equal(planar.data.cpu(), to_planar(weight).data)
    assert torch.equal(to_blocks(planar).blocks.cpu(), weight.blocks)


@pytest.mark.gpu
def test_a_large_tensor_is_sorted_with_few_temporaries():
    blocks = torch.zeros(1 << 16, 16 * 144, dtype=torch.uint8, device="cuda")
    weight = type(some_blocks(Q4_K))(blocks, Q4_K, 4096)
    out = torch.empty(weight.nbytes, dtype=torch.uint8, device="cuda")
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    to_planar(weight, out=out)
    assert torch.cuda.max_memory_allocated() - before < 2 * reference.PIECE_BYTES


@pytest.mark.gpu
@every_format
def test_a_gpu_places_rows_as_the_cpu_does(known):
    weight = some_blocks(known)
    planar = empty_planes(weight, "cuda")
    prepare_place_rows(planar.device)
    for first, count in ARRIVING:
        place_rows(planar, first, rows_of(weight, first, count, "cuda"))
    assert torch.equal(planar.data.cpu(), to_planar(weight).data)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["Q4_K", "Q8_0", "IQ4_NL"])
def test_a_gpu_places_rows_without_memory_of_its_own(name):
    weight = some_blocks(BY_NAME[name], (1 << 12,), 8)
    planar = empty_planes(weight, "cuda")
    rows = rows_of(weight, 0, 1 << 12, "cuda")
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    place_rows(planar, 0, rows)
    assert torch.cuda.max_memory_allocated() == before
    assert torch.equal(planar.data.cpu(), to_planar(weight).data)
