"""Residual units: basic and bottleneck, activated after (v1) or before (v2) the convolutions."""

from abc import ABC, abstractmethod
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from resnet_hub.architecture import Architecture, Unit
from resnet_hub.nets.attention import attention
from resnet_hub.nets.layers import BatchNorm2d, convolution
from resnet_hub.nets.pooling import antialiasing
from resnet_hub.nets.shortcut_dropout import ShortcutDropout
from resnet_hub.nets.shortcuts import gate, shortcut


class Block(nn.Module, ABC):
    """A unit of any kind: a branch that learns, and what carries the input past it.

    Attributes:
        downsample: The shortcut, by torchvision's name; ``nn.Identity`` and ``None`` hold no keys.
        gate: What a gate of branch and shortcut is the sigmoid of; ``None`` where there is none.
        projects: Whether the shortcut has weights; it then sees what the branch sees.
    """

    downsample: nn.Module | None
    gate: nn.Conv2d | None

    def __init__(self, unit: Unit, architecture: Architecture) -> None:
        super().__init__()
        self.projects = unit.connection in ("project", "pool")
        self.gates_branch = architecture.shortcut_gate == "exclusive"
        self.shortcut_scale = architecture.shortcut_scale
        self.residual_scale = architecture.residual_scale

    @abstractmethod
    def residual(self, x: Tensor) -> Tensor:
        """Return the branch that learns, before the addition."""

    @abstractmethod
    def forward(
        self, x: Tensor, keep: Tensor | None = None, dropout: ShortcutDropout | None = None
    ) -> Tensor:
        """Map ``(N, inputs, H, W)`` to ``(N, outputs, ⌈H/stride⌉, ⌈W/stride⌉)``.

        Args:
            x: The unit's input.
            keep: Stochastic depth's factor of the residual branch, ``(N, 1, 1, 1)``.
            dropout: What sets values of the shortcut to zero.
        """

    @property
    @abstractmethod
    def last(self) -> nn.BatchNorm2d | nn.Conv2d:
        """The branch's last learnt scale; set to zero, the unit begins as its shortcut."""

    def joined(
        self,
        y: Tensor,
        x: Tensor,
        seen: Tensor,
        *,
        keep: Tensor | None,
        dropout: ShortcutDropout | None,
    ) -> Tensor:
        """Return branch and shortcut added, each weighed as the architecture says.

        Args:
            y: The branch's output.
            x: The unit's input.
            seen: What the branch sees of it, and a gate, and a projection.
            keep: As in :meth:`forward`.
            dropout: As in :meth:`forward`.
        """
        if keep is not None:
            y = (y * keep).to(y.dtype)  # autocast would leave it in float32
        if self.downsample is None:
            return y
        carried = self.downsample(seen if self.projects else x)
        if dropout is not None:
            carried = dropout.drop(carried)
        if self.gate is not None:
            weights = self.gate(seen).sigmoid()
            y = y * weights if self.gates_branch else y
            carried = carried * (1 - weights)
        if self.residual_scale != 1:
            y = y * self.residual_scale
        if self.shortcut_scale != 1:
            carried = carried * self.shortcut_scale
        return cast(Tensor, y + carried)


class PostActBlock(Block):
    """A v1 unit: ``relu(residual(x) + shortcut(x))`` (1512.03385 Eq. 1, 2).

    In the forms of 1603.05027 Fig. 4 b to d its last norm or activation stands elsewhere; the
    tensors are the same, by the same names. The figure shows identities alone: projections keep
    their norm in each form.

    Attributes:
        aa: What strides in the 3×3 convolution's place, after its activation (1904.11486 §3.2).
        se: What weighs the channels of the branch; timm's name, whichever attention it is.
    """

    aa: nn.Module | None
    se: nn.Module | None

    def __init__(self, unit: Unit, architecture: Architecture) -> None:
        super().__init__(unit, architecture)
        self.form = architecture.form

    @abstractmethod
    def inner(self, x: Tensor) -> Tensor:
        """Return what the last convolution takes."""

    @property
    @abstractmethod
    def end(self) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
        """The last convolution, and the norm that follows it or the addition."""

    def residual(self, x: Tensor) -> Tensor:
        """Return the branch before the addition: normalised, as a rule, and not activated."""
        convolution, norm = self.end
        y: Tensor = convolution(self.inner(x))
        if self.form != "bn_after_addition":
            y = norm(y)
        return F.relu(y, inplace=True) if self.form == "relu_before_addition" else y

    @property
    def last(self) -> nn.BatchNorm2d | nn.Conv2d:
        """The last normalisation; the last convolution where that follows the addition."""
        convolution, norm = self.end
        return convolution if self.form == "bn_after_addition" else norm

    def forward(
        self, x: Tensor, keep: Tensor | None = None, dropout: ShortcutDropout | None = None
    ) -> Tensor:
        """See :meth:`Block.forward`."""
        # The first unit's input is activated already: there it changes nothing (its appendix).
        seen = F.relu(x) if self.form == "relu_only_preact" else x
        y = self.residual(seen)
        if self.se is not None:
            y = self.se(y)
        y = self.joined(y, x, seen, keep=keep, dropout=dropout)
        if self.form == "bn_after_addition":
            y = self.end[1](y)
        if self.form in ("relu_before_addition", "relu_only_preact"):
            return y
        return F.relu(y, inplace=True)


