"""A pack opened: its images as the class folders that they came from, and their bytes."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from resnet_hub.data.pack_files import PackedSource, Place, Shards
from resnet_hub.data.pack_index import (
    INDEX,
    TABLE,
    Shard,
    is_pack,
    numbers,
    read_index,
    read_table,
)
from resnet_hub.data.scan import Sample, Tree
from resnet_hub.errors import DataMissing
from resnet_hub.weights.store import sha256_of


class Pack(Tree):
    """A finished pack: data sets look through it as through the folder that was packed.

    Paths are the pack's folder and, below it, the names that the files had; no file is there.

    Attributes:
        root: Where it lies, or lay once fetched.
        index: What it says of itself.
        table: A row an image.

    Args:
        root: The folder of ``shards.json`` and ``samples.safetensors``.
        place: Tells where a tar file lies; by default in ``root``.
        most: Tar files that a process keeps open.

    Raises:
        DataMissing: No such pack.
        CorruptFile: A damaged one.
    """

    def __init__(self, root: Path, *, place: Place | None = None, most: int = 64) -> None:
        self.root = root
        self.index = read_index(root / INDEX)
        self.table = read_table(root / TABLE, self.index)
        self._shards = Shards(self.index.shards, place or Beside(root), most=most)
        self._folders: dict[str, set[str]] = defaultdict(set)
        self._files: dict[str, list[str]] = defaultdict(list)
        self._rows: dict[str, int] = {}
        for row, name in enumerate(self.table.names):
            self._rows[name] = row
            above, _, own = name.rpartition("/")
            if above not in self._files:
                self._name_folders(above)
            self._files[above].append(own)

    def _name_folders(self, folder: str) -> None:
        while folder:
            above, _, own = folder.rpartition("/")
            self._folders[above].add(own)
            folder = above

    def is_folder(self, folder: Path) -> bool:
        """Whether images came from such a folder."""
        name = self._name(folder)
        return name in self._files or name in self._folders

    def name(self, folder: Path) -> str:
        """Return what the folder was called as it was packed."""
        return self.index.folder if folder == self.root else folder.name

    def listing(self, folder: Path) -> tuple[list[str], list[str]]:
        """Return the names of its subfolders and of its image files, each sorted."""
        name = self._name(folder)
        return sorted(self._folders.get(name, ())), sorted(self._files.get(name, ()))

    def images_in(self, folder: Path) -> list[str]:
        """Return the paths of all images below it, in the order of the data set."""
        folders, images = self.listing(folder)
        paths = [str(folder / image) for image in images]
        for name in folders:
            paths += self.images_in(folder / name)
        return paths

    def source(self, samples: Sequence[Sample]) -> PackedSource:
        """Return where the bytes of these samples are read from."""
        start = len(str(self.root / "x")) - 1
        rows = numbers([self._rows[path[start:]] for path, _ in samples])
        return PackedSource(self._shards, self.index, self.table, rows)

    def _name(self, folder: Path) -> str:
        name = folder.relative_to(self.root).as_posix()
        return "" if name == "." else name


class Beside:
    """Where the tar files of a pack lie on disk: beside its index.

    Args:
        folder: The pack.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, shard: Shard) -> Path:
        """Return a tar file's path."""
        return self.folder / shard.name


def open_pack(root: Path) -> Pack | None:
    """Return the pack that lies in a folder, or ``None`` where none does.

    Raises:
        DataMissing: A tar file is not there, or is cut.
        CorruptFile: The pack's index is damaged.
    """
    if not is_pack(root):
        return None
    pack = Pack(root)
    for shard in pack.index.shards:
        if fault := _absence(root / shard.name, shard):
            raise DataMissing(f"{root / shard.name}: {fault}; bring it back, or pack again")
    return pack


def shard_faults(root: Path) -> Iterator[tuple[str, str]]:
    """Yield path and fault of every tar file of a pack that is not as it was written.

    Raises:
        CorruptFile: The pack's index is damaged.
    """
    for shard in read_index(root / INDEX).shards:
        path = root / shard.name
        if fault := _absence(path, shard):
            yield str(path), fault
        elif (found := sha256_of(path)) != shard.sha256:
            yield str(path), f"other bytes than were written (SHA-256 {found[:12]}…)"


def are_there(root: Path) -> bool:
    """Whether all tar files of a pack are there, and as long as they were written."""
    shards = read_index(root / INDEX).shards
    return not any(_absence(root / shard.name, shard) for shard in shards)


def _absence(path: Path, shard: Shard) -> str:
    if not path.is_file():
        return "a shard of the pack that is not there"
    size = path.stat().st_size
    return f"{size:,} bytes, not {shard.size:,}" if size != shard.size else ""
