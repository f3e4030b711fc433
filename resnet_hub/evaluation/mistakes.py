"""The images that a net is wrong about and most sure of, and a picture of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from resnet_hub.data.batches import Selection
from resnet_hub.data.module import DataModule
from resnet_hub.errors import InvalidSetting, printable
from resnet_hub.evaluation.collected import Logits
from resnet_hub.evaluation.gradcam import gradcam, placed
from resnet_hub.evaluation.heat import enlarged, overlay
from resnet_hub.figures import panels, plain
from resnet_hub.nets.resnet import ResNet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CELL = 1.7  # inches, the side of a picture
_WORDS = 0.5  # inches, of the two lines above it
_LONGEST = 22  # letters of a class's name


@dataclass(frozen=True)
class Mistake:
    """An image that a net takes for another class than its own.

    Attributes:
        index: Its number in the split.
        label: Its class.
        given: The class that the net gives it.
        probability: The net's of that class.
        own: The net's of the image's own class.
    """

    index: int
    label: int
    given: int
    probability: float
    own: float


def mistakes_of(answered: Logits, temperature: float | None = None) -> list[Mistake]:
    """Return all mistakes, those that the net is most sure of first.

    Of two that it is as sure of, the one with the lower number comes first.

    Args:
        answered: What the net gave.
        temperature: By which its logits are divided before the softmax, where it has one.
    """
    labels, indices = answered.labels, answered.indices
    probabilities = (answered.values.double() / (temperature or 1)).softmax(1)
    most, given = probabilities.max(1)
    wrong = (given != labels).nonzero()[:, 0].tolist()
    found = [
        Mistake(
            index=int(indices[n]),
            label=int(labels[n]),
            given=int(given[n]),
            probability=float(most[n]),
            own=float(probabilities[n, labels[n]]),
        )
        for n in wrong
    ]
    return sorted(found, key=lambda mistake: (-mistake.probability, mistake.index))


def draw_mistakes(
    found: Sequence[Mistake], data: DataModule, *, explained_by: ResNet | None = None
) -> "Figure":
    """Draw images as the net sees them, the class that each was given and its own above.

    Args:
        found: Which, one at least.
        data: What they are images of: ``data.tested``, opened with the net's own preprocessing.
        explained_by: Draw beside each where this net finds what speaks for the class it gives; in
            evaluation mode, and on the CPU, afterwards.

    Raises:
        InvalidSetting: There is nothing to be drawn.
        BadData: An image cannot be read.
    """
    if not found:
        raise InvalidSetting("mistakes: there are none to be drawn")
    split = data.split(data.tested).as_evaluated(data.preprocess)
    batch = split[Selection(0, torch.tensor([mistake.index for mistake in found]))]
    pictures = [enlarged(_picture(pixels)) for pixels in batch.images]
    shown = pictures
    if explained_by is not None:
        given = torch.tensor([mistake.given for mistake in found])
        images = data.prepare(batch, train=False).images
        maps = gradcam(explained_by.cpu(), images, classes=given).maps
        shown = [_explained(p, each) for p, each in zip(pictures, maps, strict=True)]
    wide = 1 if explained_by is None else 2
    columns = min(len(found), ceil(sqrt(len(found) / wide)))
    rows = ceil(len(found) / columns)
    figure, charts = panels(columns, rows, width=wide * _CELL, height=_CELL + _WORDS)
    for axes in charts:
        axes.set_axis_off()
    for axes, mistake, picture in zip(charts, found, shown, strict=False):
        axes.imshow(np.asarray(picture))
        names = [_short(data.labels[number]) for number in (mistake.given, mistake.label)]
        axes.set_title(
            f"{mistake.probability:.2%} {names[0]}\nis: {names[1]}",
            fontsize=8,
            loc="left",
        )
    return figure


def _picture(pixels: Tensor) -> Image.Image:
    """Return uint8 ``(C, H, W)`` as a picture; of more than three channels, the first one."""
    channels = pixels if len(pixels) in (1, 3) else pixels[:1]
    image = channels.expand(3, -1, -1).permute(1, 2, 0).contiguous()
    return Image.fromarray(image.numpy())


def _explained(picture: Image.Image, found: Tensor) -> Image.Image:
    """Return a picture with its heat beside it."""
    width, height = picture.size
    heat = placed(found, (0.0, 0.0, width, height), height=height, width=width)
    both = Image.new("RGB", (2 * width + width // 25, height), "white")
    both.paste(picture, (0, 0))
    both.paste(overlay(picture, heat), (both.width - width, 0))
    return both


def _short(name: str) -> str:
    name = printable(name)
    return plain(name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…")
