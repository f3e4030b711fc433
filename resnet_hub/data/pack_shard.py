"""Writing one tar file of a pack, in WebDataset's form.

Imports no Lightning: the processes that pack import this module.
"""

import json
import tarfile
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import ExifTags, Image

from resnet_hub.data.images import orientation, read_image
from resnet_hub.data.pack_index import Prepared, Shard
from resnet_hub.errors import BadData
from resnet_hub.weights.store import sha256_of, write_file, write_text


class Member(NamedTuple):
    """An image to be packed.

    Attributes:
        row: Its number in the data set.
        path: Its file.
        label: Its class.
        key: What it is called in the tar file, without ending.
    """

    row: int
    path: str
    label: int
    key: str


class Packed(NamedTuple):
    """An image that is packed.

    Attributes:
        row: Its number in the data set.
        offset: Where in the tar file its bytes begin.
        size: How many they are.
        sum: Their CRC-32.
    """

    row: int
    offset: int
    size: int
    sum: int


class Job(NamedTuple):
    """A tar file to be written.

    Attributes:
        path: The file.
        members: The images, in the order of the file.
        prepared: What to do to them; ``None`` keeps their bytes.
        skip: Whether images that cannot be read are left out; else they are refused.
    """

    path: Path
    members: tuple[Member, ...]
    prepared: Prepared | None
    skip: bool


class Done(NamedTuple):
    """A tar file that is written.

    Attributes:
        shard: What it is.
        packed: The images in it, in the order of the file.
        refused: What the others cannot be read for, a line each.
    """

    shard: Shard
    packed: tuple[Packed, ...]
    refused: tuple[str, ...]


def write_shard(job: Job) -> Done:
    """Write a tar file whole or not at all, and a note beside it of what is in it.

    The same images make the same bytes. An image is ``<key>.<ending>``, its label ``<key>.cls``.

    Raises:
        BadData: An image cannot be read; its file is named.
        ResNetHubError: The disk refused.
    """
    written: list[tuple[int, int]] = []
    refused: list[str] = []

    def write(file: BinaryIO) -> None:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for member in job.members:
                try:
                    content, ending = _content(member.path, job.prepared)
                except BadData as error:
                    if not job.skip:
                        raise
                    refused.append(str(error.args[0]))
                    continue
                written.append((member.row, zlib.crc32(content)))
                for name, part in ((ending, content), ("cls", str(member.label).encode())):
                    entry = tarfile.TarInfo(f"{member.key}.{name}")
                    entry.size = len(part)
                    tar.addfile(entry, BytesIO(part))

    write_file(job.path, write)
    places = [(offset, size) for name, offset, size in contents(job.path) if not _is_label(name)]
    packed = tuple(
        Packed(row, *place, crc) for (row, crc), place in zip(written, places, strict=True)
    )
    sha256, size = sha256_of(job.path), job.path.stat().st_size
    done = Done(Shard(job.path.name, sha256, size, len(packed)), packed, tuple(refused))
    write_text(_note(job.path), json.dumps(done))
    return done


def finished(path: Path) -> Done | None:
    """Return what an earlier call wrote, where its tar file is still there and as long."""
    try:
        shard, packed, refused = json.loads(_note(path).read_bytes())
        done = Done(Shard(*shard), tuple(Packed(*one) for one in packed), tuple(refused))
    except (OSError, ValueError, TypeError):
        return None
    return done if path.is_file() and path.stat().st_size == done.shard.size else None


def contents(path: Path) -> Iterator[tuple[str, int, int]]:
    """Yield name, place and size of everything in a tar file.

    Raises:
        tarfile.TarError: It is none, or damaged between the images.
    """
    with tarfile.open(path, "r:") as tar:
        for entry in tar:
            yield entry.name, entry.offset_data, entry.size


def _is_label(name: str) -> bool:
    return name.endswith(".cls")


def _note(path: Path) -> Path:
    return path.with_name(f".{path.name}.json")


def _content(path: str, prepared: Prepared | None) -> tuple[bytes, str]:
    """Return an image's bytes as they are packed, and their ending.

    Raises:
        BadData: It cannot be read.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise BadData(f"{path}: {error.strerror}") from error
    # As it is stored: training decides whether it is turned.
    picture = read_image(path, content=content)
    if prepared is not None and min(picture.size) > prepared.short_side:
        return _smaller(picture, prepared, orientation(content)), "jpg"
    ending = Path(path).suffix[1:].lower()
    return content, {"jpeg": "jpg"}.get(ending, ending)


def _smaller(picture: Image.Image, prepared: Prepared, turn: int) -> bytes:
    short, asked = min(picture.size), prepared.short_side
    width, height = (side * asked // short for side in picture.size)  # as torchvision rounds
    small = picture.resize((width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(picture)
    if (pixels == pixels[..., :1]).all():
        small = small.convert("L")
    exif, file = Image.Exif(), BytesIO()
    if turn != 1:
        exif[ExifTags.Base.Orientation] = turn
    small.save(file, "JPEG", quality=prepared.quality, exif=exif)
    return file.getvalue()
