"""Parameters and multiply-adds in closed form, from the architecture alone. Torch-free."""

from collections.abc import Iterator
from dataclasses import dataclass

from resnet_hub.architecture import Architecture, Unit


@dataclass(frozen=True)
class Convolution:
    """One convolution: channels, kernel, groups and the side of its output in pixels."""

    inputs: int
    outputs: int
    kernel: int
    groups: int
    side: int

    @property
    def weights(self) -> int:
        """Weights (no convolution of these nets has a bias)."""
        return self.inputs // self.groups * self.outputs * self.kernel**2


def parameters(architecture: Architecture) -> int:
    """Count learnable parameters, BatchNorm's scale and shift included."""
    weights = sum(conv.weights for conv in _convolutions(architecture, 32))
    classifier = (architecture.features + 1) * architecture.classes
    return weights + 2 * _normalised_channels(architecture) + classifier


def multiply_adds(architecture: Architecture, size: int | None = None) -> int:
    """Count multiply-adds of convolutions and classifier for one image, as the papers do.

    Args:
        architecture: The net.
        size: Side of the image in pixels; by default 224, or 32 for a CIFAR stem.
    """
    size = size or natural_size(architecture)
    convolutions = sum(conv.weights * conv.side**2 for conv in _convolutions(architecture, size))
    return convolutions + architecture.features * architecture.classes


def natural_size(architecture: Architecture) -> int:
    """Return the side of the images that the stem is made for, in pixels."""
    return 224 if architecture.stem == "imagenet" else 32


def _convolutions(architecture: Architecture, size: int) -> Iterator[Convolution]:
    if architecture.stem == "imagenet":
        side = _half(size)
        yield Convolution(architecture.in_channels, architecture.width, 7, 1, side)
        side = _half(side)
    else:
        side = size
        yield Convolution(architecture.in_channels, architecture.width, 3, 1, side)
    for stage in architecture.stages():
        for unit in stage:
            before, side = side, _half(side) if unit.stride == 2 else side
            yield from _unit_convolutions(architecture, unit, before, side)


def _unit_convolutions(
    architecture: Architecture, unit: Unit, before: int, side: int
) -> Iterator[Convolution]:
    if architecture.block == "basic":
        yield Convolution(unit.inputs, unit.outputs, 3, 1, side)
        yield Convolution(unit.outputs, unit.outputs, 3, 1, side)
    else:
        first = side if architecture.stride_in == "1x1" else before
        yield Convolution(unit.inputs, unit.middle, 1, 1, first)
        yield Convolution(unit.middle, unit.middle, 3, architecture.groups, side)
        yield Convolution(unit.middle, unit.outputs, 1, 1, side)
    if unit.connection == "project":
        yield Convolution(unit.inputs, unit.outputs, 1, 1, side)


def _normalised_channels(architecture: Architecture) -> int:
    if architecture.form != "preact":  # a BatchNorm after every convolution
        return sum(conv.outputs for conv in _convolutions(architecture, 32))
    channels = architecture.features + (architecture.width if architecture.entry == "shared" else 0)
    for stage in architecture.stages():
        for unit in stage:
            inner = unit.outputs if architecture.block == "basic" else 2 * unit.middle
            channels += inner + (unit.inputs if unit.leads else 0)
    return channels


def _half(side: int) -> int:
    return (side + 1) // 2
