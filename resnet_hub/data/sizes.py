"""The sizes of images: in training by epoch (progressive resizing), and in evaluation."""

from dataclasses import replace
from itertools import pairwise

from resnet_hub.data.settings import Knots
from resnet_hub.preprocess import Preprocess

_MULTIPLE = 32  # the stride of a ResNet: its feature maps are whole


def training_size(knots: Knots, epoch: int) -> int:
    """Return the side of an epoch's training images, in pixels.

    Piecewise linear, as ``get_resolution`` of FFCV's ImageNet recipe: the first side until its
    epoch, the last from its epoch on; between two, rounded to a multiple of 32 (halves to an even
    one), where there is one between them.

    Args:
        knots: Epochs, rising, with their sides.
        epoch: Counted from 0.
    """
    for (begin, first), (end, last) in pairwise(knots):
        if begin <= epoch < end:
            between = first + (last - first) * (epoch - begin) / (end - begin)
            rounded = _MULTIPLE * round(between / _MULTIPLE)
            low, high = sorted((first, last))
            return first if epoch == begin else min(max(rounded, low), high)
    return knots[0][1] if epoch < knots[0][0] else knots[-1][1]


def all_sizes(knots: Knots) -> list[int]:
    """Return all sides that come up, rising."""
    return sorted({training_size(knots, epoch) for epoch in range(knots[-1][0] + 1)})


def at_size(preprocess: Preprocess, size: int | None) -> Preprocess:
    """Return the same for another size, the share of the picture that is seen kept.

    Raises:
        InvalidSetting: No such size, or there is a mean image of another one.
    """
    if size is None or size == preprocess.size:
        return preprocess
    resize = preprocess.resize and round(preprocess.resize * size / preprocess.size)
    return replace(preprocess, size=size, resize=resize)
