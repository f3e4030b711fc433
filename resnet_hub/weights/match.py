"""Whether tensors fit a net: every difference named, nothing loaded by halves."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from resnet_hub.errors import WeightsMismatch

HEAD = ("fc.weight", "fc.bias")
_SHOWN = 8


def matched(
    tensors: Mapping[str, Any], expected: Mapping[str, Tensor], where: str
) -> dict[str, Tensor]:
    """Return ``tensors`` in the order, dtype and layout that a net expects.

    Floating tensors of another precision are cast, and floating BatchNorm step counters (a
    checkpoint may have been halved whole); a missing counter (old checkpoints have none) begins
    at 0.

    Args:
        tensors: By name, from a file that may hold anything under them.
        expected: The net's state dict (its tensors may be on the meta device).
        where: The file, for messages.

    Raises:
        WeightsMismatch: A tensor is missing, unexpected, of another shape, or holds no plain
            floating numbers.
    """
    names = list(expected)
    missing = [n for n in names if n not in tensors and not n.endswith("num_batches_tracked")]
    unexpected = [n for n in tensors if n not in expected]
    kinds = [n for n in names if n in tensors and not _castable(tensors[n], expected[n])]
    shapes = [
        n
        for n in names
        if n in tensors and n not in kinds and tensors[n].shape != expected[n].shape
    ]
    if not missing and not unexpected and not kinds and shapes == list(HEAD):
        weight, bias = (tensors[name] for name in HEAD)
        if differs_along(0, weight, expected[HEAD[0]]) and bias.shape == weight.shape[:1]:
            asked = len(expected[HEAD[0]])
            raise WeightsMismatch(
                f"{where}: {len(weight)} classes in the file, {asked} asked; "
                f"pass classes={asked} for a fresh head"
            )
    if missing or unexpected or shapes or kinds:
        differing = [
            f"{n} {tuple(tensors[n].shape)} for {tuple(expected[n].shape)}" for n in shapes
        ]
        foreign = [f"{n} ({oddity(tensors[n]) or tensors[n].dtype})" for n in kinds]
        problems = {
            "missing": missing,
            "unexpected": unexpected,
            "of another shape": differing,
            "no plain floating numbers": foreign,
        }
        differences = "; ".join(
            f"{kind}: {listed(names)}" for kind, names in problems.items() if names
        )
        raise WeightsMismatch(f"{where}: does not fit the net ({differences})")
    return {name: _like(tensors.get(name), expected[name]) for name in names}


def oddity(value: object) -> str | None:
    """Return what keeps a value from being a dense tensor that holds its numbers, or ``None``.

    A tensor expanded from fewer numbers is small in its file and of any size once it is copied.
    """
    if not isinstance(value, Tensor) or type(value) not in (Tensor, nn.Parameter):
        return type(value).__name__
    if value.is_nested:
        return "nested"
    if value.layout != torch.strided:
        return str(value.layout)
    if value.is_meta:
        return "without its numbers"
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        return f"{value.numel():,} numbers expanded from fewer"
    return None


def differing_names(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """Return the names, sorted, that one of the two lacks or whose shapes differ."""
    ours, theirs = ({(n, t.shape) for n, t in state.items()} for state in (tensors, expected))
    return sorted({name for name, _ in ours ^ theirs})


def differs_along(axis: int, tensor: Tensor | None, expected: Tensor) -> bool:
    """Tell whether a tensor is there, not empty, and of another length along this axis alone."""
    if tensor is None or not tensor.numel() or tensor.dim() != expected.dim():
        return False
    return [i for i in range(tensor.dim()) if tensor.shape[i] != expected.shape[i]] == [axis]


def listed(names: Sequence[str]) -> str:
    """Return the first of many names, and how many more there are."""
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _castable(value: Any, expected: Tensor) -> bool:
    return oddity(value) is None and (value.is_floating_point() or value.dtype == expected.dtype)


def _like(tensor: Tensor | None, expected: Tensor) -> Tensor:
    if tensor is None:
        return torch.zeros(expected.shape, dtype=expected.dtype)
    return tensor.to(expected.dtype).contiguous()
