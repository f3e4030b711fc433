"""Parameters and multiply-adds in closed form, from the architecture alone. Torch-free."""

from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

from resnet_hub.architecture import Architecture, Unit


class Convolution(NamedTuple):
    """A convolution, or equal ones in a row; the side is that of the output, in pixels."""

    inputs: int
    outputs: int
    kernel: int
    groups: int
    side: int
    copies: int = 1

    @property
    def weights(self) -> int:
        """Weights of all copies; they have no bias."""
        return self.inputs // self.groups * self.outputs * self.kernel**2 * self.copies


def parameters(architecture: Architecture) -> int:
    """Count learnable parameters, BatchNorm's scale and shift included."""
    weights = sum(conv.weights for conv in _convolutions(architecture, 32))
    weighing = sum(weights + biases for weights, biases, _ in _weighings(architecture, 32))
    classifier = (architecture.features + 1) * architecture.classes
    return weights + 2 * _normalised_channels(architecture) + weighing + classifier


def multiply_adds(architecture: Architecture, size: int | None = None) -> int:
    """Count multiply-adds of convolutions and classifier for one image, as the papers do.

    A blurring filter is a convolution too, though its weights are fixed.

    Args:
        architecture: The net.
        size: Side of the image in pixels; by default 224, or 32 for a CIFAR stem.
    """
    size = size or natural_size(architecture)
    convolutions = sum(conv.weights * conv.side**2 for conv in _convolutions(architecture, size))
    blurs = sum(9 * channels * side**2 for channels, side in _blurs(architecture, size))
    weighing = sum(weights * times for weights, _, times in _weighings(architecture, size))
    return convolutions + blurs + weighing + architecture.features * architecture.classes


def natural_size(architecture: Architecture) -> int:
    """Return the side of the images that the stem is made for, in pixels."""
    return 32 if architecture.stem == "cifar" else 224


def _convolutions(architecture: Architecture, size: int) -> Iterator[Convolution]:
    side = size if architecture.stem == "cifar" else _half(size)
    kernel = 7 if architecture.stem == "imagenet" else 3
    inputs = architecture.in_channels
    for outputs in architecture.stem_channels:
        yield Convolution(inputs, outputs, kernel, 1, side)
        inputs = outputs
    if architecture.stem_pool == "convolution":
        yield Convolution(inputs, inputs, 3, 1, _half(side))
    for unit, copies, before, side in _sides(architecture, size):
        for convolution in _unit_convolutions(architecture, unit, before, side):
            yield convolution._replace(copies=copies)


def _sides(architecture: Architecture, size: int) -> Iterator[tuple[Unit, int, int, int]]:
    """Yield each unit, how many equal ones follow each other, and their maps' sides in pixels.

    The sides are those before and after the unit; of several, which do not stride, they are one.
    """
    side = size if architecture.stem == "cifar" else _half(_half(size))
    for stage in architecture.stages():
        for unit, equals in groupby(stage):
            before, side = side, _half(side) if unit.stride == 2 else side
            yield unit, len(list(equals)), before, side


def _unit_convolutions(
    architecture: Architecture, unit: Unit, before: int, side: int
) -> Iterator[Convolution]:
    strided = side if architecture.antialias == "none" else before
    if architecture.block == "basic":
        yield Convolution(unit.inputs, unit.outputs, 3, 1, strided)
        yield Convolution(unit.outputs, unit.outputs, 3, 1, side)
    else:
        first = side if architecture.stride_in == "1x1" else before
        yield Convolution(unit.inputs, unit.middle, 1, 1, first)
        yield Convolution(unit.middle, unit.middle, 3, architecture.groups, strided)
        yield Convolution(unit.middle, unit.outputs, 1, 1, side)
    if unit.connection in ("project", "pool"):
        yield Convolution(unit.inputs, unit.outputs, 1, 1, side)


def _blurs(architecture: Architecture, size: int) -> Iterator[tuple[int, int]]:
    """Yield each blurred map's channels and side, in pixels."""
    if architecture.antialias != "blur":
        return
    if architecture.stem != "cifar":
        yield architecture.stem_channels[-1], _half(_half(size))
    for unit, _, _, side in _sides(architecture, size):
        if unit.stride > 1:  # the first of its stage, alone
            yield (unit.outputs if architecture.block == "basic" else unit.middle), side


def _weighings(architecture: Architecture, size: int) -> Iterator[tuple[int, int, int]]:
    """Yield the weights of each attention and gate, their biases, and a weight's uses per image.

    Equal ones in a row are one.
    """
    for unit, copies, _, side in _sides(architecture, size):
        if unit.squeezed:
            biases = unit.outputs + unit.squeezed
            yield copies * 2 * unit.outputs * unit.squeezed, copies * biases, 1
        if unit.taps:
            yield copies * unit.taps, 0, unit.outputs
        if architecture.shortcut_gate != "none":
            yield copies * unit.inputs * unit.outputs, copies * unit.outputs, side**2


def _normalised_channels(architecture: Architecture) -> int:
    if architecture.form != "preact":  # a BatchNorm after every convolution
        return sum(conv.outputs * conv.copies for conv in _convolutions(architecture, 32))
    *inner, last = architecture.stem_channels
    channels = architecture.features + sum(inner) + (last if architecture.entry == "shared" else 0)
    for stage in architecture.stages():
        for unit in stage:
            within = unit.outputs if architecture.block == "basic" else 2 * unit.middle
            channels += within + (unit.inputs if unit.leads else 0)
    return channels


def _half(side: int) -> int:
    return (side + 1) // 2