class BasicBlock(PostActBlock):
    """Two 3×3 convolutions (1512.03385 Fig. 5 left)."""

    def __init__(self, unit: Unit, architecture: Architecture) -> None:
        super().__init__(unit, architecture)
        aa = antialiasing(architecture.antialias, unit.stride)
        self.conv1 = convolution(unit.inputs, unit.outputs, 3, stride=1 if aa else unit.stride)
        self.bn1 = BatchNorm2d(unit.outputs)
        self.aa = aa
        self.conv2 = convolution(unit.outputs, unit.outputs, 3)
        self.bn2 = BatchNorm2d(unit.outputs)
        self.se = attention(unit)
        self.downsample = shortcut(unit, architecture)
        self.gate = gate(unit, architecture)

    def inner(self, x: Tensor) -> Tensor:
        """Return the first convolution's output, normalised and activated."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return y if self.aa is None else cast(Tensor, self.aa(y))

    @property
    def end(self) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
        """See :attr:`PostActBlock.end`."""
        return self.conv2, self.bn2


class Bottleneck(PostActBlock):
    """1×1, 3×3, 1×1 convolutions (1512.03385 Fig. 5 right); wide and grouped by its numbers."""

    def __init__(self, unit: Unit, architecture: Architecture) -> None:
        super().__init__(unit, architecture)
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
        self.gate = gate(unit, architecture)

    def inner(self, x: Tensor) -> Tensor:
        """Return the 3×3 convolution's output, normalised and activated."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        return y if self.aa is None else cast(Tensor, self.aa(y))

    @property
    def end(self) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
        """See :attr:`PostActBlock.end`."""
        return self.conv3, self.bn3


class PreActBlock(Block):
    """A v2 unit: ``residual(act(x)) + shortcut``, nothing after the addition (1603.05027 Eq. 9).

    A projection takes the activated tensor; an identity, or zero padding, the raw one. The first
    unit of a ``shared`` entry has no activation of its own: its input is activated already.
    """

    bn1: nn.BatchNorm2d | None

    def forward(
        self, x: Tensor, keep: Tensor | None = None, dropout: ShortcutDropout | None = None
    ) -> Tensor:
        """See :meth:`Block.forward`."""
        activated = x if self.bn1 is None else F.relu(self.bn1(x), inplace=True)
        return self.joined(self.residual(activated), x, activated, keep=keep, dropout=dropout)


class PreActBasicBlock(PreActBlock):
    """Two 3×3 convolutions, each normalised and activated before (1603.05027 Fig. 4(e))."""

    def __init__(self, unit: Unit, architecture: Architecture) -> None:
        super().__init__(unit, architecture)
        self.bn1 = BatchNorm2d(unit.inputs) if unit.leads else None
        self.conv1 = convolution(unit.inputs, unit.outputs, 3, stride=unit.stride)
        self.bn2 = BatchNorm2d(unit.outputs)
        self.conv2 = convolution(unit.outputs, unit.outputs, 3)
        self.downsample = shortcut(unit, architecture)
        self.gate = gate(unit, architecture)

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
        super().__init__(unit, architecture)
        first, second = _strides(unit, architecture)
        groups = architecture.groups
        self.bn1 = BatchNorm2d(unit.inputs) if unit.leads else None
        self.conv1 = convolution(unit.inputs, unit.middle, 1, stride=first)
        self.bn2 = BatchNorm2d(unit.middle)
        self.conv2 = convolution(unit.middle, unit.middle, 3, stride=second, groups=groups)
        self.bn3 = BatchNorm2d(unit.middle)
        self.conv3 = convolution(unit.middle, unit.outputs, 1)
        self.downsample = shortcut(unit, architecture)
        self.gate = gate(unit, architecture)

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
