"""Reading single images out of a pack's tar files, wherever these are.

Imports no Lightning: workers that are started afresh import this module.
"""

import os
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from resnet_hub.data.pack_index import Index, Shard, Table
from resnet_hub.errors import BadData, DataMissing

Place = Callable[[Shard], Path]
"""Tells where a tar file lies, and sees to it that it is there."""


class Shards:
    """A pack's tar files, of which each process keeps a few open.

    Args:
        shards: All of them.
        place: See :data:`Place`.
        most: Files that a process keeps open; it may have some 1,000.
    """

    def __init__(self, shards: Sequence[Shard], place: Place, *, most: int) -> None:
        self.shards, self.place, self.most = tuple(shards), place, most
        self._open: OrderedDict[int, int] = OrderedDict()

    def read(self, number: int, *, offset: int, size: int) -> bytes:
        """Return bytes of a tar file; fewer where it is cut.

        Raises:
            DataMissing: It is not there.
            OSError: The disk refused.
        """
        return os.pread(self._descriptor(number), size, offset)  # forks share no place in a file

    def close(self) -> None:
        """Close all files; they are opened again as they are needed."""
        while self._open:
            os.close(self._open.popitem()[1])

    def _descriptor(self, number: int) -> int:
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        while len(self._open) >= self.most:
            os.close(self._open.popitem(last=False)[1])
        self._open[number] = opened = self._opened(self.shards[number])
        return opened

    def _opened(self, shard: Shard) -> int:
        for _ in range(3):  # another process may make room of it before it is open
            path = self.place(shard)
            try:
                return os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
            except FileNotFoundError:
                continue
            except OSError as error:
                raise DataMissing(f"{path}: cannot be opened ({error.strerror})") from error
        raise DataMissing(f"{path}: is gone; bring it back, or pack again")

    def __getstate__(self) -> dict[str, Any]:
        # An open file is of its process; one that is started afresh opens its own.
        return self.__dict__ | {"_open": OrderedDict()}

    def __del__(self) -> None:
        self.close()


class PackedSource:
    """The images of one split, in a pack; a :class:`~resnet_hub.data.source.Source`.

    Every image is held against its CRC-32 as it is read.

    Attributes:
        shard: int32 ``(M,)``, number of each image's tar file.

    Args:
        shards: The pack's.
        index: The pack's.
        table: The pack's.
        rows: int64 ``(M,)``, which of the table's rows the split's images are.
    """

    def __init__(self, shards: Shards, index: Index, table: Table, rows: Tensor) -> None:
        self.shards, self._prepared, self._digest = shards, index.prepared, index.digest
        self.shard, self._offset = table.shard[rows], table.offset[rows]
        self._size, self._sum = table.size[rows], table.sum[rows]

    @property
    def changed(self) -> str:
        """What was done to the pixels before they were packed; empty where nothing was."""
        return str(self._prepared or "")

    def read(self, index: int, path: str) -> bytes:
        """Return the bytes of one image, which messages call ``path``.

        Raises:
            BadData: They are not the ones that were packed.
            DataMissing: Its tar file is not there.
        """
        number, size = int(self.shard[index]), int(self._size[index])
        name = self.shards.shards[number].name
        try:
            content = self.shards.read(number, offset=int(self._offset[index]), size=size)
        except OSError as error:
            raise BadData(f"{path}: {name} cannot be read ({error.strerror})") from error
        if len(content) != size or zlib.crc32(content) != int(self._sum[index]):
            raise BadData(f"{path}: damaged in {name} (other bytes than were packed)")
        return content

    def stamp(self) -> str:
        """Return the hex SHA-256 of the pack's index, which has one of every shard."""
        return self._digest
