"""Finding image files in class folders: hidden things ignored, links that loop refused."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from resnet_hub.data.images import EXTENSIONS
from resnet_hub.errors import BadData

Sample = tuple[str, int]
"""Path of an image and its label."""


def listing(folder: str | Path) -> tuple[list[str], list[str]]:
    """Return the names of a folder's visible subfolders and of its image files, each sorted.

    Names that begin with a dot are hidden: ``.ipynb_checkpoints``, ``._photo.jpg``. Links count as
    what they lead to.

    Raises:
        BadData: The folder cannot be read, or an image is no file.
    """
    folders, images = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    folders.append(entry.name)
                elif entry.name.lower().endswith(EXTENSIONS):
                    if not entry.is_file():  # reading a pipe would wait for ever
                        kind = "a link that leads nowhere" if entry.is_symlink() else "no file"
                        raise BadData(f"{entry.path}: {kind}; remove it")
                    images.append(entry.name)
    except OSError as error:
        raise BadData(f"{error.filename or folder}: {error.strerror}") from error
    return sorted(folders), sorted(images)


def images_in(folder: Path) -> list[str]:
    """Return the paths of all images in a folder and its visible subfolders, in a fixed order.

    Raises:
        BadData: A link leads back to a folder that holds it, or a folder cannot be read.
    """
    holders = (*folder.absolute().parents, *folder.resolve().parents)
    return _walk(folder, {_identity(holder) for holder in holders})


class Tree:
    """Where class folders are looked for: on disk, or in what a pack says it was made of."""

    def is_folder(self, folder: Path) -> bool:
        """Whether there is such a folder."""
        return folder.is_dir()

    def name(self, folder: Path) -> str:
        """Return what the folder is called, links followed."""
        return folder.resolve().name

    def listing(self, folder: Path) -> tuple[list[str], list[str]]:
        """Return what :func:`listing` does."""
        return listing(folder)

    def images_in(self, folder: Path) -> list[str]:
        """Return what :func:`images_in` does."""
        return images_in(folder)

    def labelled(
        self, home: Path, labels: Mapping[str, int], folders: Sequence[str]
    ) -> list[Sample]:
        """Return every image in these class folders of ``home`` with the label of its folder.

        Raises:
            BadData: A class folder without images, or one that cannot be read.
        """
        samples = []
        for name in folders:
            paths = self.images_in(home / name)
            if not paths:
                known = ", ".join(EXTENSIONS)
                raise BadData(f"{home / name}: a class folder without images ({known})")
            samples += [(path, labels[name]) for path in paths]
        return samples


def _walk(folder: Path, above: set[tuple[int, int]]) -> list[str]:
    here = _identity(folder)
    if here in above:
        raise BadData(f"{folder}: a link back to a folder that holds it; remove it")
    folders, images = listing(folder)
    paths = [str(folder / name) for name in images]
    for name in folders:
        paths += _walk(folder / name, above | {here})
    return paths


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
