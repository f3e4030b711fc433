"""What carries a unit's input past it."""

from torch import Tensor, nn
from torch.nn import functional as F

from resnet_hub.architecture import Architecture, Unit
from resnet_hub.nets.layers import BatchNorm2d, Conv2d, convolution
from resnet_hub.nets.pooling import AveragePool


class PadShortcut(nn.Module):
    """Option A: every second pixel, and zeros for the channels that are new (1512.03385 §3.3).

    Args:
        inputs: Channels in.
        outputs: Channels out.
        stride: Step between the pixels that are kept.
        split: Put the zeros evenly before and after, instead of all at the end.
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int, split: bool) -> None:
        super().__init__()
        new = outputs - inputs
        before = new // 2 if split else 0
        self.stride, self.before, self.after = stride, before, new - before

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, inputs, H, W)`` to ``(N, outputs, ⌈H/stride⌉, ⌈W/stride⌉)``."""
        kept = x[:, :, :: self.stride, :: self.stride]
        return F.pad(kept, (0, 0, 0, 0, self.before, self.after))


def shortcut(unit: Unit, architecture: Architecture) -> nn.Module | None:
    """Return what carries a unit's input past it; ``None`` in a plain net."""
    if unit.connection == "none":
        return None
    if unit.connection == "identity":
        return nn.Identity()
    if unit.connection == "pad":
        split = architecture.zeros == "split"
        return PadShortcut(unit.inputs, unit.outputs, stride=unit.stride, split=split)
    pools = unit.connection == "pool"
    parts: list[nn.Module] = []
    if pools:
        parts.append(AveragePool(unit.stride) if unit.stride > 1 else nn.Identity())
    stride = 1 if pools else unit.stride
    parts.append(convolution(unit.inputs, unit.outputs, 1, stride=stride))
    if architecture.form != "preact":
        parts.append(BatchNorm2d(unit.outputs))
    return nn.Sequential(*parts)


def gate(unit: Unit, architecture: Architecture) -> nn.Conv2d | None:
    """Return what a unit's gate is the sigmoid of; ``None`` where there is none.

    A 1×1 convolution with a bias (1603.05027 §3.1), of the unit's stride and channels. The paper
    leaves open how it goes on where these change; here as option B's projections do.
    """
    if architecture.shortcut_gate == "none":
        return None
    return Conv2d(unit.inputs, unit.outputs, 1, stride=unit.stride)
