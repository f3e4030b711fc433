"""Packs on a web server: fetched shard by shard, verified, kept on disk up to a limit.

Imports no Lightning: workers that are started afresh import this module.
"""

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from resnet_hub.data.pack import Pack
from resnet_hub.data.pack_index import INDEX, TABLE, Index, Shard, read_index
from resnet_hub.data.settings import DataSettings
from resnet_hub.errors import CorruptFile, DataMissing, InvalidSetting, ResNetHubError
from resnet_hub.weights import cache
from resnet_hub.weights.reach import is_offline
from resnet_hub.weights.sources import may_be_fetched
from resnet_hub.weights.store import sha256_of
from resnet_hub.weights.transfer import download

_MOST_INDEX = 1 << 30
_GB = 10**9


def is_address(root: str) -> bool:
    """Whether a root is an address on the web, and no folder."""
    return root.startswith(("https://", "http://"))


def place_of(root: str) -> Path:
    """Return the folder of the cache that keeps what is fetched from an address.

    Raises:
        InvalidSetting: No ``https://`` address, or one with a secret in it.
    """
    url = root.partition("#")[0].rstrip("/")
    parts = urlsplit(url)
    if not may_be_fetched(url) or parts.query or parts.username or not url.isascii():
        raise InvalidSetting(
            f"data.root: {parts.scheme}://{parts.hostname}{parts.path}: a pack is fetched from a "
            "plain https:// address, without password or query"
        )
    name = parts.path.rpartition("/")[2] or "pack"
    return cache.root() / "packs" / f"{name}-{hashlib.sha256(url.encode()).hexdigest()[:16]}"


def fetch_pack(settings: DataSettings) -> Pack:
    """Return the pack at an address: its index is fetched now, its shards as they are needed.

    ``data.root`` may end in ``#sha256=…``, of its ``shards.json``, which vouches for all the rest.
    Where the server is not reached, what was fetched earlier is used.

    Raises:
        InvalidSetting: An address that cannot be one.
        DataMissing: The server or the network refused, or requests are forbidden.
        CorruptFile: What came is another file than was asked for.
    """
    url, _, digest = settings.root.partition("#")
    folder = place_of(settings.root)
    try:
        with cache.locked(folder / INDEX):
            _fetch_index(url.rstrip("/"), folder, digest.removeprefix("sha256="))
    except OSError as error:
        raise ResNetHubError(f"{folder}: could not be written ({error.strerror})") from error
    place = RemoteShards(url.rstrip("/"), folder, limit=_limit(settings))
    if settings.cache_gb is None or settings.shuffle_shards is None:
        return Pack(folder, place=place)
    # What is open stays on disk, removed or not.
    return Pack(folder, place=place, most=settings.shuffle_shards + 1)


def _fetch_index(url: str, folder: Path, digest: str) -> None:
    file, table = folder / INDEX, folder / TABLE
    if not is_offline() and not (digest and file.is_file() and sha256_of(file) == digest):
        try:
            download(f"{url}/{INDEX}", file, sha256=digest or None, most=_MOST_INDEX, shows=False)
        except DataMissing:
            if not file.is_file():
                raise
    if not file.is_file():
        raise DataMissing(f"{url}: not fetched yet, and HF_HUB_OFFLINE forbids it")
    if digest and sha256_of(file) != digest:
        raise CorruptFile(f"{url}: its {INDEX} is another than #sha256= says")
    index = read_index(file)
    if not table.is_file() or sha256_of(table) != index.table:
        _check_online(f"{url}/{TABLE}")
        download(f"{url}/{TABLE}", table, sha256=index.table, shows=False)


def check_cache(settings: DataSettings, index: Index) -> None:
    """Check that the cache of a pack that is fetched holds what training goes through at a time.

    Raises:
        InvalidSetting: It does not: every shard would be fetched again and again.
    """
    limit, window = _limit(settings), settings.shuffle_shards
    if limit is None:
        return
    shards = [shard for shard in index.shards if shard.name.startswith("train-")]
    needed = sum(shard.size for shard in shards)
    if window is not None:
        needed = min(needed, (window + 2) * max(shard.size for shard in shards))
    if limit < needed:
        mixed = f"data.shuffle_shards: {window}"
        if window is None:
            mixed = "all shards are mixed; set data.shuffle_shards"
        raise InvalidSetting(
            f"data.cache_gb: {settings.cache_gb:g} GB are less than the {needed / _GB:.3g} GB that "
            f"training goes through at a time ({mixed})"
        )


def _limit(settings: DataSettings) -> int | None:
    return None if settings.cache_gb is None else int(settings.cache_gb * _GB)


def _check_online(url: str) -> None:
    if is_offline():
        raise DataMissing(f"{url}: not fetched yet, and HF_HUB_OFFLINE forbids it")


class RemoteShards:
    """Where the shards of a pack on a web server lie on disk, once they are needed.

    Of processes that need one at once, one fetches it and the others wait. What has its name in
    the cache was verified by its SHA-256 as it came.

    Args:
        url: The pack's.
        folder: Where to keep them.
        limit: Bytes to keep, beside what is being fetched; those longest unused go first. ``None``:
            all.
    """

    def __init__(self, url: str, folder: Path, *, limit: int | None = None) -> None:
        self.url, self.folder, self.limit = url, folder, limit

    def __call__(self, shard: Shard) -> Path:
        """Return a shard's path, fetched if it is not there.

        Raises:
            DataMissing: The server or the network refused, or requests are forbidden.
            CorruptFile: What came is another file than the index says.
            ResNetHubError: The disk refused.
        """
        path = self.folder / f"{shard.sha256[:16]}-{shard.name}"
        if not path.is_file():
            with cache.locked(path):
                if not path.is_file():
                    self._fetch(shard, path)
        with suppress(OSError):  # another process makes room of it: it is fetched again
            os.utime(path)
        return path

    def _fetch(self, shard: Shard, path: Path) -> None:
        url = f"{self.url}/{shard.name}"
        _check_online(url)
        try:
            self._make_room(shard.size)
            download(url, path, sha256=shard.sha256, size=shard.size, shows=False)
        except OSError as error:
            raise ResNetHubError(
                f"{path}: could not be written ({error.strerror}); data.cache_gb bounds the cache"
            ) from error

    def _make_room(self, size: int) -> None:
        """Remove shards until one of this size fits; who reads one goes on with it."""
        if self.limit is None:
            return
        kept = []
        for path in self.folder.glob("*.tar"):
            with suppress(OSError):
                found = path.stat()
                kept.append((found.st_mtime_ns, found.st_size, path))
        total = sum(own for _, own, _ in kept)
        for _, own, path in sorted(kept):
            if total + size <= self.limit:
                return
            path.unlink(missing_ok=True)
            total -= own
