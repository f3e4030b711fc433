"""Crops of one picture to a net's size, drawn from torch's default generator.

A data set keys the generator by sample. Imports no Lightning: workers that are started afresh
import this module.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import v2

from resnet_hub.data.policies import Policy
from resnet_hub.preprocess import Interpolation

Transform = Callable[[Tensor], Tensor]
"""A picture, uint8 ``(C, H, W)``, to uint8 ``(C, size, size)``."""


def with_policy(transform: Transform, policy: Policy) -> Transform:
    """Return the transform followed by the policy, as torchvision's and timm's recipes have it."""
    # On a picture: all references are, and there the operations are exact and fast.
    pipeline: Transform = v2.Compose([transform, v2.ToPILImage(), policy, v2.PILToTensor()])
    return pipeline


def resized_crop_flip(size: int, *, interpolation: Interpolation) -> Transform:
    """Return a crop of random area (8% to all) and aspect (3:4 to 4:3), resized; half mirrored.

    1409.4842 §6, as torchvision's ``RandomResizedCrop`` has it.
    """
    drawn = v2.RandomResizedCrop(size)
    return partial(_resized_crop_flip, drawn=drawn, size=size, interpolation=interpolation)


def scale_crop_flip(
    size: int, *, scale: tuple[int, int], interpolation: Interpolation
) -> Transform:
    """Return a random crop of the picture at a random scale; half mirrored (1512.03385 §3.4).

    Args:
        size: Side of the crop, in pixels.
        scale: Bounds of the resized picture's shorter side in pixels, both included.
        interpolation: Filter of the resizing.
    """
    drawn = v2.RandomCrop(size)
    return partial(_scale_crop_flip, drawn=drawn, scale=scale, interpolation=interpolation)


def _resized_crop_flip(
    image: Tensor, *, drawn: v2.RandomResizedCrop, size: int, interpolation: Interpolation
) -> Tensor:
    # Torchvision's draws, one by one, without what its classes do around them.
    box = drawn.make_params([image])
    top, left = box["top"], box["left"]
    cropped = image[:, top : top + box["height"], left : left + box["width"]]
    return _half_mirrored(_resized(cropped, (size, size), interpolation))


def _scale_crop_flip(
    image: Tensor,
    *,
    drawn: v2.RandomCrop,
    scale: tuple[int, int],
    interpolation: Interpolation,
) -> Tensor:
    # Not v2.RandomShortestSize: its rounding can leave the shorter side a pixel below the crop's.
    side = int(torch.randint(scale[0], scale[1] + 1, ()))
    height, width = image.shape[-2:]
    long = int(side * max(height, width) / min(height, width))
    whole = _resized(image, (side, long) if height <= width else (long, side), interpolation)
    box = drawn.make_params([whole])
    top, left = box["top"], box["left"]
    return _half_mirrored(whole[:, top : top + box["height"], left : left + box["width"]])


def _resized(image: Tensor, size: tuple[int, int], interpolation: Interpolation) -> Tensor:
    # On bytes whatever the processor, where torchvision has a choice: the results are the same.
    return F.interpolate(image[None], size, mode=interpolation, antialias=True)[0]


def _half_mirrored(image: Tensor) -> Tensor:
    return image.flip(2) if torch.rand(1) < 0.5 else image.contiguous()
