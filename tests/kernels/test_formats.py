import gguf
import pytest

from kernels.formats import BY_ID, BY_NAME, FORMATS


@pytest.mark.parametrize("known", FORMATS, ids=lambda known: known.name)
def test_ids_and_sizes_are_those_of_the_gguf_package(known):
    its_type = gguf.GGMLQuantizationType(known.ggml_id)
    assert its_type.name == known.name
    assert gguf.GGML_QUANT_SIZES[its_type] == (known.block_weights, known.block_bytes)


def test_every_format_is_found_by_name_and_by_id():
    assert len(FORMATS) == len(BY_NAME) == len(BY_ID) == 25
    assert all(BY_NAME[known.name] is BY_ID[known.ggml_id] is known for known in FORMATS)


def test_row_bytes_of_whole_blocks():
    assert BY_NAME["Q4_K"].row_bytes(7168) == 7168 // 256 * 144
    assert BY_NAME["BF16"].row_bytes(3) == 6
