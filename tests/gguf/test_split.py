from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hybrid.errors import GgufError
from hybrid.gguf import GgufFile
from tests.gguf.writer import I32, STRING, U16, U64, Key, Tensor, gguf_bytes

PARTS = 3


@dataclass(frozen=True)
class Part:
    """What part `no` of the model says of itself."""

    no: int
    name: str
    count: int = PARTS
    tensors: int = 4
    kind: int = U16

    def content(self, tensors: list[Tensor]) -> bytes:
        keys = [
            Key("split.no", self.kind, self.no),
            Key("split.count", self.kind, self.count),
            Key("split.tensors.count", I32, self.tensors),
        ]
        if self.no == 0:
            keys.append(Key("general.architecture", STRING, "deepseek2"))
        return gguf_bytes(keys, tensors)


TENSORS = (
    [Tensor("a", (8,), data=b"a" * 32)],
    [Tensor("b", (8,), data=b"b" * 32), Tensor("c", (16,), data=b"c" * 64)],
    [Tensor("d", (8,), data=b"d" * 32)],
)


def part_of(number: int) -> Part:
    return Part(number, f"m-{number + 1:05d}-of-{PARTS:05d}.gguf")


def write(folder: Path, parts: list[Part], tensors: tuple[list[Tensor], ...] = TENSORS) -> None:
    for part, content in zip(parts, tensors, strict=True):
        (folder / part.name).write_bytes(part.content(content))


def sound() -> list[Part]:
    return [part_of(number) for number in range(PARTS)]


def message(path: Path) -> str:
    with pytest.raises(GgufError) as caught:
        GgufFile.open(path)
    assert caught.value.remedies
    return str(caught.value)


@pytest.mark.parametrize("given", range(PARTS))
def test_any_part_opens_the_whole_model(tmp_path: Path, given: int) -> None:
    write(tmp_path, sound())
    with GgufFile.open(tmp_path / part_of(given).name) as file:
        assert file.path == tmp_path / part_of(given).name
        assert [path.name for path in file.paths] == [part.name for part in sound()]
        assert list(file.tensors) == ["a", "b", "c", "d"]
        assert [tensor.part for tensor in file.tensors.values()] == [0, 1, 1, 2]
        assert file.architecture == "deepseek2"
        for name, tensor in file.tensors.items():
            assert bytes(file.data(tensor)) == name.encode() * tensor.nbytes


def test_first_part_may_hold_metadata_only(tmp_path: Path) -> None:
    parts = [replace(part, tensors=3) for part in sound()]
    write(tmp_path, parts, ([], *TENSORS[1:]))
    assert list(GgufFile.open(tmp_path / parts[2].name).tensors) == ["b", "c", "d"]


def test_missing_parts_are_named(tmp_path: Path) -> None:
    write(tmp_path, sound())
    (tmp_path / part_of(1).name).unlink()
    text = message(tmp_path / part_of(0).name)
    assert "1 of 3 parts of the model are missing" in text
    assert str(tmp_path / "m-00002-of-00003.gguf") in text


def test_part_with_a_foreign_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(part_of(1).content(TENSORS[1]))
    assert "part 2 of 3 by its metadata" in message(tmp_path / "model.gguf")


def test_swapped_parts_are_found_from_either_side(tmp_path: Path) -> None:
    parts = sound()
    parts[1] = replace(parts[1], no=2)
    write(tmp_path, parts)
    assert "is part 3 of 3 by its metadata" in message(tmp_path / part_of(0).name)
    assert "is part 3 of 3 by its metadata" in message(tmp_path / part_of(1).name)


def test_part_of_another_model_is_found_by_its_count(tmp_path: Path) -> None:
    parts = sound()
    parts[2] = replace(parts[2], count=7)
    write(tmp_path, parts)
    assert "is part 3 of 7 by its metadata" in message(tmp_path / part_of(0).name)


def test_tensor_count_of_any_part_must_be_the_sum(tmp_path: Path) -> None:
    parts = sound()
    parts[1] = replace(parts[1], tensors=5)
    write(tmp_path, parts)
    text = message(tmp_path / part_of(0).name)
    assert "m-00002-of-00003.gguf is corrupt: split.tensors.count is 5" in text
    assert "hold 4" in text


def test_tensor_in_two_parts_is_found(tmp_path: Path) -> None:
    write(tmp_path, sound(), (*TENSORS[:2], TENSORS[0]))
    text = message(tmp_path / part_of(0).name)
    assert "m-00003-of-00003.gguf is corrupt: tensor 'a' occurs also in m-00001" in text


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (replace(part_of(0), count=1 << 60, kind=U64), "split.count is 1152921504606846976"),
        (replace(part_of(0), count=-2, kind=I32), "split.count is -2"),
        (replace(part_of(0), no=3), "split.no is 3; 0 to 2 are possible"),
        (replace(part_of(0), no=-1, kind=I32), "split.no is -1"),
        (replace(part_of(0), count=60_000), "59999 of 60000 parts"),
    ],
)
def test_impossible_split_number_is_an_error(tmp_path: Path, part: Part, expected: str) -> None:
    name = f"m-00001-of-{part.count:05d}.gguf"
    (tmp_path / name).write_bytes(part.content(TENSORS[0]))
    assert expected in message(tmp_path / name)


def test_single_file_may_carry_any_name_and_a_count_of_one(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(replace(part_of(0), count=1).content(TENSORS[0]))
    assert list(GgufFile.open(tmp_path / "x.gguf").tensors) == ["a"]


def test_cut_part_is_named_when_data_are_required(tmp_path: Path) -> None:
    write(tmp_path, sound())
    path = tmp_path / part_of(2).name
    path.write_bytes(path.read_bytes()[:-20])
    file = GgufFile.open(tmp_path / part_of(0).name)
    assert not file.data_bytes_present
    with pytest.raises(GgufError, match=r"m-00003-of-00003\.gguf is cut: tensor 'd'") as caught:
        file.require_data()
    assert "32 bytes expected" in str(caught.value)
    assert "12 there" in str(caught.value)


def test_part_renamed_to_another_number_is_refused_and_told_its_name(tmp_path: Path) -> None:
    write(tmp_path, sound())
    wrong = tmp_path / part_of(2).name
    wrong.write_bytes(part_of(1).content(TENSORS[1]))
    text = message(wrong)
    assert "is part 2 of 3 by its metadata, but not by its name" in text
    assert "<prefix>-00002-of-00003.gguf" in text
