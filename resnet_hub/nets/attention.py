"""Channel attention: each channel of a unit's branch weighed by what the whole map holds."""

from torch import Tensor, nn
from torch.nn import functional as F

from resnet_hub.architecture import Unit
from resnet_hub.nets.layers import Conv2d


class SqueezeExcitation(nn.Module):
    """Weights of channels from their means, by two layers (1709.01507 §3, Eq. 2 to 4).

    Tensor names are timm's (``fc1``, ``fc2``); both are 1×1 convolutions with a bias.

    Args:
        channels: Channels in and out.
        squeezed: Channels between the two layers.
    """

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc1 = Conv2d(channels, squeezed, 1)
        self.fc2 = Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(N, C, H, W)``, each channel scaled by a number in (0, 1)."""
        means = x.mean((2, 3), keepdim=True)
        weights: Tensor = self.fc2(F.relu(self.fc1(means), inplace=True)).sigmoid()
        return x * weights


class EfficientAttention(nn.Module):
    """Weights of channels from their neighbours' means, by one convolution (1910.03151 §3.2).

    The tensor's name is timm's (``conv``); it has no bias.

    Args:
        taps: Channels that each weight is drawn from, an odd number.
    """

    def __init__(self, taps: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, taps, padding=taps // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(N, C, H, W)``, each channel scaled by a number in (0, 1)."""
        weights: Tensor = self.conv(x.mean((2, 3)).unsqueeze(1)).sigmoid()
        return x * weights.transpose(1, 2).unsqueeze(3)


def attention(unit: Unit) -> nn.Module | None:
    """Return what weighs the channels of a unit's branch; ``None`` where nothing does."""
    if unit.squeezed:
        return SqueezeExcitation(unit.outputs, unit.squeezed)
    return EfficientAttention(unit.taps) if unit.taps else None
