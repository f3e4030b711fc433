"""Reading one picture from a file, whatever its form, as 8-bit RGB or grey."""

import warnings
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from resnet_hub.errors import BadData

MAX_PIXELS = 89_478_485
"""Pixels of the largest picture that is read: 256 MiB as RGB, Pillow's own threshold."""

MAX_ASPECT = 100
"""Longer side over shorter side of the narrowest: resizing the shorter side stretches both."""

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
"""Formats that are read, recognised by content. Others, some of which run programs, are not."""

EXTENSIONS = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
"""Endings, in lower case, that make a file of a data set an image."""

Mode = Literal["RGB", "L"]
Exif = Literal["apply", "ignore"]


def read_image(
    path: str | PathLike[str],
    *,
    mode: Mode = "RGB",
    exif: Exif = "ignore",
    content: bytes | None = None,
) -> Image.Image:
    """Read and decode one picture.

    CMYK and palettes are converted, transparency is dropped (the colours under it stay), of an
    animation the first frame is taken, and of 16-bit pixels the upper 8 bits: white stays white
    and mid-grey mid-grey. What Pillow would only warn of is accepted in silence.

    Args:
        path: The file.
        mode: ``RGB``, or ``L`` for one channel of grey.
        exif: ``apply`` turns the picture upright as its EXIF orientation says; ``ignore`` takes it
            as stored (a TIFF is turned either way: Pillow does so while decoding).
        content: The file's bytes, where they do not lie in a file of their own.

    Returns:
        A decoded PIL image of that mode, its file closed.

    Raises:
        BadData: The file is missing, cut, of another format, or damaged in a way that shows (PNG
            has checksums; most changes inside a JPEG just give other pixels); it has more than
            :data:`MAX_PIXELS` pixels or is narrower than 1:100, which is seen in the header, before
            decoding; or its pixels are 32-bit, which no range is agreed for. The path is named.
    """
    if content is None and Path(path).exists() and not Path(path).is_file():
        raise BadData(f"{path}: no picture (it is not a file)")  # a pipe would wait for ever
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(
                path if content is None else BytesIO(content), formats=FORMATS
            ) as image:
                check_size(*image.size)
                if image.format == "PNG":
                    _check_sums(path if content is None else BytesIO(content))
                image.load()
                picture = _eight_bits(image)
                if exif == "apply":
                    picture = ImageOps.exif_transpose(picture)
                return picture if picture.mode == mode else picture.convert(mode)
    except MemoryError:
        raise
    except Exception as error:  # given damaged bytes, a decoder raises anything
        raise BadData(f"{path}: {_reason(error)}") from error


def orientation(content: bytes) -> int:
    """Return what the EXIF of a picture's bytes says that ``apply`` does: 1 to 8, 1 is nothing.

    Of a TIFF it is 1: Pillow turns it while it decodes.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(BytesIO(content), formats=FORMATS) as image:
                turn = image.getexif().get(ExifTags.Base.Orientation, 1)
                return turn if turn in range(2, 9) and image.format != "TIFF" else 1
        except Exception:  # a picture can be whole, and what its EXIF holds be anything
            return 1


def check_size(width: int, height: int) -> None:
    """Check what a picture's header says, before it is decoded.

    Raises:
        ValueError: It has more than :data:`MAX_PIXELS` pixels, or is narrower than 1:100.
    """
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width:,} × {height:,} pixels are over the limit of {MAX_PIXELS:,}")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ValueError(f"{width:,} × {height:,} pixels are narrower than 1:{MAX_ASPECT}")


def _check_sums(path: str | PathLike[str] | BytesIO) -> None:
    # Decoding alone does not look at the checksums, and gives damaged pixels without a word.
    with Image.open(path, formats=("PNG",)) as image:
        image.verify()


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey, which ``convert`` would clip to white; leave the rest as it is."""
    # Pillow gives 16-bit PNG and PGM as 32-bit "I" or as "I;16", depending on its version.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        grey = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        grey.info = image.info
        return grey
    if image.mode in ("I", "F"):
        raise ValueError("32-bit pixels, whose range is not known; save it with 8 or 16 bits")
    return image


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"not a readable image; formats are {', '.join(FORMATS)}"
    said = error.strerror if isinstance(error, OSError) else None
    return " ".join((said or str(error) or type(error).__name__).split())
