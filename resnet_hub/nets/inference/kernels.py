"""Convolutions with what follows them: by torch's public calls, or by oneDNN in one kernel each.

The second way are the operators that torch.compile's freezing calls on a CPU
(``torch/_inductor/fx_passes/mkldnn_fusion.py``). They are no public part of torch, so
:func:`has_fused` asks for each by its signature, and whoever uses them compares one result.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

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
    """Torch's public calls.

    Attributes:
        shapes: Of what each convolution was given.
    """

    def __init__(self) -> None:
        self.shapes: dict[Convolution, torch.Size] = {}

    def convolve(self, by: Convolution, x: Tensor, *, relu: bool) -> Tensor:
        """See :meth:`Kernels.convolve`."""
        self.shapes[by] = x.shape
        y = F.conv2d(x, by.weight, by.bias, by.stride, by.padding, by.dilation, by.groups)
        return y.relu_() if relu else y

    def convolve_onto(self, onto: Tensor, by: Convolution, x: Tensor, *, relu: bool) -> Tensor:
        """See :meth:`Kernels.convolve_onto`."""
        y = self.convolve(by, x, relu=False).add_(onto)
        return y.relu_() if relu else y


class Packed(Kernels):
    """OneDNN's fused kernels on weights that are laid out for one shape of images.

    Other shapes give the same, but the weights are laid out anew in each call.

    Args:
        weights: Of each convolution, by :func:`pack`.
    """

    def __init__(self, weights: Mapping[Convolution, Tensor]) -> None:
        self.weights = weights

    def convolve(self, by: Convolution, x: Tensor, *, relu: bool) -> Tensor:
        """See :meth:`Kernels.convolve`."""
        found: Tensor = torch.ops.mkldnn._convolution_pointwise.default(
            x,
            self.weights[by],
            by.bias,
            by.padding,
            by.stride,
            by.dilation,
            by.groups,
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
            self.weights[by],
            by.bias,
            by.padding,
            by.stride,
            by.dilation,
            by.groups,
            "add",
            1.0,
            "relu" if relu else None,
            [],
            None,
        )
        return found


def has_fused() -> bool:
    """Return whether this torch and CPU have every operator of :class:`Packed`, as it is called."""
    if not torch.backends.mkldnn.is_available():
        return False
    return all(_schema_of(text.partition("(")[0]) == text for text in _FUSED)


def pack(shapes: Mapping[Convolution, torch.Size], known: Packed | None) -> Packed:
    """Lay weights out as oneDNN wants them for one shape of images.

    Args:
        shapes: Of what each convolution is given, as :class:`Dense` saw them.
        known: Another shape's; tensors of the same layout are shared with it.
    """
    layout = torch.ops.mkldnn._get_mkldnn_serialized_md.default
    weights = {}
    for by, shape in shapes.items():
        packed = torch.ops.mkldnn._reorder_convolution_weight.default(
            by.weight, by.padding, by.stride, by.dilation, by.groups, list(shape)
        )
        before = None if known is None else known.weights[by]
        same = before is not None and torch.equal(layout(before), layout(packed))
        weights[by] = before if same else packed
    return Packed(weights)


def _schema_of(name: str) -> str | None:
    """Return an operator's signature; ``None`` where torch has no operator of this name."""
    space, _, rest = name.partition("::")
    packet, _, overload = rest.partition(".")
    try:
        return str(getattr(getattr(getattr(torch.ops, space), packet), overload or "default")._schema)
    except (AttributeError, RuntimeError):
        return None
