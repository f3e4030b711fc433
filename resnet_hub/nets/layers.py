"""Layers of torch without first values on the meta device: most of what a net cost there."""

from typing import TypeVar

from torch import nn

Own = TypeVar("Own", bound="BatchNorm2d")


class Conv2d(nn.Conv2d):
    """A convolution; see the module."""

    def reset_parameters(self) -> None:
        """Draw first values, where there is memory for them."""
        if not self.weight.is_meta:
            super().reset_parameters()


class BatchNorm2d(nn.BatchNorm2d):
    """A batch normalisation; see the module.

    Attributes:
        frozen: Whether it stays in evaluation mode, whatever mode the net around it is put in:
            then it normalises by its running statistics, and they stay, count included.
    """

    frozen = False

    def train(self: Own, mode: bool = True) -> Own:
        """Go into training mode, unless frozen, or into evaluation mode."""
        return super().train(mode and not self.frozen)

    def reset_parameters(self) -> None:
        """Set first values and statistics, where there is memory for them."""
        if not self.weight.is_meta:
            super().reset_parameters()


def convolution(
    inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    """Return a convolution without bias that keeps the size at stride 1."""
    return Conv2d(
        inputs, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False
    )
