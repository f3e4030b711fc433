"""Residual units: basic and bottleneck, activated after (v1) or before (v2) the convolutions."""

from abc import ABC, abstractmethod
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from resnet_hub.architecture import Architecture, Unit
from resnet_hub.nets.attention import attention
from resnet_hub.nets.layers import BatchNorm2d, convolution
from resnet_hub.nets.pooling import antialiasing
from resnet_hub.nets.shortcuts import shortcut


class Block(nn.Module, ABC):
    """A unit of any kind: a branch that learns, and what carries the input past it.

    Attributes:
        downsample: The shortcut, by torchvision's name; ``nn.Identity`` and ``None`` hold no keys.
    """

    downsample: nn.Module | None

    @abstractmethod
    def residual(self, x: Tensor) -> Tensor:
        """Return the branch that learns, before the addition."""

    @abstractmethod
    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """Map ``(N, inputs, H, W)`` to ``(N, outputs, ⌈H/stride⌉, ⌈W/stride⌉)``.

        Args:
            x: The unit's input.
            keep: Stochastic depth's factor of the residual branch, ``(N, 1, 1, 1)``.
        """

    @property
    @abstractmethod
    def last(self) -> nn.BatchNorm2d | nn.Conv2d:
        """The branch's last learnt scale; set to zero, the unit begins as its shortcut."""


class PostActBlock(Block):
    """A v1 unit: ``relu(residual(x) + shortcut(x))`` (1512.03385 Eq. 1, 2).

    Attributes:
        aa: What strides in the 3×3 convolution's place, after its activation (1904.11486 §3.2).
        se: What weighs the channels of the branch; timm's name, whichever attention it is.
    """

    aa: nn.Module | None
    se: nn.Module | None

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """See :meth:`Block.forward`."""
        y = self.residual(x)
        if self.se is not None:
            y = self.se(y)
        if keep is not None:
            y = (y * keep).to(y.dtype)  # autocast would leave it in float32
        if self.downsample is not None:
            y = y + self.downsample(x)
        return F.relu(y, inplace=True)


class BasicBlock(PostActBlock):
    """Two 3×3 convolutions (1512.03385 Fig. 5 left)."""

    def __init__(self, unit: Unit, architecture: Architecture) -> None:
        super().__init__()
        aa = antialiasing(architecture.antialias, unit.stride)
        self.conv1 = convolution(unit.inputs, unit.outputs, 3, stride=1 if aa else unit.stride)
        self.bn1 = BatchNorm2d(unit.outputs)
        self.aa = aa
        self.conv2 = convolution(unit.outputs, unit.outputs, 3)
        self.bn2 = BatchNorm2d(unit.outputs)
        self.se = attention(unit)
        self.downsample = shortcut(unit, architecture)

    def residual(self, x: Tensor) -> Tensor:
        """Return the two convolutions' output, normalised, not activated."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        if self.aa is not None:
            y = self.aa(y)
        return cast(Tensor, self.bn2(self.conv2(y)))

    @property
    def last(self) -> nn.BatchNorm2d:
        """The last normalisation."""
        return self.bn2


class Bottleneck(PostActBlock):
    """1×1, 3×3, 1×1 convolutions (1512.03385 Fig. 5 right); wide and grouped by its numbers."""

    def __init__(self, unit: Unit, architecture: Architecture) -> None:
        super().__init__()
        aa = antialiasing(architecture.antialias, unit.stride)
        first, second = (1, 1) if aa else _strides(unit, architecture)
        groups = architecture.groups
        self.conv1 = convolution(unit.inputs, unit.middle, 1, stride=first)
        self.bn1 = BatchNorm2d(unit.middle)
        self.conv2 = convolution(unit.middle, unit.middle, 3, stride=second, groups=groups)
        self.bn2 = BatchNorm2d(unit.middle)
        self.aa = aa
        self.conv3 = convolution(unit.middle, unit.outputs, 1)
        self.bn3 = BatchNorm2d(unit.outputs)
        self.se = attention(unit)
        self.downsample = shortcut(unit, architecture)

    def residual(self, x: Tensor) -> Tensor:
        """Return the three convolutions' output, normalised, not activated."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        if self.aa is not None:
            y = self.aa(y)
        return cast(Tensor, self.bn3(self.conv3(y)))

    @property
    def last(self) -> nn.BatchNorm2d:
        """The last normalisation."""
        return self.bn3


