"""The folder where fetched weights are kept, each as a model folder that loads without a request.

``$TORCH_HOME/hub/resnet_hub`` holds ``published/<name>``, ``hub/<org>--<repo>/<commit>``,
``urls/<digest>-<place>``, and ``digests.json``: what each name's file was when it was first
fetched. Beside each folder a hidden file of its name says where it came from and what its card was.
"""

import json
import re
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn
from urllib.parse import quote, unquote

import torch
from filelock import FileLock

from resnet_hub.errors import CorruptFile, ResNetHubError
from resnet_hub.weights.card import CARD_NAME, FILES, WEIGHTS_NAME
from resnet_hub.weights.catalog import default_of
from resnet_hub.weights.store import sha256_of, write_folder, write_text

_COMMIT = re.compile(r"[0-9a-f]{40}")
_KINDS = ("published", "hub", "urls")


@dataclass(frozen=True)
class Entry:
    """One cached folder: a model's, or of what a net gave (:mod:`~resnet_hub.weights.outputs`).

    Attributes:
        source: What ``from_pretrained`` and ``resnet-hub cache`` call it.
        folder: Where it lies.
        size: Its bytes.
        revisions: Branches and tags of a repository that mean it.
        about: What it holds, where the source does not say.
    """

    source: str
    folder: Path
    size: int
    revisions: tuple[str, ...] = ()
    about: str = ""

    def is_called(self, source: str) -> bool:
        """Whether a source means this entry.

        It may be its name, or its net's if that means it; its URL, the digest left out perhaps; its
        repository, or a revision of it.
        """
        own, asked = self.source.removeprefix("hf:"), source.removeprefix("hf:")
        default = default_of(asked)
        asked = default.name if default else asked
        url, repo = own.partition("#")[0], own.partition("@")[0]
        return asked in (own, url, repo, *(f"{repo}@{name}" for name in self.revisions))


def root() -> Path:
    """Return the cache's folder, which follows ``TORCH_HOME`` and ``torch.hub.set_dir``."""
    return Path(torch.hub.get_dir(), "resnet_hub")


def published(name: str) -> Path:
    """Return where weights of the catalog are kept."""
    return root() / "published" / name


def holds(folder: Path) -> bool:
    """Whether a cached model folder is there, whole."""
    return all((folder / name).is_file() for name in (CARD_NAME, WEIGHTS_NAME))


def revision_file(repo: str, revision: str) -> Path:
    """Return the file that keeps what commit a repository's branch or tag was."""
    return root() / "hub" / repo.replace("/", "--") / "revisions" / quote(revision, safe="")


def read_revision(repo: str, revision: str) -> str | None:
    """Return the commit that a repository's branch or tag was, where that is known."""
    try:
        commit = revision_file(repo, revision).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    return commit if _COMMIT.fullmatch(commit) else None


def filled(folder: Path, fill: Callable[[Path], None], *, source: str) -> Path:
    """Return a model folder of the cache, filled first if it is not there.

    Of several processes that ask for it at once one fills it, and the others wait.

    Args:
        folder: Below :func:`root`.
        fill: Called with an empty folder; what it leaves there appears whole or not at all.
        source: What ``from_pretrained`` calls it.

    Raises:
        ResNetHubError: The disk refused, or whatever ``fill`` raises; what was there is intact.
    """

    def filled_and_noted(place: Path) -> None:
        fill(place)
        note = {"source": source, "card": sha256_of(place / CARD_NAME)}
        write_text(_note(folder), json.dumps(note) + "\n")

    if holds(folder):
        return folder
    with locked(folder), _unwound_by_sigterm():
        if not holds(folder):  # another process may have filled it meanwhile
            _sweep(folder)
            shutil.rmtree(folder, ignore_errors=True)
            write_folder(folder, filled_and_noted, names=FILES)
    return folder


def check(folder: Path) -> None:
    """Refuse a cached folder whose card is not the one that was fetched; weights have its digest.

    Raises:
        CorruptFile: The card was changed, or is gone.
    """
    note, card = _read_note(folder), folder / CARD_NAME
    # Without a note, as in a folder that was copied here, there is nothing to hold it to.
    if note and (not card.is_file() or sha256_of(card) != note["card"]):
        raise CorruptFile(f"{card}: changed since it was fetched; fetch it again")


@contextmanager
def set_aside(folder: Path) -> Iterator[None]:
    """Take a cached folder that turned out to be damaged out of the way inside the block.

    If another comes into its place it goes, else it is put back: a server may be down.
    """
    aside = folder.with_name(f".aside-{folder.name}")
    with locked(folder):
        shutil.rmtree(aside, ignore_errors=True)
        if folder.exists():
            folder.rename(aside)
    try:
        yield
    finally:
        with locked(folder):
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
    with locked(book):
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
            if folder.name.startswith("."):  # being filled, or set aside
                continue
            entry = Entry(_source(kind, folder), folder, bytes_in(folder), _revisions(kind, folder))
            if source is None or entry.is_called(source):
                found.append(entry)
    return found


def bytes_in(folder: Path) -> int:
    """Return the bytes of a folder's files."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def clear(source: str | None = None) -> list[Entry]:
    """Remove one source, or all, and whatever interrupted downloads left; return what went."""
    gone = entries(source)
    for entry in gone:
        with locked(entry.folder):
            shutil.rmtree(entry.folder, ignore_errors=True)
            _note(entry.folder).unlink(missing_ok=True)
    for kind in _KINDS:
        if source is None:
            shutil.rmtree(root() / kind, ignore_errors=True)
    return gone


def _source(kind: str, folder: Path) -> str:
    if kind == "hub":
        return f"hf:{folder.parent.name.replace('--', '/')}@{folder.name}"
    note = _read_note(folder)
    return note["source"] if note else folder.name


def _revisions(kind: str, folder: Path) -> tuple[str, ...]:
    if kind != "hub":
        return ()
    repo = folder.parent.name.replace("--", "/")
    names = sorted(unquote(path.name) for path in folder.parent.glob("revisions/*"))
    return tuple(name for name in names if read_revision(repo, name) == folder.name)


def _note(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.json")


def _read_note(folder: Path) -> Mapping[str, str] | None:
    try:
        note = json.loads(_note(folder).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    texts = isinstance(note, dict) and all(isinstance(text, str) for text in note.values())
    return note if texts and {"source", "card"} <= set(note) else None


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
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a place in the cache, which dies with its process.

    Raises:
        ResNetHubError: The cache cannot be written.
    """
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


@contextmanager
def _unwound_by_sigterm() -> Iterator[None]:
    """Let SIGTERM, which would end the process on the spot, remove what is half done first."""
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _exit)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _exit(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
