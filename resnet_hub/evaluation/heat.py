"""Grad-CAM maps as pictures: heat over the picture, beside the picture itself."""

from functools import lru_cache
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from resnet_hub.errors import printable

_LEAST = 224
"""Pixels of a panel's longer side: smaller pictures are enlarged, lest no words fit above them."""

_OPAQUE = 0.75  # share of the colour where the heat is greatest
_UNSEEN = 0.35  # brightness of what the net did not see
_INK, _PAPER = (32, 32, 32), (255, 255, 255)


def overlay(picture: Image.Image, heat: Tensor) -> Image.Image:
    """Return a picture in grey under its heat: from what counts nothing to what counts most.

    Colours are matplotlib's ``inferno``, whose brightness rises evenly, so that they can be told
    apart in grey and by colour-blind readers. What the net did not see is dimmed.

    Args:
        picture: Of any mode.
        heat: float ``(height, width)``, at least 0; NaN where the net saw nothing. Its greatest
            value has the last colour.

    Returns:
        An RGB image of the same size.
    """
    values = heat.numpy()
    seen = ~np.isnan(values)
    share = np.where(seen, values, 0.0)
    share = share / max(float(share.max(initial=0.0)), np.finfo(np.float32).tiny)
    grey = np.asarray(picture.convert("L"), np.float32)[..., None]
    opaque = _OPAQUE * share[..., None]
    mixed = (1 - opaque) * grey + opaque * _colours(share)
    mixed = np.where(seen[..., None], mixed, _UNSEEN * grey)
    return Image.fromarray(mixed.round().astype(np.uint8))


def enlarged(picture: Image.Image) -> Image.Image:
    """Return a small picture with each pixel as a square of pixels; a large one as it is."""
    factor = ceil(_LEAST / max(picture.size))
    size = (picture.width * factor, picture.height * factor)
    return picture.resize(size, Image.Resampling.NEAREST)


def beside(picture: Image.Image, hot: Image.Image, *, titles: tuple[str, str]) -> Image.Image:
    """Return two pictures of one size side by side, a line of words above each, and the scale.

    Args:
        picture: The left one, of any mode.
        hot: The right one, of :func:`overlay`.
        titles: Words above them; what does not fit is left out at the end.
    """
    width = max(picture.width, _LEAST)
    letters = _font(max(13, width // 26))
    line = round(letters.size * 1.6)
    gap = line // 2
    sheet = Image.new("RGB", (2 * width + 3 * gap, picture.height + 2 * line + gap), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, (part, title) in enumerate(zip((picture, hot), titles, strict=True)):
        left = gap + column * (width + gap)
        draw.text((left, line // 5), _fitted(title, letters, width), fill=_INK, font=letters)
        sheet.paste(part.convert("RGB"), (left + (width - part.width) // 2, line))
    _draw_scale(sheet, (2 * gap + width, line + picture.height + gap // 2), width, letters)
    return sheet


def _draw_scale(
    sheet: Image.Image, corner: tuple[int, int], width: int, letters: ImageFont.FreeTypeFont
) -> None:
    """Draw the colours from least to most, as they lie over mid-grey, with words at both ends."""
    draw, (left, top) = ImageDraw.Draw(sheet), corner
    words = ("nothing", "most")
    before, after = (round(letters.getlength(word) + letters.size / 2) for word in words)
    draw.text((left, top), words[0], fill=_INK, font=letters)
    draw.text((left + width, top), words[1], fill=_INK, font=letters, anchor="ra")
    bar = width - before - after
    share = np.tile(np.linspace(0, 1, bar), (round(letters.size), 1))
    colours = (1 - _OPAQUE * share[..., None]) * 128 + _OPAQUE * share[..., None] * _colours(share)
    sheet.paste(Image.fromarray(colours.round().astype(np.uint8)), (left + before, top + 2))


def _colours(share: NDArray[Any]) -> NDArray[np.float32]:
    """Return RGB from 0 to 255 for shares from 0 to 1."""
    from matplotlib import colormaps

    colours: NDArray[np.float32] = colormaps["inferno"](share)[..., :3].astype(np.float32) * 255
    return colours


def _fitted(title: str, letters: ImageFont.FreeTypeFont, width: int) -> str:
    title = printable(title)
    if letters.getlength(title) <= width:
        return title
    while title and letters.getlength(f"{title}…") > width:
        title = title[:-1]
    return f"{title}…"


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont:
    from matplotlib import get_data_path  # DejaVu, which has more letters than PIL's own

    return ImageFont.truetype(str(Path(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), size)
