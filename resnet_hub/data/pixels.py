"""Reading one picture from a file as a tensor: usual JPEGs in less time, all else by Pillow.

Imports no Lightning: workers that are started afresh import this module.
"""

import os
import struct
import warnings
from io import BytesIO
from os import PathLike
from stat import S_ISREG
from typing import NamedTuple

import numpy as np
import torch
from PIL import ExifTags, Image
from torch import Tensor

from resnet_hub.data.images import MAX_PIXELS, Exif, Mode, check_size, read_image
from resnet_hub.data.jpegs import decoded

_SAME_COLOURS = {("RGB", "RGB"), ("L", "RGB"), ("L", "L")}
"""Modes of a JPEG and of what it is read as, where decoders agree; grey of colour is Pillow's."""

# A pipe is not waited for; what Windows reads is bytes.
_TO_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)

_MOST_BYTES = 3 * MAX_PIXELS
"""Of a file that is read at once: no JPEG is larger than its pixels."""


def read_pixels(
    path: str | PathLike[str],
    *,
    mode: Mode = "RGB",
    exif: Exif = "ignore",
    content: bytes | None = None,
) -> Tensor:
    """Read and decode one picture to the pixels of :func:`~resnet_hub.data.images.read_image`.

    A JPEG that is neither damaged nor of a rare form is decoded by
    :func:`~resnet_hub.data.jpegs.decoded`, all else by Pillow, which turns and refuses pictures.

    Args:
        path: The file.
        mode: ``RGB``, or ``L`` for one channel of grey.
        exif: See :func:`~resnet_hub.data.images.read_image`.
        content: The file's bytes, where they do not lie in a file of their own.

    Returns:
        uint8 ``(C, H, W)``, the channels of a pixel side by side in memory: torch resizes such
        fastest.

    Raises:
        BadData: See :func:`~resnet_hub.data.images.read_image`.
    """
    pixels = _usual_jpeg(path, mode, exif, content)
    if pixels is not None:
        return pixels
    image = read_image(path, mode=mode, exif=exif, content=content)
    picture = torch.from_numpy(np.array(image))
    return picture[None] if picture.dim() == 2 else picture.permute(2, 0, 1)


def _usual_jpeg(
    path: str | PathLike[str], mode: Mode, exif: Exif, content: bytes | None = None
) -> Tensor | None:
    """Return a JPEG's pixels, or ``None`` of what is Pillow's to decode, to turn or to refuse."""
    try:
        content = _content(path) if content is None else content
        header = _plain_header(content) if exif == "ignore" else None
        header = header or _pillows_header(content, exif)
        if header is None or (header.mode, mode) not in _SAME_COLOURS:
            return None
        check_size(header.width, header.height)
        pixels = decoded(content, mode=mode)
    except MemoryError:
        raise
    except Exception:  # damaged bytes make a decoder raise anything; Pillow says what is wrong
        return None
    same = pixels is not None and pixels.shape[1:] == (header.height, header.width)
    return pixels if same else None


def _content(path: str | PathLike[str]) -> bytes:
    # By the system's own calls: a path's methods take a twentieth of the time of decoding.
    handle = os.open(path, _TO_READ)
    try:
        found = os.fstat(handle)
        ours = S_ISREG(found.st_mode) and found.st_size <= _MOST_BYTES
        return os.read(handle, found.st_size) if ours else b""
    finally:
        os.close(handle)


class _Header(NamedTuple):
    mode: str
    width: int
    height: int


_SOI, _SOS, _ADOBE_XMP = b"\xff\xd8", 0xDA, b"http://ns.adobe.com/xap/1.0/\0"
_SAMPLINGS = ((0x11, 0x11, 0x11), (0x21, 0x11, 0x11), (0x22, 0x11, 0x11))
"""4:4:4, 4:2:2 and 4:2:0; of rarer ones libjpeg-turbo's releases smooth the colours differently."""
_FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended, progressive
_TABLES = (0xC4, 0xDB, 0xDD, 0xFE)  # Huffman's, quantisation's, the restart interval, comments
_PLAIN = {0xE0: b"JFIF\0", 0xE1: _ADOBE_XMP, 0xE2: b"ICC_PROFILE\0"}  # 16 bytes at least


def _plain_header(content: bytes) -> _Header | None:
    """Read the header of a JPEG that has nothing in it which Pillow might turn or stumble over.

    Pillow takes a tenth of the time of decoding to read it.
    """
    header = None
    place = len(_SOI)
    if not content.startswith(_SOI):
        return None
    while content[place] == 0xFF:
        marker, length = struct.unpack_from(">BH", content, place + 1)
        if marker == _SOS:
            return header
        if marker in _FRAMES:
            bits, height, width, layers = struct.unpack_from(">BHHB", content, place + 4)
            if header or bits != 8 or layers not in (1, 3) or not width * height:
                return None
            sampling = tuple(content[place + 11 + 3 * layer] for layer in range(layers))
            if layers == 3 and sampling not in _SAMPLINGS:
                return None
            header = _Header("L" if layers == 1 else "RGB", width, height)
        elif marker not in _TABLES:
            begins = _PLAIN.get(marker)
            if begins is None or length < 16 or not content.startswith(begins, place + 4):
                return None
        place += 2 + length
    return None


def _pillows_header(content: bytes, exif: Exif) -> _Header | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(BytesIO(content), formats=("JPEG",)) as image:
            turned = exif == "apply" and image.getexif().get(ExifTags.Base.Orientation, 1) != 1
            if image.format != "JPEG" or turned:
                return None
            sampling = tuple(16 * across + down for _, across, down, _ in image.layer)
            if len(sampling) == 3 and sampling not in _SAMPLINGS:
                return None
            return _Header(image.mode, *image.size)
