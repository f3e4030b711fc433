"""Progressive resizing is a function of the epoch: FFCV's, and steps."""

import numpy as np
import pytest

from resnet_hub.data.sizes import all_sizes, training_size


def ffcv(epoch: int, *, low: int, high: int, start: int, end: int) -> int:
    """The resolution that FFCV's ImageNet example gives, by numpy."""
    if epoch <= start:
        return low
    if epoch >= end:
        return high
    return int(np.round(np.interp([epoch], [start, end], [low, high])[0] / 32)) * 32


@pytest.mark.parametrize(
    ("low", "high", "start", "end"),
    [(160, 192, 11, 13), (160, 192, 65, 76), (128, 224, 0, 16), (128, 160, 3, 9), (96, 288, 2, 21)],
)
def test_two_knots_are_ffcvs_ramp(low: int, high: int, start: int, end: int) -> None:
    knots = ((start, low), (end, high))
    for epoch in range(end + 5):
        expected = ffcv(epoch, low=low, high=high, start=start, end=end)
        assert training_size(knots, epoch) == expected


def test_epochs_in_a_row_are_a_step() -> None:
    knots = ((0, 128), (4, 128), (5, 160), (11, 160), (12, 224))
    sizes = [training_size(knots, epoch) for epoch in range(15)]
    assert sizes == [128] * 5 + [160] * 7 + [224] * 3
    assert all_sizes(knots) == [128, 160, 224]


def test_a_single_size_is_that_of_every_epoch() -> None:
    assert {training_size(((0, 176),), epoch) for epoch in range(9)} == {176}
    assert {training_size(((3, 176),), epoch) for epoch in range(9)} == {176}


def test_sizes_stay_between_their_neighbours_where_no_multiple_of_32_does() -> None:
    assert [training_size(((0, 20), (4, 28)), epoch) for epoch in range(6)] == [
        20, 28, 28, 28, 28, 28
    ]  # fmt: skip
    assert [training_size(((0, 24), (4, 32)), epoch) for epoch in range(5)] == [24] + [32] * 4


def test_sizes_may_fall() -> None:
    knots = ((0, 224), (4, 160))
    assert [training_size(knots, epoch) for epoch in range(6)] == [224, 192, 192, 192, 160, 160]
