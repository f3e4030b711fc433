"""Numbers as a page says them."""

import pytest

from resnet_hub.report.words import amount, interval, span


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (640, "640"),
        (9_216, "9.22 k"),
        (269_434, "269 k"),
        (40_551_040, "40.6 M"),
        (4_089_184_256, "4.09 G"),
        (0, "0"),
    ],
)
def test_amounts_have_three_digits(number: int, text: str):
    assert amount(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (25.3, "25 s"),
        (59.7, "1 min 00 s"),
        (190, "3 min 10 s"),
        (3600, "1 h 00 min"),
        (7530, "2 h 06 min"),
    ],
)
def test_times_are_as_a_person_says_them(seconds: float, text: str):
    assert span(seconds) == text


def test_intervals_are_in_percent():
    assert interval((0.0123, 0.2)) == "1.23 to 20.00"
