"""Lists of numbers as /sys writes them."""

import pytest

from placement.sysfiles import number_list, number_text


@pytest.mark.parametrize(
    ("numbers", "text"), [((), ""), ((5,), "5"), ((0, 1, 2, 3, 8), "0-3,8"), ((0, 2, 3), "0,2-3")]
)
def test_lists_of_numbers_are_read_as_they_are_written(numbers: tuple[int, ...], text: str) -> None:
    assert number_text(reversed(numbers)) == text
    assert number_list(text) == numbers
