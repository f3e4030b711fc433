"""Poolings that halve a map and hold no tensors; a backbone may dilate them instead."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnet_hub.architecture import Antialias


class Pool(nn.Module):
    """A pooling whose stride can be replaced by dilation, as a convolution's can.

    Attributes:
        stride: Step between the windows.
        dilation: Step between the pixels in a window.
    """

    def __init__(self, stride: int = 2) -> None:
        super().__init__()
        self.stride, self.dilation = stride, 1

    def extra_repr(self) -> str:
        """Return the two steps."""
        return f"stride={self.stride}, dilation={self.dilation}"


class AveragePool(Pool):
    """The mean of 2×2 pixels; at the right and lower edge, of those that there are.

    The pooled shortcut of ResNet-D (1812.01187 §4), and timm's cheap anti-aliasing, which drops the
    last row and column of an odd side where this one keeps them.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to ``(N, C, ⌈H/stride⌉, ⌈W/stride⌉)``."""
        if self.stride == 2 and self.dilation == 1:
            return F.avg_pool2d(x, 2, 2, ceil_mode=True, count_include_pad=False)
        for axis in (2, 3):
            size = x.shape[axis]
            step = min(self.dilation, size)
            # Where there is no later pixel, the pixel itself: the mean of one.
            later = [x.narrow(axis, step, size - step), x.narrow(axis, size - step, step)]
            x = (x + torch.cat(later, axis)) / 2
        return x[:, :, :: self.stride, :: self.stride]


class BlurPool(Pool):
    """A map blurred by [1 2 1] / 4 along each side, then subsampled (1904.11486 §3.2).

    Edges are reflected. That filter is two means of neighbours one after the other, so it needs no
    tensor of weights.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to ``(N, C, ⌈H/stride⌉, ⌈W/stride⌉)``; a side has 2 pixels at least.

        A dilated map has at least 2 · dilation.
        """
        if self.dilation == 1:
            return F.avg_pool2d(
                F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), 2, 1), 2, self.stride
            )
        step = self.dilation
        for axis in (2, 3):
            # Reflected among the pixels that a strided net would have kept: every step-th.
            size = x.shape[axis]
            before = torch.cat([x.narrow(axis, step, step), x.narrow(axis, 0, size - step)], axis)
            after = torch.cat(
                [x.narrow(axis, step, size - step), x.narrow(axis, size - 2 * step, step)], axis
            )
            x = (before + 2 * x + after) / 4
        return x[:, :, :: self.stride, :: self.stride]


def antialiasing(kind: Antialias, stride: int) -> Pool | None:
    """Return what strides in a convolution's place; ``None`` where the convolution does."""
    if kind == "none" or stride == 1:
        return None
    return AveragePool(stride) if kind == "average" else BlurPool(stride)
