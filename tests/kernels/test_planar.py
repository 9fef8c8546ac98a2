import pytest
import torch

from kernels.dequantize.cases import any_bits
from kernels.errors import KernelInputError
from kernels.formats import BY_NAME, FORMATS
from kernels.planar import PlanarTensor, planar_in_place, reference, to_blocks, to_planar
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


@pytest.mark.parametrize("name", ["Q6_K", "IQ4_NL"])
def test_planes_can_take_the_place_of_their_blocks(name):
    weight = some_blocks(BY_NAME[name], (2, 8))
    before = weight.blocks.clone()
    planar = planar_in_place(weight)
    assert planar.data.data_ptr() == weight.blocks.data_ptr()
    assert torch.equal(to_blocks(planar).blocks, before)


def test_planes_over_their_own_blocks_are_refused():
    weight = some_blocks(Q4_K)
    with pytest.raises(KernelInputError, match="planar_in_place"):
        to_planar(weight, out=weight.blocks.view(-1))


def test_planes_in_place_of_strided_blocks_are_refused():
    with pytest.raises(KernelInputError, match="strided"):
        planar_in_place(some_blocks(Q4_K)[:, 1:3])


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
