"""ImageNet, ILSVRC2012: 1,000 classes, in the official folders."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from resnet_hub.data.files_module import ImageFilesDataModule
from resnet_hub.data.groundtruth import validation_wnids
from resnet_hub.data.module import Split
from resnet_hub.data.scan import Sample
from resnet_hub.errors import BadData, DataMissing, did_you_mean
from resnet_hub.labels import imagenet_classes


class ImageNet(ImageFilesDataModule):
    """ILSVRC2012: ``train/<wnid>/…`` and ``val/<wnid>/…``, or a flat ``val/``.

    A flat ``val/`` takes its labels from the devkit or Kaggle's list, which lie beside it (see
    :func:`~resnet_hub.data.groundtruth.validation_wnids`). Labels are those of the official order,
    0 to 999, whichever class folders are there; ``labels`` always names all 1,000.

    The official validation images are what published scores are measured on. By default they are
    the ``val`` split: learning curves show them, but they choose no checkpoint (:attr:`selects`).
    With ``data.held_out`` above 0 so many training images, as much of every class as of the others,
    are the ``val`` split instead, and the official ones the ``test`` split.
    """

    layout: ClassVar[str] = (
        "train/<wnid>/*.JPEG and val/<wnid>/*.JPEG, or a flat val/ with the devkit beside it; "
        "register at https://image-net.org to download ILSVRC2012, and unpack its archives so"
    )

    @property
    def selects(self) -> bool:
        """Whether a best checkpoint may be chosen: only by held-out training images.

        A score of the epoch that did best on the official validation images would be compared
        with published ones that were measured on them.
        """
        return bool(self.settings.held_out) and super().selects

    def read(self) -> None:
        """Find the images of every split; either of ``train/`` and ``val/`` may be missing."""
        names = imagenet_classes()
        self.labels = list(names.values())
        numbers = {wnid: number for number, wnid in enumerate(names)}
        for wnid in self.settings.classes or ():
            if wnid not in numbers:
                raise BadData(
                    f"data.classes: {wnid!r} is no wnid of ImageNet{did_you_mean(wnid, numbers)}"
                )
        train, val = self.root / "train", self.root / "val"
        if not self.tree.is_folder(train) and not self.tree.is_folder(val):
            raise DataMissing(
                f"ImageNet: neither train/ nor val/ in {self.root}; expected {self.layout}"
            )
        found: dict[Split, list[Sample]] = {}
        held_out = self.settings.held_out or 0
        if self.tree.is_folder(val):
            found["test" if held_out else "val"] = self._validation(val, numbers)
        if self.tree.is_folder(train):
            found["train"] = self._in_class_folders(train, numbers)
            if held_out:
                found["train"], found["val"] = self.held_out(found["train"], held_out)
        self.splits = {
            split: self.image_files(samples, train=split == "train")
            for split, samples in found.items()
        }

    def packed_name(self, path: str, label: int) -> str:
        """Return what an image is called in a pack: of a flat ``val/``, as of class folders."""
        split, *folders, name = super().packed_name(path, label).split("/")
        return "/".join((split, *(folders or [list(imagenet_classes())[label]]), name))

    def _validation(self, home: Path, numbers: Mapping[str, int]) -> list[Sample]:
        folders, images = self.tree.listing(home)
        if not images:
            return self._in_class_folders(home, numbers)
        if folders:
            raise BadData(
                f"{home}: holds both images ({images[0]}) and folders ({folders[0]}); it is either "
                "flat or in class folders"
            )
        wnids, chosen = validation_wnids(self.root, numbers), self.settings.classes
        samples = []
        for image in images:
            wnid = wnids.get(Path(image).stem)
            if wnid is None:
                raise BadData(f"{home / image}: the ground truth does not name this image")
            if chosen is None or wnid in chosen:
                samples.append((str(home / image), numbers[wnid]))
        if not samples:
            raise BadData(f"{home}: no image of data.classes")
        return samples

    def _in_class_folders(self, home: Path, numbers: Mapping[str, int]) -> list[Sample]:
        folders, chosen = self.tree.listing(home)[0], self.settings.classes
        for name in folders:
            if name not in numbers:
                raise BadData(f"{home / name}: not a wnid of ImageNet; move the folder away")
        for wnid in chosen or ():
            if wnid not in folders:
                raise BadData(f"data.classes: no folder {wnid} in {home}")
        if not folders:
            raise DataMissing(f"ImageNet: no class folders in {home}; expected {self.layout}")
        taken = folders if chosen is None else sorted(set(chosen))
        return self.tree.labelled(home, numbers, taken)
