"""Layers as numbers for inference: norms folded into the convolutions before them."""

from copy import deepcopy
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

from resnet_hub.nets.inference.kernels import Convolution

Layer = TypeVar("Layer", bound=nn.Module)


class CannotFold(Exception):
    """A layer that is not the package's; the net is to be run as it is."""


@dataclass(frozen=True)
class Norm:
    """A norm that no convolution precedes, and the activation after it; float32 in any precision.

    Attributes:
        mean: Running mean, ``(channels,)``.
        variance: Running variance.
        scale: Learnt scale, where there is one.
        shift: Learnt shift, where there is one.
        epsilon: Added to the variance.
    """

    mean: Tensor
    variance: Tensor
    scale: Tensor | None
    shift: Tensor | None
    epsilon: float

    def __call__(self, x: Tensor) -> Tensor:
        """Return ``relu(norm(x))``; ``x`` stays."""
        return F.batch_norm(
            x, self.mean, self.variance, self.scale, self.shift, eps=self.epsilon
        ).relu_()


@dataclass(frozen=True)
class Folding:
    """Makes of layers what inference needs of them; the layers stay, and no memory is shared.

    Attributes:
        dtype: Of the convolutions.
    """

    dtype: torch.dtype

    def convolution(self, layer: nn.Module | None, norm: nn.Module | None) -> Convolution:
        """Return a convolution with the norm that follows it, folded in float32 and rounded once.

        Raises:
            CannotFold: They are no convolution and norm.
        """
        if not isinstance(layer, nn.Conv2d) or layer.padding_mode != "zeros":
            raise CannotFold
        if isinstance(layer.padding, str):
            raise CannotFold
        weight, bias = layer.weight.detach().float(), _float(layer.bias)
        if norm is not None:
            own = self.norm(norm)
            weight, bias = fuse_conv_bn_weights(
                weight,
                bias,
                own.mean,
                own.variance,
                own.epsilon,
                own.scale,
                own.shift,
            )
            bias = cast(Tensor, bias).detach()
        channels_last = torch.channels_last
        return Convolution(
            weight.detach().to(self.dtype, memory_format=channels_last, copy=True),
            None if bias is None else bias.to(self.dtype, copy=True),
            cast(tuple[int, int], layer.padding),
            cast(tuple[int, int], layer.stride),
            cast(tuple[int, int], layer.dilation),
            layer.groups,
        )

    def norm(self, layer: nn.Module) -> Norm:
        """Return a norm's numbers.

        Raises:
            CannotFold: It is no BatchNorm, or keeps no statistics.
        """
        if not isinstance(layer, nn.BatchNorm2d):
            raise CannotFold
        mean, variance = _float(layer.running_mean), _float(layer.running_var)
        if mean is None or variance is None:
            raise CannotFold
        return Norm(mean, variance, _float(layer.weight), _float(layer.bias), layer.eps)

    def copy(self, layer: Layer) -> Layer:
        """Return a copy of a layer that is run as it is."""
        return deepcopy(layer).eval().to(self.dtype)


def _float(numbers: Tensor | None) -> Tensor | None:
    return None if numbers is None else numbers.detach().to(torch.float32, copy=True)
