"""JPEGs decoded past Pillow, in less time and to the very pixels that Pillow makes of them.

All three decoders are libjpeg-turbo with its exact transform. Imports no Lightning: workers that
are started afresh import this module.
"""

import os
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from typing import Literal

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import get_worker_info
from torchvision.io import ImageReadMode

try:
    from torchvision.io import decode_jpeg
except ImportError:  # announced in torchvision 0.29 for a later release
    decode_jpeg = None
try:
    import simplejpeg
except ImportError:  # the extra `fast`
    simplejpeg = None

_STANDARD_ERROR = 2
_COLOURS = {"RGB": ("RGB", ImageReadMode.RGB), "L": ("GRAY", ImageReadMode.GRAY)}


def decoded(content: bytes, *, mode: Literal["RGB", "L"]) -> Tensor | None:
    """Decode a JPEG of grey or YCbCr, by simplejpeg where it is installed, else by torchvision.

    Args:
        content: The file.
        mode: ``RGB``; or ``L``, for a JPEG that is grey itself.

    Returns:
        uint8 ``(C, H, W)``, the channels of a pixel side by side in memory; ``None`` where there is
        no such decoder here, or it warns or refuses: that file is Pillow's to judge.
    """
    colours, read_mode = _COLOURS[mode]
    if simplejpeg is not None:
        try:
            pixels = simplejpeg.decode_jpeg(content, colours)  # strict: it raises what it warns of
        except ValueError:
            return None
        return torch.from_numpy(pixels).permute(2, 0, 1)
    if decode_jpeg is None or not (_alone() and _warns()):
        return None
    found, said = _torchvisions(content, read_mode)
    return None if said else found


def jpeg_damage(content: bytes) -> str | None:
    """Return what libjpeg warns of while it decodes a JPEG, or ``None``; see :func:`decoder_warns`.

    A damaged JPEG has pixels all the same, so Pillow returns them and keeps the warning to itself.
    Torchvision lets libjpeg print it on the process's standard error, where it is caught here: no
    other thread may write there meanwhile.
    """
    return None if decode_jpeg is None else _torchvisions(content, ImageReadMode.UNCHANGED)[1]


def decoder_warns() -> bool:
    """Return whether this torchvision passes libjpeg's warnings on, as its releases do."""
    file = BytesIO()
    Image.new("L", (16, 16)).save(file, "JPEG")
    sound = file.getvalue()
    damaged = sound[:-2] + bytes(50) + sound[-2:]  # more data than there are pixels
    return jpeg_damage(sound) is None and jpeg_damage(damaged) is not None


def _torchvisions(content: bytes, mode: ImageReadMode) -> tuple[Tensor | None, str | None]:
    """Return a JPEG's pixels, if it gives any, and what is said of it."""
    pixels = refused = None
    with warnings.catch_warnings(), _caught_standard_error() as said:
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            pixels = decode_jpeg(torch.frombuffer(bytearray(content), dtype=torch.uint8), mode)
        except RuntimeError as error:
            refused = re.sub(r"^.*\.cpp:\d+, ", "", str(error).partition("\n")[0])
    warning = " ".join(b"".join(said).decode(errors="replace").split())
    if warning:
        return pixels, f"the decoder warns: {warning}"
    return pixels, f"the decoder refuses: {refused}" if refused else None


@cache
def _warns() -> bool:
    return decoder_warns()


def _alone() -> bool:
    """Return whether no other thread writes to standard error, which decoding is to catch."""
    return get_worker_info() is not None or threading.active_count() == 1


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
