"""Anyone's images, in one folder a class."""

from pathlib import Path
from typing import ClassVar

from resnet_hub.data.files_module import ImageFilesDataModule
from resnet_hub.data.module import Split
from resnet_hub.data.scan import Sample
from resnet_hub.errors import BadData, DataMissing, InvalidSetting, did_you_mean

_SPLITS: tuple[Split, ...] = ("train", "val", "test")


class Folder(ImageFilesDataModule):
    """Images in class folders: the sorted names of the folders are the classes.

    Two forms are read. ``train/`` and ``val/`` (and ``test/``, if there) each hold one folder a
    class, the same in each; ``train/`` and ``test/`` alone give validation a seeded share of the
    training images. Or the root holds the class folders themselves, and the same share is taken of
    them: ``data.held_out`` images, by default a fifth, as much of every class as of the others
    and at least one. A root without training images can be tested on.

    Images may lie in subfolders of their class folder. Hidden files and folders are ignored, and
    folders of training runs, as ``runs/`` beside the classes. ``data.classes`` leaves the other
    class folders out.

    Attributes:
        holds_out: Whether validation was given a share of the training images; known once opened.
    """

    holds_out: bool = False

    layout: ClassVar[str] = "train/<class>/… and val/<class>/… (test/ if you have it), or <class>/…"

    def read(self) -> None:
        """Find the images of every split."""
        homes = self._homes()
        folders = {split: self._class_folders(home) for split, home in homes.items()}
        first = next(iter(homes))  # train, where there is one
        self.labels = self._classes(homes[first], folders[first])
        for split, home in homes.items():
            self._check_same(home, folders[split], first=homes[first])
        numbers = {name: number for number, name in enumerate(self.labels)}
        found = {
            split: self.tree.labelled(home, numbers, self.labels) for split, home in homes.items()
        }
        if "train" in found and "val" not in found:
            held = self._held_out(found["train"])
            found, self.holds_out = found | held, bool(held)
        elif "train" in found and self.settings.held_out:
            raise InvalidSetting(f"data.held_out: {self.root} has a val/ of its own; leave it out")
        self.splits = {
            split: self.image_files(found[split], train=split == "train")
            for split in _SPLITS
            if split in found
        }

    def _homes(self) -> dict[Split, Path]:
        """Return the folder of class folders of each split; of a single root, as ``train``."""
        root = self.root
        if not self.tree.is_folder(root):
            raise DataMissing(f"Folder: there is no folder {root}; expected in it: {self.layout}")
        folders = self._class_folders(root)
        if not folders:
            raise DataMissing(f"Folder: no class folders in {root}; expected there: {self.layout}")
        named = [split for split in _SPLITS if split in folders]
        both = "train" in named and "val" in named
        if not both and not any(self._holds_classes(root / split) for split in named):
            return {"train": root}  # so a class may be called train
        others = [name for name in folders if name not in _SPLITS]
        if "train" in named and "val" not in named and others:
            raise BadData(
                f"{root}: beside train/ lies {others[0]}/ but no val/; rename it to val, or move "
                "it away to hold out images of train/"
            )
        return {split: root / split for split in named}

    def _classes(self, home: Path, folders: list[str]) -> list[str]:
        chosen = self.settings.classes
        for name in chosen or ():
            if name not in folders:
                raise BadData(
                    f"data.classes: {home} has no folder {name!r}{did_you_mean(name, folders)}"
                )
        classes = sorted(set(chosen)) if chosen is not None else folders
        if not classes:
            raise DataMissing(f"Folder: no class folders in {home}; expected: {self.layout}")
        if len(classes) == 1:
            raise BadData(
                f"{home}: {classes[0]!r} is the only class folder, and telling classes apart needs "
                f"two; if it holds them, data.root is {home / classes[0]}"
            )
        return classes

    def _check_same(self, home: Path, folders: list[str], *, first: Path) -> None:
        for name in self.labels:
            if name not in folders:
                raise BadData(f"{home}: no class folder {name!r}, which {first} has")
        for name in folders:
            if self.settings.classes is None and name not in self.labels:
                raise BadData(f"{home}: class folder {name!r} is not in {first}")

    def _held_out(self, samples: list[Sample]) -> dict[Split, list[Sample]]:
        count = self.settings.held_out
        if count == 0:
            return {}
        if count is None:  # of each class at least one
            count = min(max(len(samples) // 5, len(self.labels)), len(samples) - 1)
        kept, held = self.held_out(samples, count)
        for side, part in (("training", kept), ("validation", held)):
            empty = set(range(len(self.labels))) - {label for _, label in part}
            if empty:
                label = min(empty)
                raise BadData(
                    f"{self.root}: of the {sum(label == x for _, x in samples)} images of class "
                    f"{self.labels[label]!r} none is left for {side}; change data.held_out (now "
                    f"{len(held)}), add images, or leave the class out by data.classes"
                )
        return {"train": kept, "val": held}

    def _class_folders(self, home: Path) -> list[str]:
        return [name for name in self.tree.listing(home)[0] if not _holds_runs(home / name)]

    def _holds_classes(self, folder: Path) -> bool:
        folders, images = self.tree.listing(folder)
        return bool(folders) and not images


def _holds_runs(folder: Path) -> bool:
    """Whether a folder is a run's, or holds runs as the default ``runs/<recipe>/<n>`` does."""
    recipes = (
        found for depth in ("", "*/", "*/*/") for found in folder.glob(f"{depth}recipe.yaml")
    )
    return any((recipe.parent / "checkpoints").is_dir() for recipe in recipes)
