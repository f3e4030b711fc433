"""A net's tensors without their numbers, from its architecture alone: what its weights must be."""

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from resnet_hub.architecture import Architecture, Unit


def expected_tensors(architecture: Architecture) -> dict[str, Tensor]:
    """Return the state dict of a net on the meta device: names in order, shapes and dtypes."""
    return dict(_net(architecture))


def _net(net: Architecture) -> Iterator[tuple[str, Tensor]]:
    yield from _stem(net)
    channels = net.stem_channels[-1]
    if net.form != "preact" or net.entry == "shared":
        yield from _norm("bn1", channels)
    if net.stem_pool == "convolution":
        yield from _convolution("maxpool.0", channels, channels, 3)
        yield from _norm("maxpool.1", channels)
    for stage, units in enumerate(net.stages(), 1):
        for index, unit in enumerate(units):
            yield from _unit(f"layer{stage}.{index}", unit, net)
    if net.form == "preact":
        yield from _norm("norm", net.features)
    yield "fc.weight", _floats(net.classes, net.features)
    yield "fc.bias", _floats(net.classes)


def _stem(net: Architecture) -> Iterator[tuple[str, Tensor]]:
    first, *rest = net.stem_channels
    if not rest:
        yield from _convolution("conv1", net.in_channels, first, 3 if net.stem == "cifar" else 7)
        return
    yield from _convolution("conv1.0", net.in_channels, first, 3)
    for index, (inputs, outputs) in enumerate(pairwise((first, *rest))):
        yield from _norm(f"conv1.{3 * index + 1}", inputs)
        yield from _convolution(f"conv1.{3 * index + 3}", inputs, outputs, 3)


def _unit(name: str, unit: Unit, net: Architecture) -> Iterator[tuple[str, Tensor]]:
    preact = net.form == "preact"
    if net.block == "basic":
        layers = [(unit.inputs, unit.outputs, 3, 1), (unit.outputs, unit.outputs, 3, 1)]
    else:
        layers = [
            (unit.inputs, unit.middle, 1, 1),
            (unit.middle, unit.middle, 3, net.groups),
            (unit.middle, unit.outputs, 1, 1),
        ]
    for number, (inputs, outputs, kernel, groups) in enumerate(layers, 1):
        if preact and (number > 1 or unit.leads):
            yield from _norm(f"{name}.bn{number}", inputs)
        yield from _convolution(f"{name}.conv{number}", inputs, outputs, kernel, groups)
        if not preact:
            yield from _norm(f"{name}.bn{number}", outputs)
    yield from _attention(f"{name}.se", unit)
    if unit.connection in ("project", "pool"):
        at = 1 if unit.connection == "pool" else 0  # the pooling comes before
        yield from _convolution(f"{name}.downsample.{at}", unit.inputs, unit.outputs, 1)
        if not preact:
            yield from _norm(f"{name}.downsample.{at + 1}", unit.outputs)
    if net.shortcut_gate != "none":
        yield from _convolution(f"{name}.gate", unit.inputs, unit.outputs, 1)
        yield f"{name}.gate.bias", _floats(unit.outputs)


def _attention(name: str, unit: Unit) -> Iterator[tuple[str, Tensor]]:
    if unit.squeezed:
        layers = {"fc1": (unit.outputs, unit.squeezed), "fc2": (unit.squeezed, unit.outputs)}
        for layer, (inputs, outputs) in layers.items():
            yield from _convolution(f"{name}.{layer}", inputs, outputs, 1)
            yield f"{name}.{layer}.bias", _floats(outputs)
    if unit.taps:
        yield f"{name}.conv.weight", _floats(1, 1, unit.taps)


def _convolution(
    name: str, inputs: int, outputs: int, kernel: int, groups: int = 1
) -> Iterator[tuple[str, Tensor]]:
    yield f"{name}.weight", _floats(outputs, inputs // groups, kernel, kernel)


def _norm(name: str, channels: int) -> Iterator[tuple[str, Tensor]]:
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{part}", _floats(channels)
    yield f"{name}.num_batches_tracked", torch.empty((), dtype=torch.int64, device="meta")


def _floats(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.float32, device="meta")
