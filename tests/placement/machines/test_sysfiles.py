"""Lists of numbers as /sys writes them."""

import pytest

from placement.machines.sysfiles import number_list


@pytest.mark.parametrize(
    ("numbers", "text"), [((), ""), ((5,), "5"), ((0, 1, 2, 3, 8), "0-3,8"), ((0, 2, 3), "0,2-3")]
)
def test_lists_of_numbers_are_read(numbers: tuple[int, ...], text: str) -> None:
    assert number_list(text) == numbers
