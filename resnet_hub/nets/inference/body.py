"""A whole net's layers for inference, from images to logits."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnet_hub.nets.inference.folding import CannotFold, Folding
from resnet_hub.nets.inference.kernels import Convolution, Kernels
from resnet_hub.nets.inference.units import Unit

if TYPE_CHECKING:
    from resnet_hub.nets.resnet import ResNet

Step = tuple[Convolution, bool]
"""A convolution, and whether it is activated."""


class Body:
    """The same function as a net's in evaluation, on folded weights of its own.

    Attributes:
        dtype: What images are converted to; means and logits are float32.
        size: Bytes that the weights take.

    Args:
        net: The net, which stays as it is.
        dtype: Of convolutions and maps.

    Raises:
        CannotFold: A layer was replaced by one that no architecture has.
    """

    def __init__(self, net: ResNet, dtype: torch.dtype) -> None:
        folding = Folding(dtype)
        self.dtype = dtype
        self.size = sum(weight.numel() for weight in net.parameters()) * dtype.itemsize
        self.stem = _steps([*_parts(net.conv1), *_activated(net.bn1)], folding)
        self.pool: nn.Module | None = None
        if isinstance(net.maxpool, nn.Sequential) and isinstance(net.maxpool[0], nn.Conv2d):
            self.stem += _steps(list(net.maxpool), folding)
        elif not isinstance(net.maxpool, nn.Identity):
            self.pool = folding.copy(net.maxpool)
        self.units = [Unit(block, folding) for block in net.blocks]
        self.norm = None if net.norm is None else folding.norm(net.norm)
        self.activates = net.architecture.form == "relu_only_preact"
        self.fc = Folding(torch.float32).copy(net.fc).requires_grad_(False)

    def __call__(self, images: Tensor, kernels: Kernels) -> Tensor:
        """Return logits, float32 ``(N, classes)``, of ``(N, in_channels, H, W)``, which stay."""
        x = images.to(dtype=self.dtype, memory_format=torch.channels_last)
        for convolution, relu in self.stem:
            x = kernels.convolve(convolution, x, relu=relu)
        if self.pool is not None:
            x = self.pool(x)
        for unit in self.units:
            x = unit(x, kernels)
        if self.norm is not None:
            x = self.norm(x)
        elif self.activates:
            x = F.relu(x)
        logits: Tensor = self.fc(x.mean((2, 3), dtype=torch.float32))
        return logits


def _parts(layer: nn.Module) -> list[nn.Module]:
    return list(layer) if isinstance(layer, nn.Sequential) else [layer]


def _activated(norm: nn.Module | None) -> list[nn.Module]:
    return [] if norm is None else [norm, nn.ReLU()]


def _steps(layers: Sequence[nn.Module], folding: Folding) -> list[Step]:
    """Return layers as convolutions, each with the norm and the activation that follow it."""
    starts = [i for i, layer in enumerate(layers) if isinstance(layer, nn.Conv2d)]
    if not starts or starts[0] != 0:
        raise CannotFold
    steps = []
    for start, end in pairwise([*starts, len(layers)]):
        convolution, *rest = layers[start:end]
        if [type(layer) for layer in rest[1:]] not in ([], [nn.ReLU]):
            raise CannotFold
        steps.append((folding.convolution(convolution, rest[0] if rest else None), len(rest) == 2))
    return steps
