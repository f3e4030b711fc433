"""Several looks at a picture, averaged: its mirror, ten crops, or whole at several sizes."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from resnet_hub.architecture import Architecture
from resnet_hub.errors import InvalidSetting, did_you_mean
from resnet_hub.nets.resnet import ResNet
from resnet_hub.preprocess import Preprocess

ViewKind = Literal["center", "flip", "ten_crop", "dense"]
Average = Literal["probabilities", "logits"]

_PAPER_SIZE, _PAPER_SIZES = 224, (224, 256, 384, 480, 640)


@dataclass(frozen=True, kw_only=True)
class Views:
    """How many looks at a picture there are, and how they are averaged.

    Attributes:
        kind: ``center``: the central crop, one look. ``flip``: that and its mirror. ``ten_crop``:
            the four corners and the centre of the resized picture, and of its mirror (Krizhevsky et
            al. 2012 §4.1; 1512.03385 §3.4). ``dense``: the net fully convolutional on the whole
            picture, its classifier at each position of the pooling window (1512.03385 §3.4).
        sizes: Of ``dense``, the picture's shorter sides in pixels; ``None`` takes the paper's 224,
            256, 384, 480 and 640, in proportion where the net's own size is not 224.
        flip: Of ``dense``, the mirrors too.
        average: What is averaged: softmax ``probabilities``, or ``logits``.

    1512.03385 averages scores and leaves open which (Krizhevsky et al. the softmax), how positions
    weigh, and which pixel is the centre. Here every position of a size weighs alike, its mirrors
    too, and then every size; the ten crops are those of torchvision's ``TenCrop``.

    Raises:
        InvalidSetting: A value that none of them can have.
    """

    kind: ViewKind = "center"
    sizes: tuple[int, ...] | None = None
    flip: bool = True
    average: Average = "probabilities"

    def __post_init__(self) -> None:
        for name, options in (("kind", get_args(ViewKind)), ("average", get_args(Average))):
            if (value := getattr(self, name)) not in options:
                flag = "views" if name == "kind" else name
                hint = did_you_mean(str(value), options)
                raise InvalidSetting(f"{flag}: {value!r} is none of {', '.join(options)}{hint}")
        if self.sizes is not None:
            if self.kind != "dense":
                raise InvalidSetting(f"sizes: are for dense views; these are {self.kind}")
            if not self.sizes or len(set(self.sizes)) < len(self.sizes) or min(self.sizes) < 1:
                raise InvalidSetting(f"sizes: {self.sizes} are no sides of a picture, each once")

    def resolved(self, preprocess: Preprocess) -> "Views":
        """Return the same for weights with this preprocessing, with the sizes that they take.

        Raises:
            InvalidSetting: These views cannot be taken with it.
        """
        size = preprocess.size
        if self.kind == "ten_crop" and (preprocess.resize or size) <= size:
            raise InvalidSetting(
                f"views: ten_crop needs pictures larger than the crop of {size} pixels; give a "
                f"larger --data.eval_resize, such as {round(size * 256 / 224)}"
            )
        if self.kind != "dense":
            return self
        if len(preprocess.mean) > preprocess.channels:
            raise InvalidSetting(
                f"views: dense takes pictures of other sizes than {size} pixels, and these weights "
                "subtract a mean image of that size (data.per_pixel_mean)"
            )
        sizes = self.sizes or tuple(round(s * size / _PAPER_SIZE) for s in _PAPER_SIZES)
        if (least := min(sizes)) < size:
            raise InvalidSetting(
                f"sizes: {least} is below the {size} pixels that the net is evaluated at"
            )
        whole = replace(self, sizes=sizes)
        for part in whole.passes():
            part.reading(preprocess)  # a size beyond what is resized to is refused before any pass
        return whole

    def passes(self) -> Iterator["Views"]:
        """Yield the passes over the data that these views take: one, or one a size."""
        for size in self.sizes or (None,):
            yield self if size is None else replace(self, sizes=(size,))

    def reading(self, preprocess: Preprocess) -> Preprocess:
        """Return how pictures are resized for one of :meth:`passes`."""
        return preprocess if self.sizes is None else replace(preprocess, resize=self.sizes[0])

    @property
    def whole(self) -> bool:
        """Whether they take more of a picture than its centre."""
        return self.kind in ("ten_crop", "dense")

    def to_dict(self) -> dict[str, Any]:
        """Return what a result depends on, as plain values: what has no effect is left out."""
        parts: dict[str, Any] = {"kind": self.kind}
        if self.kind != "center":
            parts["average"] = self.average
        if self.kind == "dense":
            parts |= {"sizes": list(self.sizes or ()), "flip": self.flip}
        return parts

    def __str__(self) -> str:
        if self.kind == "center":
            return "central crop"
        names = {"flip": "central crop and mirror", "ten_crop": "ten crops"}
        looks = names.get(self.kind) or (
            f"dense at {', '.join(map(str, self.sizes or ()))}" + ", mirrored too" * self.flip
        )
        return f"{looks}, {self.average} averaged"


def view_logits(
    net: ResNet, pixels: Tensor, preprocess: Preprocess, views: Views, *, most: int = 256
) -> Tensor:
    """Return a net's averaged answers.

    Args:
        net: In evaluation mode.
        pixels: uint8 ``(N, C, H, W)``: cropped, or of :attr:`Views.whole` views resized pictures.
        preprocess: Normalises them.
        views: One pass's.
        most: Crops that go through the net at once.

    Returns:
        float32 ``(N, classes)``; see :func:`averaged`.
    """
    if views.kind == "dense":
        return averaged(_dense(net, pixels, preprocess, views), views.average)
    looks = [pixels] if views.kind == "center" else [pixels, pixels.flip(-1)]
    if views.kind == "ten_crop":
        looks = [crop for look in looks for crop in _five_crops(look, preprocess.size)]
    together = torch.cat([preprocess.normalise(look) for look in looks])
    logits = torch.cat([net(part).float() for part in torch.split(together, most)])
    return averaged(torch.stack(torch.split(logits, len(pixels)), 1), views.average)


def averaged(logits: Tensor, average: Average) -> Tensor:
    """Average several answers to each picture.

    Args:
        logits: float ``(N, looks, classes)``.
        average: ``logits`` gives their mean; ``probabilities`` the logarithm of the mean of the
            looks' softmax, which are logits too. One look stays as it is.

    Returns:
        float32 ``(N, classes)``.
    """
    if logits.shape[1] == 1:
        return logits[:, 0].float()
    # Apple's GPUs hold no float64.
    exact = logits.float() if logits.device.type == "mps" else logits.double()
    if average == "logits":
        return exact.mean(1).float()
    return (exact.log_softmax(2).logsumexp(1) - math.log(logits.shape[1])).float()


def _five_crops(pixels: Tensor, size: int) -> list[Tensor]:
    """Return the corners and the centre, each ``(N, C, size, size)``."""
    height, width = pixels.shape[-2:]
    down, right = height - size, width - size
    centre = (round(down / 2), round(right / 2))
    places = ((0, 0), (0, right), (down, 0), (down, right), centre)
    return [pixels[..., y : y + size, x : x + size] for y, x in places]


def _dense(net: ResNet, pixels: Tensor, preprocess: Preprocess, views: Views) -> Tensor:
    """Return the classifier's answers at every position, ``(N, positions, classes)``."""
    window = _last_side(net.architecture, preprocess.size)
    looks = [pixels, pixels.flip(-1)] if views.flip else [pixels]
    found = []
    for look in looks:
        maps = list(net.features(preprocess.normalise(look)).values())[-1]
        pooled = F.avg_pool2d(maps, window, stride=1)
        found.append(net.fc(pooled.flatten(2).transpose(1, 2)).float())
    return torch.cat(found, 1)


@lru_cache(maxsize=64)
def _last_side(architecture: Architecture, size: int) -> int:
    """Return the side of the last map of a picture of the net's own size: what it pools over."""
    with torch.device("meta"):
        net = ResNet(architecture).eval()
        maps = net.features(torch.empty(1, architecture.in_channels, size, size))
    return list(maps.values())[-1].shape[-1]
