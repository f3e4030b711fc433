"""Looking at one image file: what reading it refuses, what its decoder warns of, and what it is.

Imports no Lightning: workers that are started afresh import this module.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from resnet_hub.data.files import ImageFiles
from resnet_hub.data.images import Exif, orientation, read_image
from resnet_hub.data.jpegs import jpeg_damage
from resnet_hub.errors import BadData

_JPEG = b"\xff\xd8\xff"


class Picture(NamedTuple):
    """What a picture is, beside its content.

    Attributes:
        width: In pixels, as training sees it.
        height: In pixels, as training sees it.
        grey: Whether no pixel has a colour, whatever the file's form.
        turned: Whether its EXIF says that it is stored turned or mirrored.
    """

    width: int
    height: int
    grey: bool
    turned: bool


class Examined(NamedTuple):
    """What was found in a file.

    Attributes:
        damage: What is wrong with it, or ``None``.
        digest: SHA-256 of its bytes; ``None`` where they could not be read as a picture.
        picture: What was read; ``None`` where nothing could be.
    """

    damage: str | None
    digest: bytes | None
    picture: Picture | None


class Examination(Dataset[Examined]):
    """The files of a split, examined one by one.

    Args:
        files: The split.
        jpeg_warnings: See :func:`examine`.
    """

    def __init__(self, files: ImageFiles, *, jpeg_warnings: bool) -> None:
        self.files, self.jpeg_warnings = files, jpeg_warnings

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self.files)

    def __getitem__(self, index: int) -> Examined:
        """Read one file, all of it."""
        path, exif = self.files.path(index), self.files.exif
        try:
            content = self.files.content(index)
        except BadData as error:
            return Examined(_reason(error, path), None, None)
        return examine(path, exif=exif, jpeg_warnings=self.jpeg_warnings, content=content)


def examine(
    path: str,
    *,
    exif: Exif = "ignore",
    jpeg_warnings: bool = True,
    content: bytes | None = None,
) -> Examined:
    """Read and decode a file as training does, and a JPEG again by a decoder that warns.

    Args:
        path: The file.
        exif: See :func:`~resnet_hub.data.images.read_image`.
        jpeg_warnings: Decode JPEGs again; see :func:`~resnet_hub.data.jpegs.jpeg_damage`, which
            this process's standard error is turned away for.
        content: The file's bytes, where they do not lie in a file of their own.
    """
    try:
        image = read_image(path, exif=exif, content=content)
        content = Path(path).read_bytes() if content is None else content
    except BadData as error:
        return Examined(_reason(error, path), None, None)
    except OSError as error:
        return Examined(error.strerror or type(error).__name__, None, None)
    is_jpeg = content.startswith(_JPEG)
    damage = jpeg_damage(content) if is_jpeg and jpeg_warnings else None
    picture = Picture(*image.size, _is_grey(image), orientation(content) != 1)
    return Examined(damage, hashlib.sha256(content).digest(), picture)


def _is_grey(image: Image.Image) -> bool:
    pixels = np.asarray(image)
    return bool((pixels == pixels[..., :1]).all())


def _reason(error: BadData, path: str) -> str:
    return str(error.args[0]).removeprefix(f"{path}: ")
