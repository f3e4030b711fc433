"""What a pack says of itself: its shards, and where in them each image lies.

A pack is a folder of tar files in WebDataset's form, with two files beside them: ``shards.json``,
read first, and ``samples.safetensors``, a row an image. The tar files need neither; whoever wants
the image of a number, or to know that nothing is damaged, does.

Imports no Lightning: workers that are started afresh import this module.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from resnet_hub.errors import CorruptFile, DataMissing, InvalidSetting
from resnet_hub.weights.store import read_tensors, sha256_of, write_tensors, write_text

INDEX, TABLE = "shards.json", "samples.safetensors"
FORMAT, VERSION = "resnet_hub pack", 1
_SHARD = re.compile(r"[a-z]{1,20}-\d{6}\.tar")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_COLUMNS = {"shard": 1, "offset": 8, "size": 8, "label": 8, "sum": 8, "names": 1}


@dataclass(frozen=True)
class Prepared:
    """How pictures were made smaller before they were packed.

    Attributes:
        short_side: Of a picture that was larger, in pixels.
        quality: Of its JPEG, 1 to 100 as libjpeg counts.

    Raises:
        InvalidSetting: No such side or quality.
    """

    short_side: int
    quality: int = 90

    def __post_init__(self) -> None:
        if not 1 <= self.short_side <= 10_000:
            raise InvalidSetting(f"--short-side: {self.short_side} is not 1 to 10,000 pixels")
        if not 1 <= self.quality <= 100:
            raise InvalidSetting(f"--quality: {self.quality} is not 1 to 100")

    def __str__(self) -> str:
        """Return what scores on such pictures are called."""
        return f"short side {self.short_side}, q{self.quality}"


class Shard(NamedTuple):
    """One tar file.

    Attributes:
        name: Its name, below the pack.
        sha256: Hex digest of its bytes.
        size: Its bytes.
        images: How many are in it.
    """

    name: str
    sha256: str
    size: int
    images: int


@dataclass(frozen=True)
class Index:
    """The content of ``shards.json``.

    Attributes:
        data: The data set that was packed, by its ``data.name``.
        folder: What its folder was called.
        prepared: What was done to its pictures; ``None``: they are there byte for byte.
        labels: Its class names.
        images: How many are there, by split.
        shards: The tar files, each of one split.
        table: Hex SHA-256 of ``samples.safetensors``.
        digest: Hex SHA-256 of ``shards.json``, which vouches for everything; empty where it is not
            written yet.
    """

    data: str
    folder: str
    prepared: Prepared | None
    labels: tuple[str, ...]
    images: dict[str, int]
    shards: tuple[Shard, ...]
    table: str
    digest: str = ""


@dataclass(frozen=True)
class Table:
    """The content of ``samples.safetensors``, M images in the order of the data set.

    Attributes:
        names: Paths below the folder that was packed, with class folders.
        shard: int32 ``(M,)``, numbers of their tar files.
        offset: int64 ``(M,)``, where in it their bytes begin.
        size: int64 ``(M,)``, how many bytes they are.
        label: int64 ``(M,)``.
        sum: int64 ``(M,)``, their CRC-32.
    """

    names: tuple[str, ...]
    shard: Tensor
    offset: Tensor
    size: Tensor
    label: Tensor
    sum: Tensor


def write_index(folder: Path, index: Index, table: Table) -> None:
    """Write both files, ``shards.json`` last: a pack without it is not finished.

    Args:
        folder: The pack.
        index: Its ``table`` and ``digest`` are not looked at.
        table: One row an image.

    Raises:
        ResNetHubError: The disk refused.
    """
    names = b"\0".join(name.encode(errors="surrogateescape") for name in table.names)
    columns = {name: getattr(table, name) for name in _COLUMNS if name != "names"}
    text = torch.from_numpy(np.frombuffer(names, dtype=np.uint8).copy())
    write_tensors(folder / TABLE, {**columns, "names": text})
    said = asdict(index) | {"table": sha256_of(folder / TABLE)}
    said["shards"] = [shard._asdict() for shard in index.shards]
    del said["digest"]
    head = {"format": FORMAT, "version": VERSION}
    write_text(folder / INDEX, json.dumps({**head, **said}, indent=1) + "\n")


def is_pack(folder: Path) -> bool:
    """Whether a folder is a pack, and a finished one."""
    return (folder / INDEX).is_file()


def read_index(file: Path) -> Index:
    """Read ``shards.json``.

    Raises:
        DataMissing: There is none.
        CorruptFile: It is of another format, or of a version that is not known here.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataMissing(f"{file}: cannot be read ({error.strerror})") from error
    try:
        said = json.loads(content)
        if said["format"] != FORMAT:
            raise ValueError
        if said["version"] != VERSION:
            raise CorruptFile(f"{file}: of version {said['version']!r:.20}; update resnet_hub")
        return _index(said, hashlib.sha256(content).hexdigest())
    except (ValueError, KeyError, TypeError, RecursionError, InvalidSetting) as error:
        raise CorruptFile(f"{file}: no index of a pack; pack again, or remove it") from error


def _index(said: Any, digest: str) -> Index:
    shards = tuple(Shard(**shard) for shard in said["shards"])
    for shard in shards:
        if not _SHARD.fullmatch(shard.name) or not _DIGEST.fullmatch(shard.sha256):
            raise ValueError
        if not all(type(number) is int and number > 0 for number in (shard.size, shard.images)):
            raise ValueError
    images = {str(split): int(count) for split, count in said["images"].items()}
    whole = sum(shard.images for shard in shards) == sum(images.values())
    if not whole or not _DIGEST.fullmatch(said["table"]):
        raise ValueError
    prepared = Prepared(**said["prepared"]) if said["prepared"] is not None else None
    labels = tuple(map(str, said["labels"]))
    named = str(said["data"]), str(said["folder"])
    return Index(*named, prepared, labels, images, shards, said["table"], digest)


def read_table(file: Path, index: Index) -> Table:
    """Read ``samples.safetensors``, memory-mapped.

    Raises:
        CorruptFile: It is not the one that the index is of, or its rows lead out of the shards.
    """
    columns = read_tensors(file, sha256=index.table)
    count = sum(index.images.values())
    try:
        text = columns.pop("names").numpy().tobytes().decode(errors="surrogateescape")
        table = Table(tuple(text.split("\0")), **columns)
        sizes = torch.tensor([shard.size for shard in index.shards])
        rows = (table.shard, table.offset, table.size, table.label, table.sum)
        sound = (
            len(table.names) == count
            and all(len(row) == count and int(row.min()) >= 0 for row in rows)
            and int(table.label.max()) < len(index.labels)
            and bool((table.offset + table.size <= sizes[table.shard.long()]).all())
        )
    except (KeyError, TypeError, RuntimeError, IndexError) as error:
        raise CorruptFile(f"{file}: no table of a pack; pack again") from error
    if not sound:
        raise CorruptFile(f"{file}: does not fit {INDEX} beside it; pack again")
    return table


def numbers(values: Sequence[int]) -> Tensor:
    """Return a column of a table, int64."""
    return torch.tensor(values, dtype=torch.int64)