class PreActBlock(Block):
    """A v2 unit: ``residual(act(x)) + shortcut``, nothing after the addition (1603.05027 Eq. 9).

    A projection takes the activated tensor; an identity, or zero padding, the raw one. The first
    unit of a ``shared`` entry has no activation of its own: its input is activated already.
    """

    bn1: nn.BatchNorm2d | None
    projects: bool

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """See :meth:`Block.forward`."""
        activated = x if self.bn1 is None else F.relu(self.bn1(x), inplace=True)
        y = self.residual(activated)
        if keep is not None:
            y = (y * keep).to(y.dtype)  # autocast would leave it in float32
        if self.downsample is not None:
            y = y + self.downsample(activated if self.projects else x)
        return y


class PreActBasicBlock(PreActBlock):
    """Two 3×3 convolutions, each normalised and activated before (1603.05027 Fig. 4(e))."""

    def __init__(self, unit: Unit, architecture: Architecture) -> None:
        super().__init__()
        self.bn1 = BatchNorm2d(unit.inputs) if unit.leads else None
        self.conv1 = convolution(unit.inputs, unit.outputs, 3, stride=unit.stride)
        self.bn2 = BatchNorm2d(unit.outputs)
        self.conv2 = convolution(unit.outputs, unit.outputs, 3)
        self.downsample = shortcut(unit, architecture)
        self.projects = unit.connection in ("project", "pool")

    def residual(self, x: Tensor) -> Tensor:
        """Return the two convolutions' output."""
        y = F.relu(self.bn2(self.conv1(x)), inplace=True)
        return cast(Tensor, self.conv2(y))

    @property
    def last(self) -> nn.Conv2d:
        """The last convolution: no normalisation follows it."""
        return self.conv2


class PreActBottleneck(PreActBlock):
    """1×1, 3×3, 1×1 convolutions, each normalised and activated before (1603.05027 Fig. 4(e))."""

    def __init__(self, unit: Unit, architecture: Architecture) -> None:
        super().__init__()
        first, second = _strides(unit, architecture)
        groups = architecture.groups
        self.bn1 = BatchNorm2d(unit.inputs) if unit.leads else None
        self.conv1 = convolution(unit.inputs, unit.middle, 1, stride=first)
        self.bn2 = BatchNorm2d(unit.middle)
        self.conv2 = convolution(unit.middle, unit.middle, 3, stride=second, groups=groups)
        self.bn3 = BatchNorm2d(unit.middle)
        self.conv3 = convolution(unit.middle, unit.outputs, 1)
        self.downsample = shortcut(unit, architecture)
        self.projects = unit.connection in ("project", "pool")

    def residual(self, x: Tensor) -> Tensor:
        """Return the three convolutions' output."""
        y = F.relu(self.bn2(self.conv1(x)), inplace=True)
        y = F.relu(self.bn3(self.conv2(y)), inplace=True)
        return cast(Tensor, self.conv3(y))

    @property
    def last(self) -> nn.Conv2d:
        """The last convolution: no normalisation follows it."""
        return self.conv3


def build_block(unit: Unit, architecture: Architecture) -> Block:
    """Build one unit of a net."""
    kind: type[PreActBasicBlock | PreActBottleneck | BasicBlock | Bottleneck]
    if architecture.form == "preact":
        kind = PreActBasicBlock if architecture.block == "basic" else PreActBottleneck
    else:
        kind = BasicBlock if architecture.block == "basic" else Bottleneck
    return kind(unit, architecture)


def _strides(unit: Unit, architecture: Architecture) -> tuple[int, int]:
    return (unit.stride, 1) if architecture.stride_in == "1x1" else (1, unit.stride)
