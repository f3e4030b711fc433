"""Looking at one image file: what reading it refuses, what its decoder warns of, and what it is.

Imports no Lightning: workers that are started afresh import this module.
"""

import hashlib
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from resnet_hub.data.files import ImageFiles
from resnet_hub.data.images import Exif, orientation, read_image
from resnet_hub.errors import BadData

try:
    from torchvision.io import decode_jpeg
except ImportError:  # announced in torchvision 0.29 for a later release
    decode_jpeg = None

_STANDARD_ERROR = 2
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
        jpeg_warnings: Decode JPEGs again; see :func:`jpeg_damage`, which this process's standard
            error is turned away for.
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


def jpeg_damage(content: bytes) -> str | None:
    """Return what libjpeg warns of while it decodes a JPEG, or ``None``; see :func:`decoder_warns`.

    A damaged JPEG has pixels all the same, so Pillow returns them and keeps the warning to itself.
    Torchvision lets libjpeg print it on the process's standard error, where it is caught here: no
    other thread may write there meanwhile.
    """
    if decode_jpeg is None:
        return None
    refused = None
    with warnings.catch_warnings(), _caught_standard_error() as said:
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            decode_jpeg(torch.frombuffer(bytearray(content), dtype=torch.uint8))
        except RuntimeError as error:
            refused = re.sub(r"^.*\.cpp:\d+, ", "", str(error).partition("\n")[0])
    warning = " ".join(b"".join(said).decode(errors="replace").split())
    if warning:
        return f"the decoder warns: {warning}"
    return f"the decoder refuses: {refused}" if refused else None


def decoder_warns() -> bool:
    """Return whether this torchvision passes libjpeg's warnings on, as its releases do."""
    file = BytesIO()
    Image.new("L", (16, 16)).save(file, "JPEG")
    sound = file.getvalue()
    damaged = sound[:-2] + bytes(50) + sound[-2:]  # more data than there are pixels
    return jpeg_damage(sound) is None and jpeg_damage(damaged) is not None


def _is_grey(image: Image.Image) -> bool:
    pixels = np.asarray(image)
    return bool((pixels == pixels[..., :1]).all())


def _reason(error: BadData, path: str) -> str:
    return str(error.args[0]).removeprefix(f"{path}: ")


@contextmanager
def _caught_standard_error() -> Iterator[list[bytes]]:
    """Yield a list that gets, as the block ends, what C code wrote to standard error in it."""
    said: list[bytes] = []
    reader, writer = os.pipe()  # no file: a full disk would lose the warning
    os.set_blocking(writer, False)  # nor does whoever says more than a pipe holds wait for ever
    kept = os.dup(_STANDARD_ERROR)
    os.dup2(writer, _STANDARD_ERROR)
    os.close(writer)
    try:
        yield said
    finally:
        os.dup2(kept, _STANDARD_ERROR)  # which closes the pipe's last writing end
        os.close(kept)
        with os.fdopen(reader, "rb") as pipe:
            said.append(pipe.read())
