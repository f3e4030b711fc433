"""What happens to a training batch on the device, every sample by its own key."""

import math
from functools import cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from resnet_hub.randomness import integers, normals, sample_keys, uniform

# Streams of a sample's draws; stochastic depth has those from 1000 on.
_SHIFT_DOWN, _SHIFT_RIGHT, _FLIP = 0, 1, 2
_LIGHTING = 100
_ERASE, _ERASE_DOWN, _ERASE_RIGHT, _ERASE_NOISE = 110, 111, 112, 113
_ERASE_AREA, _ERASE_ASPECT = 120, 140  # and one for each attempt behind them

_ATTEMPTS = 10
_NOISE_AT_ONCE = 32  # images, whose hashes of 8 bytes a number would be large for a whole batch

PadMode = Literal["zeros", "reflect"]
EraseFill = Literal["zeros", "noise"]

# Of the RGB pixels of ImageNet's training images, scaled to [0, 1], as fb.resnet.torch gives them.
_EIGENVALUES = (0.2175, 0.0188, 0.0045)
_EIGENVECTORS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)  # one a column; a row is a channel


def shift(images: Tensor, keys: Tensor, *, pad: int, mode: PadMode = "zeros") -> Tensor:
    """Pad, then crop at a keyed place (1512.03385 §4.2).

    Args:
        images: float ``(N, C, H, W)``, normalised: the zeros are the mean, as in fb.resnet.torch,
            which normalises before it pads.
        keys: int64 ``(N,)``.
        pad: Pixels on each side; below H and W for ``reflect``.
        mode: What the padding holds: zeros, or the image mirrored at its outermost pixels.

    Returns:
        Same shape and dtype.
    """
    count, _, height, width = images.shape
    down = integers(keys, _SHIFT_DOWN, 2 * pad + 1)
    right = integers(keys, _SHIFT_RIGHT, 2 * pad + 1)
    padded = F.pad(images, (pad,) * 4, mode="constant" if mode == "zeros" else mode)
    # A view of every window, (N, C, 2·pad+1, 2·pad+1, H, W), of which one a sample is gathered.
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    if _by_numpy(images):
        taken = windows.numpy()[np.arange(count), :, down.numpy(), right.numpy()]
        return torch.from_numpy(taken)
    return windows[torch.arange(count, device=images.device), :, down, right]


def flip(images: Tensor, keys: Tensor) -> Tensor:
    """Mirror the images ``(N, C, H, W)`` whose key ``(N,)`` says so: half of them."""
    return _mirror(images, integers(keys, _FLIP, 2).bool())


def alternating_flip(images: Tensor, indices: Tensor, *, seed: int, epoch: int) -> Tensor:
    """Mirror half of the images in even epochs, and the other half in odd ones (2404.00498 §3.6).

    Any two epochs in a row thus show both sides of every image.

    Args:
        images: ``(N, C, H, W)``.
        indices: int64 ``(N,)``, each sample's number; with the seed it decides for all epochs.
        seed: Key of the halves.
        epoch: Which of them is mirrored.
    """
    halves = integers(sample_keys(seed, 0, indices), _FLIP, 2)
    return _mirror(images, (halves + epoch) % 2 == 1)


def lighting(images: Tensor, keys: Tensor, *, sd: float, std: tuple[float, ...]) -> Tensor:
    """Shift each image's colour along ImageNet's principal components.

    Krizhevsky et al. 2012 §4.1, with the numbers of fb.resnet.torch.

    Args:
        images: float ``(N, 3, H, W)``, normalised.
        keys: int64 ``(N,)``.
        sd: Standard deviation of the three normal numbers that multiply the eigenvalues.
        std: What the pixels were divided by, a channel: the shift is one of pixels in [0, 1].

    Returns:
        Same shape and dtype.
    """
    components = _components(std).to(images.device, non_blocking=True)
    # No matrix product: a GPU may round its factors to TF32.
    shifts = (normals(keys, _LIGHTING, 3)[:, None, :] * sd * components).sum(-1)
    return images + shifts.to(images.dtype)[:, :, None, None]


