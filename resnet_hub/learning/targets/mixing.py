"""Mixup and CutMix: a batch mixed with itself, on the device, by a keyed draw."""

import random
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from resnet_hub.data.batches import Batch
from resnet_hub.learning.settings import MixingSettings
from resnet_hub.randomness import key_of

Place = tuple[int, int, int, int]


@dataclass(frozen=True)
class Mix:
    """How one batch is mixed.

    Attributes:
        own: Share of each image, and of its label, that stays: λ, that of CutMix after its box was
            clipped.
        box: CutMix's ``(top, bottom, left, right)`` in pixels, the ends left out; none in mixup.
    """

    own: float
    box: tuple[int, int, int, int] | None = None


def mixed(
    batch: Batch, classes: int, settings: MixingSettings, *, place: Place
) -> tuple[Tensor, Tensor]:
    """Return a batch's images and targets, as its place in the run mixes them.

    Args:
        batch: On the device, ready for the net; left as it is.
        classes: Their number.
        settings: What may be drawn.
        place: The run's seed, the epoch, the batch's number in it, and the rank.

    Returns:
        Images as the batch has them, and targets: its labels where nothing is ever mixed, else
        float32 ``(N, classes)`` whose rows sum to 1.
    """
    images, labels = batch.images, batch.labels
    if not settings.on:
        return images, labels
    mix = draw(settings, place=place, size=(images.shape[2], images.shape[3]))
    if mix is None:
        return images, one_hot(labels, classes)
    return mixed_images(images, mix, settings), mixed_targets(labels, classes, mix, settings)


def draw(settings: MixingSettings, *, place: Place, size: tuple[int, int]) -> Mix | None:
    """Draw how a batch is mixed, from its place alone.

    Drawn on the host, as plain numbers that its kernels take along: no device is waited for.

    Args:
        settings: What may be drawn.
        place: (seed, epoch, batch, rank).
        size: Height and width of the images.

    Returns:
        The draw; ``None`` leaves the batch as it is.
    """
    # Python's generator: of a given seed the same in every release, and of no global state.
    own = random.Random(key_of("mixing", *place))  # noqa: S311 - no secret
    if own.random() >= settings.probability:
        return None
    cuts = settings.cutmix > 0
    if cuts and settings.mixup > 0:
        cuts = own.random() < settings.cutmix_share
    alpha = settings.cutmix if cuts else settings.mixup
    kept = own.betavariate(alpha, alpha)
    if not cuts:
        return Mix(kept)
    height, width = size
    return cut(kept, size, centre=(own.randrange(height), own.randrange(width)))


def cut(kept: float, size: tuple[int, int], *, centre: tuple[int, int]) -> Mix:
    """Return CutMix's box around a centre, clipped at the borders, and what it leaves.

    Its sides are √(1 − λ) of the image's (1905.04899 §3.1, Eq. 2), rounded down to an even number
    of pixels as in the authors' code and in torchvision; timm's later releases take odd ones too.

    Args:
        kept: λ as drawn.
        size: Height and width of the images.
        centre: Row and column.
    """
    ends: list[int] = []
    for middle, side in zip(centre, size, strict=True):
        half = int(0.5 * sqrt(1 - kept) * side)
        ends += [max(middle - half, 0), min(middle + half, side)]
    top, bottom, left, right = ends
    return Mix(
        1 - (bottom - top) * (right - left) / (size[0] * size[1]), (top, bottom, left, right)
    )


def mixed_images(images: Tensor, mix: Mix, settings: MixingSettings) -> Tensor:
    """Return a batch mixed with its partners.

    Args:
        images: float ``(N, C, H, W)``; left as they are.
        mix: The draw.
        settings: Who is whose partner.
    """
    if mix.box is None:
        return images * mix.own + _partners(images, settings) * (1 - mix.own)
    top, bottom, left, right = mix.box
    mixed = images.clone()
    mixed[..., top:bottom, left:right] = _partners(images[..., top:bottom, left:right], settings)
    return mixed


def mixed_targets(labels: Tensor, classes: int, mix: Mix, settings: MixingSettings) -> Tensor:
    """Return the targets of a mixed batch, float32 ``(N, classes)``.

    Args:
        labels: int64 ``(N,)``.
        classes: Their number.
        mix: The draw.
        settings: Who is whose partner.
    """
    targets = one_hot(labels, classes)
    return targets * mix.own + _partners(targets, settings) * (1 - mix.own)


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Return float32 ``(N, classes)`` with a 1 for each label of int64 ``(N,)``.

    Torch's own asks the device for the labels' bounds.
    """
    return torch.zeros(len(labels), classes, device=labels.device).scatter_(1, labels[:, None], 1.0)


def _partners(rows: Tensor, settings: MixingSettings) -> Tensor:
    return rows.flip(0) if settings.partner == "flip" else rows.roll(1, 0)
