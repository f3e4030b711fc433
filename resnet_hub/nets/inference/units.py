"""Residual units for inference: a block's function, in as few passes as there can be."""

from collections.abc import Callable
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from resnet_hub.nets.blocks import Block, PostActBlock, PreActBlock
from resnet_hub.nets.inference.folding import CannotFold, Folding
from resnet_hub.nets.inference.kernels import Convolution, Kernels


class Shortcut:
    """What carries a unit's input past it.

    Args:
        layer: A block's ``downsample``, but ``None``.
        folding: Makes numbers of its layers.

    Raises:
        CannotFold: It is none of the package's.
    """

    def __init__(self, layer: nn.Module, folding: Folding) -> None:
        self.before: nn.Module | None = None
        self.projection: Convolution | None = None
        if not isinstance(layer, nn.Sequential):
            self.before = None if isinstance(layer, nn.Identity) else folding.copy(layer)
            return
        parts = list(layer)
        norm = parts.pop() if isinstance(parts[-1], nn.BatchNorm2d) else None
        self.projection = folding.convolution(parts.pop(), norm)
        if len(parts) == 1:
            self.before = folding.copy(parts[0])
        elif parts:
            raise CannotFold

    def __call__(self, x: Tensor, kernels: Kernels) -> Tensor:
        """Return what is carried; an identity's is ``x`` itself."""
        if self.before is not None:
            x = self.before(x)
        if self.projection is None:
            return x
        return kernels.convolve(self.projection, x, relu=False)


class Unit:
    """One residual unit of any form; :class:`~resnet_hub.nets.blocks.Block` says what it computes.

    Args:
        block: The unit as it was trained.
        folding: Makes numbers of its layers.

    Raises:
        CannotFold: A layer is none of the package's.
    """

    def __init__(self, block: Block, folding: Folding) -> None:
        self.opening: Callable[[Tensor], Tensor] | None = None
        self.norm: Callable[[Tensor], Tensor] | None = None
        self.pool: nn.Module | None = None
        self.attention: nn.Module | None = None
        self.activated, self.ends_activated = False, False
        names = ["conv1", "conv2", "conv3"] if hasattr(block, "conv3") else ["conv1", "conv2"]
        convolutions = [getattr(block, name) for name in names]
        if isinstance(block, PreActBlock):
            opening = getattr(block, "bn1", None)
            self.opening = None if opening is None else folding.norm(opening)
            norms = [getattr(block, f"bn{number}") for number in range(2, len(names) + 1)]
            norms.append(None)
        elif isinstance(block, PostActBlock):
            norms = [getattr(block, f"bn{number}") for number in range(1, len(names) + 1)]
            self._order(block, norms, folding)
        else:
            raise CannotFold
        *self.inner, self.last = map(folding.convolution, convolutions, norms)
        self.shortcut = None if block.downsample is None else Shortcut(block.downsample, folding)
        self.projects = block.projects
        self.gate = None if block.gate is None else folding.convolution(block.gate, None)
        self.gates_branch = block.gates_branch
        self.shortcut_scale, self.residual_scale = block.shortcut_scale, block.residual_scale

    def _order(self, block: PostActBlock, norms: list[nn.Module | None], folding: Folding) -> None:
        """Place the last norm and the activations of a v1 unit (1603.05027 Fig. 4 a to d)."""
        self.pool = None if block.aa is None else folding.copy(block.aa)
        self.attention = None if block.se is None else folding.copy(block.se)
        self.activated = block.form == "relu_before_addition"
        self.ends_activated = block.form in ("residual", "plain")
        if block.form == "relu_only_preact":
            self.opening = F.relu
        if block.form == "bn_after_addition":
            self.norm = folding.norm(cast(nn.Module, norms.pop()))
            norms.append(None)

    def __call__(self, x: Tensor, kernels: Kernels) -> Tensor:
        """Return the unit's output; ``x`` is needed no more, and may be written over."""
        seen = x if self.opening is None else self.opening(x)
        y = seen
        for convolution in self.inner:
            y = kernels.convolve(convolution, y, relu=True)
        if self.pool is not None:
            y = self.pool(y)
        carried = None
        if self.shortcut is not None:
            carried = self.shortcut(seen if self.projects else x, kernels)
        weighed = (self.gate, self.shortcut_scale, self.residual_scale) != (None, 1, 1)
        if carried is None or weighed or self.activated or self.attention is not None:
            y = self._joined(y, carried, seen, kernels)
        else:
            y = kernels.convolve_onto(carried, self.last, y, relu=self.ends_activated)
        return y if self.norm is None else self.norm(y)

    def _joined(self, y: Tensor, carried: Tensor | None, seen: Tensor, kernels: Kernels) -> Tensor:
        """Return branch and shortcut, weighed and added step by step."""
        alone = carried is None and self.attention is None
        relu = self.activated or (alone and self.ends_activated)
        y = kernels.convolve(self.last, y, relu=relu)
        if self.attention is not None:
            y = self.attention(y)
        if carried is not None:
            if self.gate is not None:
                weights = kernels.convolve(self.gate, seen, relu=False).sigmoid()
                y = y.mul_(weights) if self.gates_branch else y
                carried = carried * (1 - weights)
            if self.residual_scale != 1:
                y = y.mul_(self.residual_scale)
            y = y.add_(carried, alpha=self.shortcut_scale)
        return y.relu_() if self.ends_activated and not alone else y
