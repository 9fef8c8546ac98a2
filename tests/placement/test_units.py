from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placement.errors import PlacementError
from placement.units import flag_bytes, format_bytes, parse_bytes


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [
        ("0", 0),
        ("64MiB", 64 << 20),
        ("22G", 22 << 30),
        ("1.5 GiB", 3 << 29),
        ("24GB", 24 * 10**9),
        ("-1GiB", -(1 << 30)),
        ("512b", 512),
        ("1P", 1 << 50),
    ],
)
def test_sizes_as_people_write_them(text: str, nbytes: int) -> None:
    assert parse_bytes(text) == nbytes


@pytest.mark.parametrize(
    ("text", "typed"), [("22", "--ram 22GiB, or 22B"), ("-4", "--ram=-4GiB, or -4B")]
)
def test_what_to_type_for_a_lost_unit_is_taken(text: str, typed: str) -> None:
    with pytest.raises(PlacementError) as error:
        parse_bytes(text, "--ram")
    assert error.value.remedies == (f"{typed} for so many bytes",)
    with pytest.raises(PlacementError, match="'512' is 512 B") as error:
        parse_bytes("512", "a size", from_mib=64)
    assert error.value.remedies[0].startswith("512MiB, or ")


@pytest.mark.parametrize("text", ["", "GiB", "12XiB", "1e9", "٣GiB", "1,5GiB", "--1", "9" * 30])
def test_bad_size_names_itself_and_the_accepted_forms(text: str) -> None:
    with pytest.raises(PlacementError) as error:
        parse_bytes(text, "the budget of CUDA0")
    assert "the budget of CUDA0" in str(error.value)
    assert "64MiB" in str(error.value)


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        *[(text, "GiB") for text in ("22", "-2", "1000", "22.5", "0.5", "4095")],
        *[(text, "MiB") for text in ("4096", "5000", "1048575", "-1000")],
    ],
)
def test_a_small_number_without_a_unit_has_lost_it(text: str, unit: str) -> None:
    with pytest.raises(PlacementError) as error:
        parse_bytes(text, "--vram CUDA0")
    assert "--vram CUDA0 has no unit" in str(error.value)
    (remedy,) = error.value.remedies
    assert remedy.startswith(f"CUDA0={text}{unit}")
    assert (f"or {text}B for so many bytes" in remedy) == text.lstrip("-").isdecimal()
    assert parse_bytes(text + "KiB") != 0
    assert parse_bytes(text, least_plain=0) == int(float(text))


@given(st.integers(0, 1 << 60))
def test_what_is_told_to_type_is_taken(nbytes: int) -> None:
    assert parse_bytes(flag_bytes(nbytes)) == nbytes


def test_absurd_size_is_refused() -> None:
    with pytest.raises(PlacementError, match="too large"):
        parse_bytes("5000P")


def test_sizes_as_people_read_them() -> None:
    assert format_bytes(25340108800) == "23.6 GiB"
    assert format_bytes(512) == "512 B"
    assert format_bytes(-(3 << 19)) == "-1.5 MiB"
    assert format_bytes((1 << 30) - 1) == "1.0 GiB"


@given(st.integers(0, 1 << 60))
def test_printed_size_parses_back_within_its_last_digit(nbytes: int) -> None:
    back = parse_bytes(format_bytes(nbytes).replace(" ", ""))
    assert abs(back - nbytes) <= max(nbytes * 0.051, 0)


@given(st.text(max_size=30))
def test_any_text_is_a_size_or_a_placement_error(text: str) -> None:
    with suppress(PlacementError):
        assert abs(parse_bytes(text)) <= 1 << 60
