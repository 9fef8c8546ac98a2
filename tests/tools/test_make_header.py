from collections import Counter

import pytest

import hybrid
from hybrid.gguf import GgufFile
from hybrid.runtime.options import LoadOptions
from hybrid.runtime.prepare import prepare
from kernels.formats import BY_NAME
from tests.cpu_time import computed_within
from tools.make_header import PRESETS, main, make_header

GIB = 1 << 30


@pytest.mark.parametrize("preset", PRESETS)
def test_a_header_opens_plans_and_does_not_load(preset, tmp_path):
    path = make_header(tmp_path / "header.gguf", preset)
    assert path.stat().st_size < 1 << 20
    options = {"devices": ("none",), "budgets": {"CPU": 2048 * GIB}}
    plan = prepare(path, LoadOptions(**options)).plan
    assert sum(a.nbytes for a in plan.assignments) == plan.model_bytes
    with pytest.raises(hybrid.HybridError, match="is cut"):
        hybrid.load(path, **options)


def test_deepseek_r1_has_its_published_tensors_and_plans_on_sixteen_gpus(tmp_path):
    path = make_header(tmp_path / "r1.gguf")
    with GgufFile.open(path) as file:
        assert len(file.tensors) == 1086
        assert file.tensors["blk.60.ffn_down_exps.weight"].shape == (256, 7168, 2048)
    options = LoadOptions(
        simulate={f"CUDA{i}": 24 * GIB for i in range(16)},
        budgets={"CPU": 512 * GIB},
    )
    plan = computed_within(2.0, lambda: prepare(path, options)).plan
    assert len(set(plan.layers)) == 16


def formats(path) -> Counter:
    with GgufFile.open(path) as file:
        return Counter(tensor.format.name for tensor in file.tensors.values())


def bytes_of(path, *words: str) -> int:
    with GgufFile.open(path) as file:
        found = [t for t in file.tensors.values() if any(word in t.name for word in words)]
        return sum(tensor.nbytes for tensor in found)


def test_q4_k_m_has_the_formats_of_the_published_files(tmp_path):
    path = make_header(tmp_path / "r1.gguf", joined=True)
    assert formats(path) == {"F32": 361, "Q4_K": 606, "Q6_K": 58}
    assert round(bytes_of(path, "") / GIB) == 377
    path = make_header(tmp_path / "apart.gguf")
    assert formats(path) == {"F32": 361, "Q4_K": 545, "Q6_K": 58, "Q8_0": 122}


def test_q2_k_xl_has_the_formats_and_bytes_of_the_published_file(tmp_path):
    path = make_header(tmp_path / "r1.gguf", matrix_type="Q2_K_XL", joined=True)
    assert formats(path) == {"F32": 361, "Q2_K": 171, "Q3_K": 3, "Q4_K": 306, "Q6_K": 184}
    assert bytes_of(path, "_exps.") == 205716 << 20  # as its users' logs have it
    assert round(bytes_of(path, "token_embd") / (1 << 20), 2) == 497.11


def test_kimi_k2_has_its_published_tensors(tmp_path):
    with GgufFile.open(make_header(tmp_path / "k2.gguf", "kimi-k2")) as file:
        assert len(file.tensors) == 1096


@pytest.mark.parametrize("name", BY_NAME)
def test_every_format_that_is_read_can_be_asked_for(name, tmp_path):
    main(["deepseek-v2-lite", str(tmp_path / "header.gguf"), "--type", name])
    with GgufFile.open(tmp_path / "header.gguf") as file:
        assert file.tensors["blk.1.ffn_gate_exps.weight"].format.name == name


@pytest.mark.parametrize("name", ["FOO", "I32", "q4_k"])
def test_another_format_is_a_usage_error_that_lists_the_formats(name, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["deepseek-v2-lite", str(tmp_path / "header.gguf"), "--type", name])
    assert "IQ4_NL" in capsys.readouterr().err
    assert not (tmp_path / "header.gguf").exists()
