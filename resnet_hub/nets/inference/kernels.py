"""Convolutions with what follows them: by torch's public calls, or by oneDNN in one kernel each.

The second way are the operators that torch.compile's freezing calls on a CPU
(``torch/_inductor/fx_passes/mkldnn_fusion.py``). They are no public part of torch, so
:func:`has_fused` asks for each by its signature, and whoever uses them compares one result.
"""

from abc import ABC, abstractmethod
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

_FUSED = (
    "mkldnn::_convolution_pointwise(Tensor X, Tensor W, Tensor? B, int[] padding, int[] stride, "
    "int[] dilation, int groups, str attr, Scalar?[] scalars, str? algorithm) -> Tensor Y",
    "mkldnn::_convolution_pointwise_.binary(Tensor(a!) other, Tensor X, Tensor W, Tensor? B, "
    "int[] padding, int[] stride, int[] dilation, int groups, str binary_attr, Scalar? alpha, "
    "str? unary_attr, Scalar?[] unary_scalars, str? unary_algorithm) -> Tensor(a!) Y",
    "mkldnn::_reorder_convolution_weight(Tensor self, int[2] padding=0, int[2] stride=1, "
    "int[2] dilation=1, int groups=1, int[]? input_size=None) -> Tensor Y",
    "mkldnn::_get_mkldnn_serialized_md(Tensor mkldnn_tensor) -> Tensor",
)


@dataclass(frozen=True, eq=False)  # one is the key of its packed weights
class Convolution:
    """A convolution's numbers, those of the norm after it included.

    Attributes:
        weight: ``(outputs, inputs / groups, height, width)``.
        bias: ``(outputs,)``, where there is one.
        padding: Of each side of the map, for height and width.
        stride: For height and width.
        dilation: For height and width.
        groups: Of channels.
    """

    weight: Tensor
    bias: Tensor | None
    padding: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    groups: int


Layouts: TypeAlias = MutableMapping[tuple[Convolution, bytes], Tensor]
"""Packed weights, by oneDNN's description of their layout."""


class Kernels(ABC):
    """A way to run convolutions; none changes what it is given, but for ``onto``."""

    @abstractmethod
    def convolve(self, by: Convolution, x: Tensor, *, relu: bool) -> Tensor:
        """Return ``x`` convolved, and activated where asked."""

    @abstractmethod
    def convolve_onto(self, onto: Tensor, by: Convolution, x: Tensor, *, relu: bool) -> Tensor:
        """Return ``onto`` plus ``x`` convolved, activated where asked; ``onto``'s memory is used.

        Args:
            onto: A map of the result's shape that is needed no more.
            by: The convolution.
            x: What is convolved; not ``onto``.
            relu: Whether the sum is activated.
        """


class Dense(Kernels):
    """Torch's public calls."""

    def convolve(self, by: Convolution, x: Tensor, *, relu: bool) -> Tensor:
        """See :meth:`Kernels.convolve`."""
        y = F.conv2d(x, by.weight, by.bias, by.stride, by.padding, by.dilation, by.groups)
        return y.relu_() if relu else y

    def convolve_onto(self, onto: Tensor, by: Convolution, x: Tensor, *, relu: bool) -> Tensor:
        """See :meth:`Kernels.convolve_onto`."""
        y = self.convolve(by, x, relu=False).add_(onto)
        return y.relu_() if relu else y


class Packed(Kernels):
    """OneDNN's fused kernels; weights are packed when a convolution is run for the first time.

    They are laid out for the shape that it is then given. Others give the same, but more slowly.

    Args:
        shared: Packed weights that are there already, by their layout; the new are added.
    """

    def __init__(self, shared: Layouts) -> None:
        self.largest = 0
        """Bytes that the largest map of one image takes."""
        self._weights: dict[Convolution, Tensor] = {}
        self._shared = shared

    def convolve(self, by: Convolution, x: Tensor, *, relu: bool) -> Tensor:
        """See :meth:`Kernels.convolve`."""
        found: Tensor = torch.ops.mkldnn._convolution_pointwise.default(
            x,
            *self._arguments(by, x),
            "relu" if relu else "none",
            [],
            "",
        )
        return found

    def convolve_onto(self, onto: Tensor, by: Convolution, x: Tensor, *, relu: bool) -> Tensor:
        """See :meth:`Kernels.convolve_onto`."""
        # The sum is written in place only where it has the layout that the kernel writes.
        found: Tensor = torch.ops.mkldnn._convolution_pointwise_.binary(
            onto.contiguous(memory_format=torch.channels_last),
            x,
            *self._arguments(by, x),
            "add",
            1.0,
            "relu" if relu else None,
            [],
            None,
        )
        return found

    def _arguments(self, by: Convolution, x: Tensor) -> tuple[object, ...]:
        """Return what both operators take after the map."""
        weight = self._weights[by] if by in self._weights else self._packed(by, x)
        return weight, by.bias, by.padding, by.stride, by.dilation, by.groups

    def _packed(self, by: Convolution, x: Tensor) -> Tensor:
        """Return weights laid out for a shape, and keep them for the next time."""
        packed = torch.ops.mkldnn._reorder_convolution_weight.default(
            by.weight, by.padding, by.stride, by.dilation, by.groups, x.shape
        )
        layout = torch.ops.mkldnn._get_mkldnn_serialized_md.default(packed)
        packed = self._shared.setdefault((by, layout.numpy().tobytes()), packed)
        height, width = (
            (side - 1) // step + 1 for side, step in zip(x.shape[2:], by.stride, strict=True)
        )
        size = len(by.weight) * height * width * by.weight.element_size()
        self.largest = max(self.largest, size)
        self._weights[by] = packed
        return packed


def has_fused() -> bool:
    """Return whether this torch and CPU have every operator of :class:`Packed`, as it is called."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]  # torch's own
        return False
    return all(_schema_of(text.partition("(")[0]) == text for text in _FUSED)


def _schema_of(name: str) -> str | None:
    """Return an operator's signature; ``None`` where torch has no operator of this name."""
    space, _, rest = name.partition("::")
    packet, _, overload = rest.partition(".")
    try:
        operator = getattr(getattr(getattr(torch.ops, space), packet), overload or "default")
        return str(operator._schema)
    except (AttributeError, RuntimeError):
        return None
