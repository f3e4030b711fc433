"""From a picture to a net's input, as the weights expect it. Needs torch and PIL alone."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from resnet_hub.architecture import Architecture
from resnet_hub.errors import BadData, InvalidSetting, did_you_mean

if TYPE_CHECKING:
    from PIL import Image

Interpolation = Literal["bilinear", "bicubic"]

_MOST_SIDE = 4096
"""Beyond it even a small net needs gigabytes an image."""

_MOST_PIXELS = 2**28
"""Of a resized image: a sliver of 1 × 60,000 pixels would otherwise grow to gigabytes."""

_FLOAT32_LEAST, _FLOAT32_MOST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
CIFAR100_MEAN, CIFAR100_STD = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """What happens to an image before the net; it travels with the weights.

    Attributes:
        size: Side of the net's square input, in pixels; 4,096 at most, as ``resize``.
        resize: Length that the image's shorter side is brought to before the central crop, in
            pixels; ``None`` brings both sides to ``size`` (no crop).
        interpolation: Filter of the resizing, antialiased.
        mean: Subtracted from pixels scaled to [0, 1]: one number a channel, or one a pixel (channel
            by channel, row by row; the per-pixel mean of 1512.03385 §4.2).
        std: Divides after that: one number a channel. Its length tells the number of channels.

    Raises:
        InvalidSetting: Values that fit no image.
    """

    size: int = 224
    resize: int | None = 256
    interpolation: Interpolation = "bilinear"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __post_init__(self) -> None:
        resize = self.size if self.resize is None else self.resize
        for name, value in (("size", self.size), ("resize", resize)):
            whole = isinstance(value, int) and not isinstance(value, bool)
            if not whole or not 1 <= value <= _MOST_SIDE:
                raise InvalidSetting(
                    f"preprocess.{name}: {value!r} is not 1 to {_MOST_SIDE:,} pixels"
                )
        if self.interpolation not in get_args(Interpolation):
            raise InvalidSetting(
                f"preprocess.interpolation: {self.interpolation!r} is neither bilinear nor bicubic"
            )
        for name in ("mean", "std"):
            numbers = getattr(self, name)
            if not isinstance(numbers, tuple) or not all(map(_is_number, numbers)):
                raise InvalidSetting(f"preprocess.{name}: not a tuple of finite numbers")
        if not self.std or min(self.std) < _FLOAT32_LEAST:
            raise InvalidSetting("preprocess.std: needs one number above 0 a channel")
        if len(self.mean) not in (self.channels, self.channels * self.size**2):
            raise InvalidSetting(
                f"preprocess.mean: {len(self.mean)} numbers are neither one a channel "
                f"({self.channels}) nor one a pixel ({self.channels * self.size**2})"
            )

    @property
    def channels(self) -> int:
        """Channels of the input."""
        return len(self.std)

    @classmethod
    def default_for(cls, architecture: Architecture) -> "Preprocess":
        """Return the convention for fresh nets: ImageNet's (256 → 224) or CIFAR-10's (32)."""
        cifar = architecture.stem == "cifar"
        mean, std = (CIFAR10_MEAN, CIFAR10_STD) if cifar else (IMAGENET_MEAN, IMAGENET_STD)
        own = cls(size=32, resize=None, mean=mean, std=std) if cifar else cls()
        return own.with_channels(architecture.in_channels)

    def with_channels(self, channels: int) -> "Preprocess":
        """Return the same for another number of channels: averaged for 1, repeated for more."""
        if channels == self.channels:
            return self
        pixels = len(self.mean) // self.channels
        mean = [fmean(self.mean[i * pixels : (i + 1) * pixels]) for i in range(self.channels)]
        if channels == 1:
            return replace(self, mean=(fmean(mean),), std=(fmean(self.std),))
        sources = [i % self.channels for i in range(channels)]
        return replace(
            self, mean=tuple(mean[i] for i in sources), std=tuple(self.std[i] for i in sources)
        )

    def __call__(self, image: "Image.Image | Tensor") -> Tensor:
        """Turn one image into one input.

        Args:
            image: PIL image of any mode (16-bit grey is scaled, transparency dropped, of an
                animation the current frame taken), or uint8 tensor ``(C, H, W)``.

        Returns:
            float32 ``(channels, size, size)``; add a batch axis before the net.
        """
        return self.normalise(self.crop(image))

    def crop(self, image: "Image.Image | Tensor") -> Tensor:
        """Resize, then crop the centre; still uint8, ``(channels, size, size)``.

        A uint8 batch ``(N, C, H, W)`` is cropped whole.

        Raises:
            InvalidSetting: See :meth:`resized`.
            BadData: See :meth:`resized`.
        """
        return _crop_centre(self.resized(image), self.size)

    def resized(self, image: "Image.Image | Tensor") -> Tensor:
        """Resize, and crop nothing; still uint8, ``(channels, H, W)``.

        A uint8 batch ``(N, C, H, W)`` is resized whole.

        Raises:
            InvalidSetting: A tensor that is not uint8 ``(C, H, W)``, or whose channels differ from
                what the net takes.
            BadData: An image without pixels, or too long and thin to be resized.
        """
        if isinstance(image, Tensor):
            if image.dtype != torch.uint8 or image.dim() not in (3, 4):
                raise InvalidSetting(
                    f"preprocess: needs a PIL image or a uint8 tensor (C, H, W), "
                    f"not {image.dtype} {tuple(image.shape)}"
                )
            pixels = self._resize_tensor(image)
        else:
            pixels = self._resize_picture(image)
        if pixels.shape[-3] != self.channels:
            raise InvalidSetting(
                f"preprocess: the image has {pixels.shape[-3]} channels, the net takes "
                f"{self.channels}"
            )
        return pixels

    def window(self, height: int, width: int) -> tuple[float, float, float, float]:
        """Return what :meth:`crop` keeps of an image: left, top, right, bottom, in its own pixels.

        It reaches beyond the image where the crop is padded.

        Raises:
            BadData: See :meth:`crop`.
        """
        down, across = self._resized(height, width)
        left, top = _start(across, self.size), _start(down, self.size)
        x, y = width / across, height / down
        return left * x, top * y, (left + self.size) * x, (top + self.size) * y

    def normalise(self, pixels: Tensor) -> Tensor:
        """Scale uint8 ``(..., channels, size, size)`` to [0, 1], subtract mean, divide by std.

        Raises:
            InvalidSetting: Pixels that are not uint8: scaled already, perhaps.
        """
        if pixels.dtype != torch.uint8:
            raise InvalidSetting(f"preprocess: needs uint8 pixels, not {pixels.dtype}")
        # Without waiting for the device, whose queue of work would otherwise run dry at each step.
        mean, std = (
            torch.from_numpy(numbers).to(pixels.device, non_blocking=True)
            for numbers in self._constants
        )
        return pixels.to(torch.float32).div_(255).sub_(mean).div_(std)

    @cached_property
    def _constants(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        side = self.size if len(self.mean) > self.channels else 1
        mean = np.array(self.mean, np.float32).reshape(self.channels, side, side)
        return mean, np.array(self.std, np.float32).reshape(self.channels, 1, 1)

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        if min(height, width) < 1:
            raise BadData(f"preprocess: an image of {height}×{width} pixels is empty")
        if self.resize is None:
            return self.size, self.size
        # torchvision's rounding: the shorter side exactly, the longer one cut to whole pixels.
        long = int(self.resize * max(height, width) / min(height, width))
        if self.resize * long > _MOST_PIXELS:
            raise BadData(
                f"preprocess: an image of {height}×{width} pixels is too long and thin to bring "
                f"its shorter side to {self.resize}"
            )
        return (self.resize, long) if height <= width else (long, self.resize)

    def _resize_picture(self, image: "Image.Image") -> Tensor:
        from PIL import Image

        mode = {1: "L", 3: "RGB", 4: "RGBA"}.get(self.channels)
        if mode is None:
            raise InvalidSetting(
                f"preprocess: no picture has {self.channels} channels; give a uint8 tensor"
            )
        image = _converted(image, mode)
        height, width = self._resized(image.height, image.width)
        if (image.height, image.width) != (height, width):
            image = image.resize((width, height), Image.Resampling[self.interpolation.upper()])
        pixels = torch.from_numpy(np.array(image))
        return pixels[None] if pixels.dim() == 2 else pixels.permute(2, 0, 1)

    def _resize_tensor(self, image: Tensor) -> Tensor:
        size = self._resized(*image.shape[-2:])
        if tuple(image.shape[-2:]) == size:
            return image
        batch = image if image.dim() == 4 else image[None]
        if image.is_cpu:
            batch = F.interpolate(batch, size, mode=self.interpolation, antialias=True)
        else:
            # Only the CPU resizes bytes. As it and PIL do, round after each of the two directions.
            for target in ((image.shape[-2], size[1]), size):
                numbers = batch.to(torch.float32)
                numbers = F.interpolate(numbers, target, mode=self.interpolation, antialias=True)
                batch = numbers.round_().clamp_(0, 255).to(torch.uint8)
        return batch if image.dim() == 4 else batch[0]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Preprocess":
        """Build from :meth:`to_dict`'s form.

        Raises:
            InvalidSetting: A field that is unknown or out of bounds.
        """
        names = [field.name for field in fields(cls)]
        for name in values:
            if name not in names:
                raise InvalidSetting(f"preprocess: no field {name!r}{did_you_mean(name, names)}")
        lists = {name: tuple(x) for name, x in values.items() if isinstance(x, list)}
        return cls(**{**values, **lists})


def _is_number(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and -_FLOAT32_MOST <= cast(float, value) <= _FLOAT32_MOST


def _converted(image: "Image.Image", mode: str) -> "Image.Image":
    """Return the image in this mode; 16-bit grey by its upper 8 bits, which PIL would clip."""
    from PIL import Image

    if image.mode == "F":
        raise BadData("preprocess: an image of real numbers has no known scale; make it uint8")
    if image.mode == "I" or image.mode.startswith("I;16"):
        grey = np.asarray(image).astype(np.int64)
        if grey.min(initial=0) < 0 or grey.max(initial=0) > 65535:
            raise BadData("preprocess: an image of 32-bit pixels, whose range is not known")
        image = Image.fromarray((grey >> 8).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # by the palette's own transparency, of which PIL warns
    try:
        return image if image.mode == mode else image.convert(mode)
    except ValueError as error:
        raise BadData(f"preprocess: no way from an image of mode {image.mode} to {mode}") from error


def _crop_centre(pixels: Tensor, size: int) -> Tensor:
    height, width = pixels.shape[-2:]
    if height < size or width < size:
        down, right = max(size - height, 0), max(size - width, 0)
        edges = (right // 2, right - right // 2, down // 2, down - down // 2)
        pixels = F.pad(pixels, edges)
        height, width = pixels.shape[-2:]
    top, left = _start(height, size), _start(width, size)
    return pixels[..., top : top + size, left : left + size].contiguous()


def _start(length: int, size: int) -> int:
    """Return where a central crop begins on a side; below 0 by the padding before it."""
    return round((length - size) / 2) if length >= size else -((size - length) // 2)
