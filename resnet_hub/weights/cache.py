"""The folder where fetched weights are kept, each as a model folder that loads without a request.

``$TORCH_HOME/hub/resnet_hub`` holds ``published/<name>``, ``hub/<org>--<repo>/<commit>``,
``urls/<digest>-<place>``, and ``digests.json``: what each name's file was when it was first
fetched.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock

from resnet_hub.errors import CorruptFile, ResNetHubError
from resnet_hub.weights.card import CARD_NAME, FILES, WEIGHTS_NAME
from resnet_hub.weights.store import write_folder, write_text

_KINDS = ("published", "hub", "urls")


@dataclass(frozen=True)
class Entry:
    """One cached model folder.

    Attributes:
        source: What ``from_pretrained`` calls it.
        folder: Where it lies.
        size: Its bytes.
    """

    source: str
    folder: Path
    size: int


def root() -> Path:
    """Return the cache's folder, which follows ``TORCH_HOME`` and ``torch.hub.set_dir``."""
    return Path(torch.hub.get_dir(), "resnet_hub")


def published(name: str) -> Path:
    """Return where weights of the catalog are kept."""
    return root() / "published" / name


def holds(folder: Path) -> bool:
    """Whether a cached model folder is there, whole."""
    return all((folder / name).is_file() for name in (CARD_NAME, WEIGHTS_NAME))


def filled(folder: Path, fill: Callable[[Path], None]) -> Path:
    """Return a model folder of the cache, filled first if it is not there.

    Of several processes that ask for it at once one fills it, and the others wait.

    Args:
        folder: Below :func:`root`.
        fill: Called with an empty folder; what it leaves there appears whole or not at all.

    Raises:
        ResNetHubError: The disk refused, or whatever ``fill`` raises; what was there is intact.
    """
    if holds(folder):
        return folder
    with _locked(folder):
        if not holds(folder):  # another process may have filled it meanwhile
            _sweep(folder)
            shutil.rmtree(folder, ignore_errors=True)
            write_folder(folder, fill, names=FILES)
    return folder


@contextmanager
def set_aside(folder: Path) -> Iterator[None]:
    """Take a cached folder that turned out to be damaged out of the way inside the block.

    If another comes into its place it goes, else it is put back: a server may be down.
    """
    aside = folder.with_name(f".aside-{folder.name}")
    with _locked(folder):
        shutil.rmtree(aside, ignore_errors=True)
        if folder.exists():
            folder.rename(aside)
    try:
        yield
    finally:
        with _locked(folder):
            if aside.exists() and not folder.exists():
                aside.rename(folder)
            shutil.rmtree(aside, ignore_errors=True)


def remember(name: str, sha256: str) -> None:
    """Record the digest of a file that was fetched, and hold its name to it from then on.

    The first one counts: it is what a later server or mirror has to give. Clearing the cache keeps
    the record.

    Raises:
        CorruptFile: The name had another digest before.
    """
    book = root() / "digests.json"
    with _locked(book):
        known = _read_digests(book)
        if known.setdefault(name, sha256) != sha256:
            raise CorruptFile(
                f"{name}: what came has SHA-256 {sha256[:12]}…, but at first it was "
                f"{known[name][:12]}…; if the source changed rightly, remove that line of {book}"
            )
        write_text(book, json.dumps(known, indent=1, sort_keys=True) + "\n")


def entries(source: str | None = None) -> list[Entry]:
    """Return what is cached: all, or one source's (a repository's, at every revision)."""
    found = []
    for kind in _KINDS:
        for card in sorted((root() / kind).glob(f"*/{'*/' if kind == 'hub' else ''}{CARD_NAME}")):
            folder = card.parent
            size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
            entry = Entry(_source(kind, folder), folder, size)
            own = entry.source.removeprefix("hf:")
            if source is None or source.removeprefix("hf:") in (own, own.partition("@")[0]):
                found.append(entry)
    return found


def clear(source: str | None = None) -> list[Entry]:
    """Remove one source, or all, and whatever interrupted downloads left; return what went."""
    gone = entries(source)
    for entry in gone:
        with _locked(entry.folder):
            shutil.rmtree(entry.folder, ignore_errors=True)
    for kind in _KINDS:
        if source is None:
            shutil.rmtree(root() / kind, ignore_errors=True)
    return gone


def _source(kind: str, folder: Path) -> str:
    if kind == "hub":
        return f"hf:{folder.parent.name.replace('--', '/')}@{folder.name}"
    return folder.name if kind == "published" else f"sha256:{folder.name}"


def _sweep(folder: Path) -> None:
    """Remove what a process that was killed left of filling this folder; we hold its lock."""
    for orphan in folder.parent.glob(f".{folder.name}.*"):
        if orphan.is_dir():
            shutil.rmtree(orphan, ignore_errors=True)


def _read_digests(book: Path) -> dict[str, str]:
    try:
        known = json.loads(book.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise CorruptFile(f"{book}: not JSON; mend or remove it") from error
    if not isinstance(known, dict) or not all(isinstance(x, str) for x in known.values()):
        raise CorruptFile(f"{book}: not a record of digests; mend or remove it")
    return known


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock that dies with its process."""
    lock = path.parent / f".{path.name}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        holder = FileLock(lock)
        holder.acquire()
    except OSError as error:
        raise ResNetHubError(
            f"{path.parent}: the cache cannot be written ({error.strerror or error}); TORCH_HOME "
            "names another place"
        ) from error
    try:
        yield
    finally:
        holder.release()
