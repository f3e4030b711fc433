"""Reading and writing files so that nothing is ever half-written or silently wrong."""

import ctypes
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from resnet_hub.errors import CorruptFile, InvalidSetting, ResNetHubError


def write_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file whole or not at all, durably; its rights follow the umask.

    A temporary file beside it is written, flushed to disk and renamed over it.

    Args:
        path: The file; what was there stays until the new one is complete.
        write: Called with the open temporary file.

    Raises:
        ResNetHubError: The disk refused; the file that was there is intact.
    """
    with _refusal_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                write(file)
                file.flush()
                os.fchmod(file.fileno(), 0o666 & ~_umask())
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text as :func:`write_file` does."""
    write_file(path, lambda file: file.write(text.encode()))


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], *, metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors as safetensors, contiguous and on the CPU, as :func:`write_file` does."""
    plain: dict[str, Tensor] = {}
    places = set()
    for name, tensor in tensors.items():
        own = tensor.detach().cpu().contiguous()
        place = own.untyped_storage().data_ptr()
        # safetensors takes no two names for one memory, which tied weights are.
        plain[name] = own.clone() if place in places else own
        places.add(place)
    data = safetensors.torch.save(plain, metadata={"format": "pt", **(metadata or {})})
    write_file(path, lambda file: file.write(data))


def write_folder(folder: Path, fill: Callable[[Path], None], *, names: Collection[str]) -> None:
    """Write a whole folder or nothing of it.

    Args:
        folder: Where it shall be; an earlier one of the same kind is replaced at the end.
        fill: Called with an empty temporary folder beside it.
        names: What a folder of this kind holds. One that lacks a part, or holds anything more, may
            be someone's work and is never replaced.

    Raises:
        InvalidSetting: ``folder`` holds something else.
        ResNetHubError: The disk refused; the folder that was there is intact.
    """
    with _refusal_named(folder):
        # A link stays, and what it leads to is replaced; Path.resolve raises on a loop of links.
        folder = Path(os.path.realpath(folder))
        check_replaceable(folder, names)
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            fill(temporary)
            temporary.chmod(0o777 & ~_umask())
            _sync_folder(temporary)
            _exchange(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        _sync_folder(folder.parent)


def check_replaceable(folder: Path, names: Collection[str]) -> None:
    """Check that :func:`write_folder` may put a folder there.

    Raises:
        InvalidSetting: Something else is there.
        OSError: What is there cannot be listed.
    """
    if folder.exists() and not folder.is_dir():
        raise InvalidSetting(f"{folder}: is a file; choose another folder")
    found = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if found and found != set(names):
        differing = ", ".join(sorted(found ^ set(names))[:3])
        raise InvalidSetting(
            f"{folder}: holds other things than what would replace it ({differing}); "
            "choose another folder"
        )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder's lock, which leaves no file behind and dies with its process.

    Raises:
        OSError: The folder is not there.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems lock no folders
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def read_tensors(path: Path, *, sha256: str | None = None) -> dict[str, Tensor]:
    """Read a safetensors file, memory-mapped (copy-on-write), on the CPU.

    Args:
        path: The file.
        sha256: Hex digest that the file must have; ``None`` checks its structure alone.

    Raises:
        CorruptFile: The file is missing, cut, of another format, or has another digest.
    """
    if not path.is_file():
        raise CorruptFile(f"{path}: the weights file is missing")
    try:
        before = path.stat()
        if sha256 is not None and (found := sha256_of(path)) != sha256:
            raise CorruptFile(
                f"{path}: damaged (SHA-256 {found[:12]}…, its card says {sha256[:12]}…); "
                "fetch or export it again"
            )
        tensors = _load(path)
        if os.path.samestat(before, path.stat()):
            return tensors
    except (SafetensorError, OSError) as error:
        raise CorruptFile(
            f"{path}: not a whole safetensors file ({error}); fetch or export it again"
        ) from error
    return read_tensors(path, sha256=sha256)  # another took its place since it was hashed


def sha256_of(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Return a hex SHA-256 over tensors' names, types, shapes and numbers, in any order alike."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        own = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{own.dtype}\0{tuple(own.shape)}\0".encode())
        digest.update(own.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _load(path: Path) -> dict[str, Tensor]:
    try:
        str(path).encode()
    except UnicodeEncodeError:  # safetensors opens no file whose name is no text
        return safetensors.torch.load(path.read_bytes())
    return safetensors.torch.load_file(path)


@contextmanager
def _refusal_named(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ResNetHubError(
            f"{target}: could not be written ({error.strerror or error}); what was there is intact"
        ) from error


def _exchange(new: Path, target: Path) -> None:
    """Put a folder in another one's place; what was there goes, or is left under ``new``."""
    if not target.exists():
        new.rename(target)
        return
    if _swapped(new, target):
        return
    old = target.with_name(f"{new.name}.old")
    target.rename(old)
    try:
        new.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _swapped(one: Path, other: Path) -> bool:
    """Swap two names in one step, so that a reader finds one or the other; Linux alone can."""
    swap = getattr(ctypes.CDLL(None), "renameat2", None)
    if swap is None:
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    done: int = swap(here, os.fsencode(one), here, os.fsencode(other), exchange)
    return done == 0


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
