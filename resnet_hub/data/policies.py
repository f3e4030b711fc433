"""Policies: random operations on one picture, drawn from torch's default generator.

Torchvision's, and timm's increasing form of RandAugment. A data set keys the generator by sample.
Imports no Lightning: workers that are started afresh import this module.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from PIL import Image, ImageEnhance, ImageOps
from torchvision.transforms import InterpolationMode, v2

from resnet_hub.data.settings import DataSettings
from resnet_hub.preprocess import Preprocess

Policy = Callable[[Image.Image], Image.Image]
"""A picture of mode L or RGB to another of the same size and mode."""


def policy_of(settings: DataSettings, preprocess: Preprocess) -> Policy | None:
    """Return what ``data.policy`` names, or ``None`` for ``none``.

    As in their reference recipes, torchvision's leave black behind a picture that was moved, timm's
    form the mean colour.

    Args:
        settings: The policy with its numbers.
        preprocess: The filter that pictures are moved by, and the mean colour.
    """
    name, magnitude, ops = settings.policy, settings.policy_magnitude, settings.policy_ops
    interpolation = InterpolationMode[preprocess.interpolation.upper()]
    policy: Policy | None = None
    if name == "trivial":
        policy = v2.TrivialAugmentWide(interpolation=interpolation)
    elif name == "autoaugment_imagenet":
        policy = v2.AutoAugment(v2.AutoAugmentPolicy.IMAGENET, interpolation=interpolation)
    elif name == "autoaugment_cifar10":
        policy = v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10, interpolation=interpolation)
    elif name == "randaugment":
        policy = v2.RandAugment(ops, magnitude, interpolation=interpolation)
    elif name == "randaugment_increasing":
        policy = IncreasingRandAugment(
            magnitude=magnitude,
            std=settings.policy_std,
            ops=ops,
            fill=_mean_colour(preprocess),
            resample=Image.Resampling[preprocess.interpolation.upper()],
        )
    return policy


@dataclass(frozen=True, kw_only=True)
class IncreasingRandAugment:
    """RandAugment as timm's ``rand-m…-mstd…-inc1`` has it, the form of 2110.00476.

    It differs from 1909.13719 and torchvision: each of the ``ops`` operations is left out with
    probability 1/2; the magnitude is drawn anew for each, normal and cut to [0, 10]; the operations
    are fifteen, inverting and adding below a threshold among them and the identity not; and all of
    them grow with the magnitude.

    Attributes:
        magnitude: Mean of the magnitudes.
        std: Their standard deviation.
        ops: Operations drawn for a picture, with replacement.
        fill: Colour behind a picture that was moved, 0 to 255.
        resample: Filter that pictures are moved by; timm's default draws bilinear or bicubic.
    """

    magnitude: float = 9
    std: float = 0.0
    ops: int = 2
    fill: int | tuple[int, ...] = (128, 128, 128)
    resample: Image.Resampling = Image.Resampling.BICUBIC

    def __call__(self, picture: Image.Image) -> Image.Image:
        """Return the picture after its operations; size and mode stay."""
        for _ in range(self.ops):
            operation = tuple(OPERATIONS)[int(torch.randint(len(OPERATIONS), ()))]
            chosen, negative = (torch.rand(2) < 0.5).tolist()
            drawn = self.magnitude + self.std * float(torch.randn(()))
            if chosen:
                level = min(max(drawn, 0.0), _MOST_LEVEL)
                picture = self.apply(operation, picture, level=level, negative=negative)
        return picture

    def apply(
        self, operation: str, picture: Image.Image, *, level: float, negative: bool = False
    ) -> Image.Image:
        """Do one operation.

        Args:
            operation: A key of ``OPERATIONS``.
            picture: Of mode L or RGB.
            level: Magnitude, 0 to 10.
            negative: Which way, for operations that have two.
        """
        signed = -level if negative else level
        return OPERATIONS[operation](picture, signed / _MOST_LEVEL, self)


_MOST_LEVEL = 10.0

_Operation = Callable[[Image.Image, float, IncreasingRandAugment], Image.Image]
"""From a picture and a strength, -1 to 1: half of them are negative, for what has two ways."""


def _affine(
    picture: Image.Image,
    strength: float,
    look: IncreasingRandAugment,
    *,
    rows: Callable[[float, int, int], tuple[float, ...]],
) -> Image.Image:
    matrix = rows(strength, *picture.size)
    transform = Image.Transform.AFFINE
    return picture.transform(
        picture.size, transform, matrix, resample=look.resample, fillcolor=look.fill
    )


def _rotate(picture: Image.Image, strength: float, look: IncreasingRandAugment) -> Image.Image:
    return picture.rotate(30 * strength, resample=look.resample, fillcolor=look.fill)


def _posterize(picture: Image.Image, strength: float, _: IncreasingRandAugment) -> Image.Image:
    dropped = 4 + int(4 * abs(strength))  # Pillow's own refuses to drop all 8, timm's strongest
    return picture.point([x >> dropped << dropped for x in range(256)] * len(picture.getbands()))


def _solarize(picture: Image.Image, strength: float, _: IncreasingRandAugment) -> Image.Image:
    return ImageOps.solarize(picture, 256 - int(256 * abs(strength)))


def _solarize_add(picture: Image.Image, strength: float, _: IncreasingRandAugment) -> Image.Image:
    added = int(110 * abs(strength))
    table = [min(255, x + added) if x < 128 else x for x in range(256)]
    return picture.point(table * len(picture.getbands()))


def _enhance(
    picture: Image.Image,
    strength: float,
    _: IncreasingRandAugment,
    *,
    kind: Callable[[Image.Image], Any],  # Pillow's own base of them is private
) -> Image.Image:
    blended: Image.Image = kind(picture).enhance(1 + 0.9 * strength)
    return blended


def _plain(
    picture: Image.Image,
    _strength: float,
    _: IncreasingRandAugment,
    *,
    change: Callable[[Image.Image], Image.Image],
) -> Image.Image:
    return change(picture)


def _shear_x(strength: float, _width: int, _height: int) -> tuple[float, ...]:
    return 1, 0.3 * strength, 0, 0, 1, 0


def _shear_y(strength: float, _width: int, _height: int) -> tuple[float, ...]:
    return 1, 0, 0, 0.3 * strength, 1, 0


def _translate_x(strength: float, width: int, _height: int) -> tuple[float, ...]:
    return 1, 0, 0.45 * strength * width, 0, 1, 0


def _translate_y(strength: float, _width: int, height: int) -> tuple[float, ...]:
    return 1, 0, 0, 0, 1, 0.45 * strength * height


OPERATIONS: dict[str, _Operation] = {
    "AutoContrast": partial(_plain, change=ImageOps.autocontrast),
    "Equalize": partial(_plain, change=ImageOps.equalize),
    "Invert": partial(_plain, change=ImageOps.invert),
    "Rotate": _rotate,
    "Posterize": _posterize,
    "Solarize": _solarize,
    "SolarizeAdd": _solarize_add,
    "Color": partial(_enhance, kind=ImageEnhance.Color),
    "Contrast": partial(_enhance, kind=ImageEnhance.Contrast),
    "Brightness": partial(_enhance, kind=ImageEnhance.Brightness),
    "Sharpness": partial(_enhance, kind=ImageEnhance.Sharpness),
    "ShearX": partial(_affine, rows=_shear_x),
    "ShearY": partial(_affine, rows=_shear_y),
    "TranslateX": partial(_affine, rows=_translate_x),
    "TranslateY": partial(_affine, rows=_translate_y),
}
"""What :class:`IncreasingRandAugment` draws from, each as likely as the others."""


def _mean_colour(preprocess: Preprocess) -> int | tuple[int, ...]:
    channels, numbers = preprocess.channels, len(preprocess.mean)
    pixels = numbers // channels
    parts = [preprocess.mean[n * pixels : (n + 1) * pixels] for n in range(channels)]
    colour = tuple(min(255, round(255 * sum(part) / pixels)) for part in parts)
    return colour if channels > 1 else colour[0]
