"""Paths as people write them. Torch-free."""

import os
from os.path import expanduser
from pathlib import Path

from resnet_hub.errors import InvalidSetting


def expanded(path: str | Path) -> Path:
    """Return a path with ``~`` or ``~user`` at its beginning replaced by that home.

    Raises:
        InvalidSetting: There is no such home, or the text is empty.
    """
    written = str(path)
    if not written:
        raise InvalidSetting("an empty path: a name is missing, or . for the current folder")
    try:
        found = expanduser(written)  # noqa: PTH111 - pathlib takes ./~ for ~ too
    except ValueError:  # a name that no user can have
        found = written
    if found.startswith("~"):
        user = Path(written).parts[0][1:]
        home = f"home of a user {user!r}" if user else "home directory; set HOME"
        raise InvalidSetting(f"{written}: there is no {home}")
    return Path(found)


def check_place(file: Path) -> None:
    """Check that a file can be written under a name, before hours of work for it.

    Folders that are missing are no hindrance: they are made.

    Raises:
        InvalidSetting: It is a folder, something above it is a file, or may not be written into.
    """
    try:
        if file.is_dir():
            raise InvalidSetting(f"{file}: is a folder; name a file")
        above = next(parent for parent in file.absolute().parents if parent.exists())
    except OSError as error:  # a name that is too long, or a folder that may not be looked into
        raise InvalidSetting(f"{file}: cannot be written ({error.strerror})") from error
    if not above.is_dir():
        raise InvalidSetting(f"{file}: {above} is no folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise InvalidSetting(f"{file}: nothing may be written in {above}")
