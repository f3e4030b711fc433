"""Paths as people write them. Torch-free."""

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
