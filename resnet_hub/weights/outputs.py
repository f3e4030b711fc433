"""What nets gave for whole data sets, kept so that to ask again costs no forward pass.

Beside the fetched weights, in ``outputs/<digest of the key>/outputs.safetensors``: tensors, and in
the file's metadata their key and their SHA-256. Nothing has to be kept: what is damaged, or was
cleared, is made again.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from resnet_hub.errors import CorruptFile, ResNetHubError
from resnet_hub.weights.cache import Entry, bytes_in, locked, root
from resnet_hub.weights.store import read_tensors, tensors_sha256, write_tensors

Tensors = dict[str, Tensor]

_log = logging.getLogger("resnet_hub")
_FILE, _NAME = "outputs.safetensors", "outputs"


def kept(
    key: Mapping[str, Any], make: Callable[[], Tensors], *, about: str
) -> tuple[Tensors, bool]:
    """Return tensors that the cache holds under a key, or make and keep them.

    Of several processes that ask for them at once one makes them, and the others wait.

    Args:
        key: Plain values; all that the tensors depend on.
        make: Returns them.
        about: What they are, in words.

    Returns:
        The tensors, on the CPU, and whether the cache had them. Where the disk takes them not, a
        warning of the logger ``resnet_hub`` says so.

    Raises:
        ResNetHubError: There is no place for a cache, or whatever ``make`` raises.
    """
    if (found := find(key)) is not None:
        return found, True
    with locked(_folder(key)):
        if (found := find(key)) is not None:  # another process made them meanwhile
            return found, True
        made = make()
        _write(key, made, about=about)
    return made, False


def find(key: Mapping[str, Any]) -> Tensors | None:
    """Return the tensors that the cache holds under a key, if it does.

    Raises:
        ResNetHubError: There is no place for a cache.
    """
    return _read(_folder(key), _text(key))


def keep(key: Mapping[str, Any], made: Tensors, *, about: str) -> None:
    """Keep what was made without :func:`kept`: by several processes, which share no lock.

    Raises:
        ResNetHubError: There is no place for a cache.
    """
    with locked(_folder(key)):
        _write(key, made, about=about)


def entries(source: str | None = None) -> list[Entry]:
    """Return what is kept: all (also as ``outputs``), or one by its name (``outputs:1a2b…``)."""
    found = []
    for path in sorted((root() / _NAME).glob(f"*/{_FILE}")):
        folder, name = path.parent, f"{_NAME}:{path.parent.name[:12]}"
        if source in (None, _NAME, name):
            about = _metadata(path).get("about", "damaged")
            found.append(Entry(name, folder, bytes_in(folder), about=about))
    return found


def clear(source: str | None = None) -> list[Entry]:
    """Remove what :func:`entries` returns, and return it."""
    gone = entries(source)
    for entry in gone:
        with locked(entry.folder):
            shutil.rmtree(entry.folder, ignore_errors=True)
    if source is None:
        shutil.rmtree(root() / _NAME, ignore_errors=True)
    return gone


def _text(key: Mapping[str, Any]) -> str:
    return json.dumps(key, sort_keys=True)


def _folder(key: Mapping[str, Any]) -> Path:
    return root() / _NAME / hashlib.sha256(_text(key).encode()).hexdigest()


def _write(key: Mapping[str, Any], made: Tensors, *, about: str) -> None:
    folder = _folder(key)
    metadata = {"key": _text(key), "about": about, "sha256": tensors_sha256(made)}
    try:
        shutil.rmtree(folder, ignore_errors=True)  # what is damaged, or a kill left half done
        write_tensors(folder / _FILE, made, metadata=metadata)
    except ResNetHubError as error:
        _log.warning("not kept: %s", error)


def _read(folder: Path, key: str) -> Tensors | None:
    path = folder / _FILE
    metadata = _metadata(path)
    if metadata.get("key") != key:
        return None
    try:
        tensors = read_tensors(path)
    except CorruptFile:
        return None
    return tensors if tensors_sha256(tensors) == metadata.get("sha256") else None


def _metadata(path: Path) -> Mapping[str, str]:
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError):
        return {}
