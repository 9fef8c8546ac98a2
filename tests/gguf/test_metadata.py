from pathlib import Path

import pytest

from hybrid.errors import GgufError
from hybrid.gguf import GgufFile
from tests.gguf.writer import ARRAY, STRING, U8, U32, Counts, Key, gguf_bytes, sample_keys

EXPECTED = {
    "general.architecture": "deepseek2",
    "general.name": "sample",
    "a.u8": 200,
    "a.i8": -100,
    "a.u16": 60000,
    "a.i16": -30000,
    "a.u32": 4_000_000_000,
    "a.i32": -2_000_000_000,
    "a.f32": 0.5,
    "a.bool": True,
    "a.u64": 1 << 63,
    "a.i64": -(1 << 62),
    "a.f64": 1e300,
    "a.tokens": ["a", "", "Ġ東京", "\U0001f600"],
    "a.scores": [0.0, -1.5, 2.25],
    "a.types": [1, -2, 3],
    "a.flags": [True, False],
    "a.nested": [[1, 2], ["x"], []],
}


def opened(folder: Path, content: bytes) -> GgufFile:
    path = folder / "model.gguf"
    path.write_bytes(content)
    return GgufFile.open(path)


@pytest.fixture
def sample(tmp_path: Path) -> GgufFile:
    return opened(tmp_path, gguf_bytes(sample_keys()))


@pytest.mark.parametrize("version", [2, 3])
def test_every_value_type_becomes_its_python_value(tmp_path: Path, version: int) -> None:
    file = opened(tmp_path, gguf_bytes(sample_keys(), counts=Counts(version=version)))
    assert dict(file.metadata) == EXPECTED
    assert list(file.metadata) == list(EXPECTED)
    assert {key: type(value) for key, value in file.metadata.items()} == {
        key: type(value) for key, value in EXPECTED.items()
    }
    assert file.version == version


def test_typed_access_gives_values_of_the_type(sample: GgufFile) -> None:
    assert sample.get_int("a.u8") == 200
    assert sample.get_int("a.i64") == -(1 << 62)
    assert sample.get_str("general.name") == "sample"
    assert sample.architecture == "deepseek2"


def test_missing_key_gives_the_default_and_without_one_an_error(sample: GgufFile) -> None:
    assert sample.get_int("a.none", 7) == 7
    assert sample.get_str("a.none", None) is None
    with pytest.raises(GgufError, match=r"model\.gguf has no metadata key 'a\.none'"):
        sample.get_int("a.none")


@pytest.mark.parametrize(
    ("method", "key", "message"),
    [
        ("get_int", "a.bool", "'a.bool' is the bool True, not an integer"),
        ("get_int", "a.f32", "'a.f32' is the float 0.5, not an integer"),
        ("get_int", "a.types", "'a.types' is an array of 3, not an integer"),
        ("get_str", "a.u8", "'a.u8' is the int 200, not a text"),
    ],
)
def test_wrong_type_names_the_key_and_both_types(
    sample: GgufFile, method: str, key: str, message: str
) -> None:
    with pytest.raises(GgufError) as caught:
        getattr(sample, method)(key)
    assert message in str(caught.value)
    assert str(sample.path) in str(caught.value)
    assert caught.value.remedies


def test_file_without_architecture_says_so(tmp_path: Path) -> None:
    file = opened(tmp_path, gguf_bytes([Key("a", U8, 1)]))
    with pytest.raises(GgufError, match=r"general\.architecture"):
        _ = file.architecture


def test_arrays_nest_four_deep_and_no_deeper(tmp_path: Path) -> None:
    def nested(depth: int) -> tuple[int, list]:
        return (U8, [1]) if depth == 1 else (ARRAY, [nested(depth - 1)])

    file = opened(tmp_path, gguf_bytes([Key("a", ARRAY, nested(4))]))
    assert file.metadata["a"] == [[[[1]]]]
    with pytest.raises(GgufError, match="nests arrays more than 4 deep"):
        opened(tmp_path, gguf_bytes([Key("a", ARRAY, nested(5))]))


def test_string_array_longer_than_one_fetch_is_whole(tmp_path: Path) -> None:
    """Strings and their lengths straddle the borders of what is read at once."""
    words = [f"{'w' * (index % 37)}{index}" for index in range(150_000)]
    keys = [Key("a", ARRAY, (STRING, words)), Key("z", U32, 5)]
    file = opened(tmp_path, gguf_bytes(keys))
    assert file.metadata["a"] == words
    assert file.metadata["z"] == 5
