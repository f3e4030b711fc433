"""Layers of torch without first values on the meta device: most of what a net cost there."""

from torch import nn


class Conv2d(nn.Conv2d):
    """A convolution; see the module."""

    def reset_parameters(self) -> None:
        """Draw first values, where there is memory for them."""
        if not self.weight.is_meta:
            super().reset_parameters()


class BatchNorm2d(nn.BatchNorm2d):
    """A batch normalisation; see the module."""

    def reset_parameters(self) -> None:
        """Set first values and statistics, where there is memory for them."""
        if not self.weight.is_meta:
            super().reset_parameters()
