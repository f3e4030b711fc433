"""From a picture to a net's input, as the weights expect it. Needs torch and PIL alone."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from resnet_hub.architecture import Architecture
from resnet_hub.errors import InvalidSetting, did_you_mean

if TYPE_CHECKING:
    from PIL import Image

Interpolation = Literal["bilinear", "bicubic"]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
CIFAR100_MEAN, CIFAR100_STD = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """What happens to an image before the net; it travels with the weights.

    Attributes:
        size: Side of the net's square input, in pixels.
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
        for name, value in (("size", self.size), ("resize", self.resize or 1)):
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 16384:
                raise InvalidSetting(f"preprocess.{name}: {value!r} is not 1 to 16,384 pixels")
        if self.interpolation not in get_args(Interpolation):
            raise InvalidSetting(
                f"preprocess.interpolation: {self.interpolation!r} is neither bilinear nor bicubic"
            )
        numbers = (*self.mean, *self.std)
        if not all(isinstance(x, int | float) and abs(x) < float("inf") for x in numbers):
            raise InvalidSetting("preprocess.mean, preprocess.std: not all finite numbers")
        if not self.std or min(self.std) <= 0:
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
        mean = torch.tensor(self.mean).view(self.channels, -1).mean(1).tolist()
        if channels == 1:
            mean, std = [sum(mean) / len(mean)], [sum(self.std) / len(self.std)]
        else:
            mean = [mean[i % self.channels] for i in range(channels)]
            std = [self.std[i % self.channels] for i in range(channels)]
        return Preprocess(
            size=self.size,
            resize=self.resize,
            interpolation=self.interpolation,
            mean=tuple(mean),
            std=tuple(std),
        )

    def __call__(self, image: "Image.Image | Tensor") -> Tensor:
        """Turn one image into one input.

        Args:
            image: PIL image of any mode, or uint8 tensor ``(C, H, W)``.

        Returns:
            float32 ``(channels, size, size)``; add a batch axis before the net.
        """
        return self.normalise(self.crop(image))

    def crop(self, image: "Image.Image | Tensor") -> Tensor:
        """Resize, then crop the centre; still uint8, ``(channels, size, size)``.

        A uint8 batch ``(N, C, H, W)`` is cropped whole.

        Raises:
            InvalidSetting: A tensor that is not uint8 ``(C, H, W)``, or whose channels differ from
                what the net takes.
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
        return _crop_centre(pixels, self.size)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Scale uint8 ``(..., channels, size, size)`` to [0, 1], subtract mean, divide by std."""
        scaled = pixels.to(torch.float32).div_(255)
        mean = torch.tensor(self.mean, device=pixels.device)
        per_pixel = len(self.mean) > self.channels
        shape = (self.channels, self.size, self.size) if per_pixel else (self.channels, 1, 1)
        std = torch.tensor(self.std, device=pixels.device).view(self.channels, 1, 1)
        return scaled.sub_(mean.view(shape)).div_(std)

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        if self.resize is None:
            return self.size, self.size
        # torchvision's rounding: the shorter side exactly, the longer one cut to whole pixels.
        if height <= width:
            return self.resize, int(self.resize * width / height)
        return int(self.resize * height / width), self.resize

    def _resize_picture(self, image: "Image.Image") -> Tensor:
        from PIL import Image

        mode = {1: "L", 3: "RGB", 4: "RGBA"}.get(self.channels)
        if mode is None:
            raise InvalidSetting(
                f"preprocess: no picture has {self.channels} channels; give a uint8 tensor"
            )
        image = image if image.mode == mode else image.convert(mode)
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
        batch = F.interpolate(batch, size, mode=self.interpolation, antialias=True)
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
        lists = {name: tuple(values[name]) for name in ("mean", "std") if name in values}
        return cls(**{**values, **lists})


def _crop_centre(pixels: Tensor, size: int) -> Tensor:
    height, width = pixels.shape[-2:]
    if height < size or width < size:
        down, right = max(size - height, 0), max(size - width, 0)
        edges = (right // 2, right - right // 2, down // 2, down - down // 2)
        pixels = F.pad(pixels, edges)
        height, width = pixels.shape[-2:]
    top, left = round((height - size) / 2), round((width - size) / 2)
    return pixels[..., top : top + size, left : left + size].contiguous()
