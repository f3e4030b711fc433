"""Weights for other images or other classes: the first convolution adapted, a fresh head."""

import logging

import torch
from torch import Tensor, nn

from resnet_hub.weights.match import HEAD, differs_along

_STEMS = ("conv1.weight", "conv1.0.weight")  # the second, of a deep stem

logger = logging.getLogger("resnet_hub")


def adapt_stem(tensors: dict[str, Tensor], expected: dict[str, Tensor], where: str) -> None:
    """Put a first convolution for the expected image channels in place of the file's, and say so.

    Args:
        tensors: By name, from a file; changed.
        expected: The net's state dict (its tensors may be on the meta device).
        where: The file, for messages.
    """
    stem = next(name for name in _STEMS if name in expected)
    weight, channels = tensors.get(stem), expected[stem].shape[1]
    if weight is None or not differs_along(1, weight, expected[stem]):
        return
    logger.warning(
        "%s: first convolution adapted from %d to %d image channels",
        *(where, weight.shape[1], channels),
    )
    tensors[stem] = adapted_stem(weight, channels)


def adapt_head(
    tensors: dict[str, Tensor], expected: dict[str, Tensor], where: str, *, renamed: bool
) -> bool:
    """Put a fresh classifier in place of the file's where it is for other classes, and say so.

    Args:
        tensors: By name, from a file; changed.
        expected: The net's state dict (its tensors may be on the meta device).
        where: The file, for messages.
        renamed: Whether as many classes are others.

    Returns:
        Whether it was put there.
    """
    weight, shape = tensors.get(HEAD[0]), expected[HEAD[0]]
    resized = differs_along(0, weight, shape)
    if weight is None or not (resized or renamed):
        return False
    classes, features = shape.shape
    held = str(len(weight)) if resized else "others"
    logger.warning("%s: fresh head for %d classes (the file has %s)", where, classes, held)
    head = nn.Linear(features, classes)
    tensors.update(zip(HEAD, (head.weight.data, head.bias.data), strict=True))
    return True


def adapted_stem(weight: Tensor, channels: int) -> Tensor:
    """Return the first convolution's weight for another number of image channels.

    One channel is the sum over the old ones. More repeat them, scaled; what repeating unevenly
    leaves over is shared out, so that equal channels always give the response they gave before.

    Args:
        weight: ``(out, in, k, k)``.
        channels: Wanted ``in``.

    Returns:
        float32 ``(out, channels, k, k)``.
    """
    weight = weight.float()  # half precision would lose in the sum
    total, old = weight.sum(1, keepdim=True), weight.shape[1]
    if channels == 1:
        return total
    repeated = weight[:, torch.arange(channels) % old] * (old / channels)
    return repeated + (total - repeated.sum(1, keepdim=True)) / channels