def erase(
    images: Tensor,
    keys: Tensor,
    *,
    probability: float,
    area: tuple[float, float],
    aspect: tuple[float, float],
    fill: EraseFill = "zeros",
) -> Tensor:
    """Erase a keyed rectangle of some of the images (1708.04896 §3.2).

    Args:
        images: float ``(N, C, H, W)``, normalised: the zeros are the mean.
        keys: int64 ``(N,)``.
        probability: Share of the images that have one erased.
        area: Bounds of its share of the image.
        aspect: Bounds of its height over its width.
        fill: Zeros, or a standard normal number a pixel and channel.

    Returns:
        Same shape and dtype.
    """
    height, width = images.shape[2:]
    top, left, tall, wide = boxes(keys, height=height, width=width, area=area, aspect=aspect)
    tall = tall * (uniform(keys, _ERASE) < probability)
    rows, columns = (torch.arange(side, device=images.device) for side in (height, width))
    inside = (
        _within(rows, top, tall)[:, None, :, None] & _within(columns, left, wide)[:, None, None]
    )
    if fill == "zeros":
        return images.masked_fill(inside, 0)
    numbers = images[0].numel() if len(images) else 0
    noise = [normals(some, _ERASE_NOISE, numbers) for some in torch.split(keys, _NOISE_AT_ONCE)]
    return torch.where(inside, torch.cat(noise).view(images.shape).to(images.dtype), images)


def boxes(
    keys: Tensor,
    *,
    height: int,
    width: int,
    area: tuple[float, float],
    aspect: tuple[float, float],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw a rectangle within the image for each key.

    Area is drawn evenly, aspect ratio by logarithm; of ten attempts the first that is smaller than
    the image counts, as in torchvision's ``RandomErasing`` and timm's.

    Returns:
        Upper edge, left edge, height and width, int64 ``(N,)`` each; height and width are 0 where
        no attempt fits.
    """
    attempts = range(_ATTEMPTS)
    areas = torch.stack([uniform(keys, _ERASE_AREA + n) for n in attempts], dim=-1)
    ratios = torch.stack([uniform(keys, _ERASE_ASPECT + n) for n in attempts], dim=-1)
    areas = (area[0] + (area[1] - area[0]) * areas) * (height * width)
    low, high = math.log(aspect[0]), math.log(aspect[1])
    ratios = (low + (high - low) * ratios).exp_()
    tall, wide = ((areas * ratios).sqrt_().round_(), (areas / ratios).sqrt_().round_())
    fits = (tall < height) & (wide < width)
    first = fits.to(torch.uint8).argmax(-1, keepdim=True)
    found = fits.any(-1)
    tall, wide = (side.gather(-1, first)[:, 0].to(torch.int64) * found for side in (tall, wide))
    top = integers(keys, _ERASE_DOWN, height - tall + 1)
    left = integers(keys, _ERASE_RIGHT, width - wide + 1)
    return top, left, tall, wide


def _within(places: Tensor, start: Tensor, length: Tensor) -> Tensor:
    return (places >= start[:, None]) & (places < (start + length)[:, None])


def _by_numpy(images: Tensor) -> bool:
    """Whether NumPy moves these pixels: on a CPU it copies row by row, and torch number by number.

    The same pixels come out, in a third of the time.
    """
    return images.is_cpu and images.dtype == torch.float32


def _mirror(images: Tensor, chosen: Tensor) -> Tensor:
    if _by_numpy(images):
        mirrored, places = images.numpy().copy(), chosen.numpy()
        mirrored[places] = mirrored[places, :, :, ::-1]
        return torch.from_numpy(mirrored)
    return torch.where(chosen.view(-1, 1, 1, 1), images.flip(3), images)


@cache
def _components(std: tuple[float, ...]) -> Tensor:
    """Return the components' shifts of the normalised channels: ``(channel, component)``."""
    return torch.tensor(_EIGENVECTORS) * torch.tensor(_EIGENVALUES) / torch.tensor(std)[:, None]
