"""CIFAR-10 and CIFAR-100, whole in memory (Krizhevsky 2009)."""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_only
from numpy.typing import NDArray

from resnet_hub.data.arrays import ArrayDataset
from resnet_hub.data.arrays_module import ArrayDataModule
from resnet_hub.data.fetch import fetch_folder
from resnet_hub.data.settings import Augment
from resnet_hub.data.unpickle import read_pickle
from resnet_hub.errors import BadData, CorruptFile, DataMissing, ResNetHubError
from resnet_hub.labels import CIFAR10_LABELS, CIFAR100_LABELS
from resnet_hub.preprocess import CIFAR10_MEAN, CIFAR10_STD, CIFAR100_MEAN, CIFAR100_STD

logger = logging.getLogger("resnet_hub")


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """The official files: their folder, and the MD5 sum of each."""

    title: str
    folder: str
    train: Mapping[str, str]
    test: Mapping[str, str]
    meta: Mapping[str, str]
    label_key: str
    names_key: str

    @property
    def sums(self) -> dict[str, str]:
        return {**self.train, **self.test, **self.meta}


@dataclass(frozen=True, kw_only=True)
class ExaminedFile:
    """What is known of one of the files.

    Attributes:
        path: The file.
        split: What its images are for; ``None`` of the file of class names.
        images: How many it holds.
        official: Whether its MD5 sum is the published one.
        wrong: What is wrong with it, or ``None``.
    """

    path: str
    split: Literal["train", "test"] | None
    images: int
    official: bool
    wrong: str | None


class _Cifar(ArrayDataModule):
    """What the two have in common."""

    own_augment: Augment = "pad_crop_flip"
    side = 32
    layout: ClassVar[_Layout]
    _official = True

    @property
    def described(self) -> str:
        """What scores on this data are called: the data set's name for the official files alone."""
        self.open()
        return self.layout.title if self._official else f"{self.layout.title} (other files)"

    def prepare_data(self) -> None:
        """Lightning's hook, called in one process a machine: download what is missing."""
        self._folder()

    def read(self) -> None:
        """Read the official files, or a copy in their layout; see the class."""
        folder, layout = self._folder(), self.layout
        self._check_names(folder)
        train = self._dataset(folder, list(layout.train))
        test = self._dataset(folder, list(layout.test))
        held_out = self.settings.held_out or 0
        splits = self._splits(train, test, held_out=held_out, seed=self.seed)
        self._tell_of_other_files(folder)
        self.splits = splits

    def examined(self) -> Iterator[ExaminedFile]:
        """Read every file, go on after one that is damaged, and yield what is known of each.

        Raises:
            DataMissing: A file is missing.
        """
        folder, layout = self._folder(), self.layout
        for name, md5 in layout.sums.items():
            path, images, official, wrong = folder / name, 0, False, None
            try:
                official = _md5(path) == md5
                if not official:
                    wrong = "not the official file (by its MD5 sum): damaged, or of another set"
                if name in layout.meta:
                    self._check_names(folder)
                else:
                    images = len(self._read_batch(path)[1])
            except ResNetHubError as error:
                wrong = str(error.args[0]).removeprefix(f"{path}: ")
            except OSError as error:
                wrong = error.strerror or type(error).__name__
            split: Literal["train", "test"] = "train" if name in layout.train else "test"
            yield ExaminedFile(
                path=str(path),
                split=None if name in layout.meta else split,
                images=images,
                official=official,
                wrong=wrong,
            )

    def _folder(self) -> Path:
        """Return the folder of the files, downloaded where missing and allowed."""
        layout, settings = self.layout, self.settings
        folder = self.root / layout.folder
        if not folder.exists():
            if not settings.download:
                raise DataMissing(
                    f"{layout.title}: there is no {folder}; name the folder that holds "
                    f"{layout.folder} by data.root, or allow data.download"
                )
            official = getattr(import_module("torchvision.datasets"), type(self).__name__.upper())
            fetch_folder(folder, url=official.url, md5=official.tgz_md5, files=list(layout.sums))
        missing = [name for name in layout.sums if not (folder / name).is_file()]
        if missing:
            raise DataMissing(
                f"{layout.title}: {folder} lacks {', '.join(missing)}; extract the official "
                "archive there, or remove the folder to have it downloaded"
            )
        return folder

    def _dataset(self, folder: Path, files: Sequence[str]) -> ArrayDataset:
        parts = [self._read_batch(folder / name) for name in files]
        images = torch.from_numpy(np.concatenate([images for images, _ in parts]))
        labels = torch.tensor([label for _, labels in parts for label in labels])
        return ArrayDataset(images.view(-1, 3, self.side, self.side), labels, self.seed)

    def _read_batch(self, path: Path) -> tuple[NDArray[np.uint8], list[int]]:
        """Return a file's images, uint8 ``(N, 3072)``, and its labels."""
        record = read_pickle(path)
        images, labels = record.get("data"), record.get(self.layout.label_key)
        pixels = 3 * self.side**2
        if not isinstance(images, np.ndarray) or images.ndim != 2 or images.shape[1] != pixels:
            raise CorruptFile(f"{path}: 'data' is no array of {pixels:,} bytes an image")
        if not isinstance(labels, list) or len(labels) != len(images) or not labels:
            raise CorruptFile(
                f"{path}: {self.layout.label_key!r} is no list of {len(images)} labels, "
                "one an image"
            )
        for index, label in enumerate(labels):
            if type(label) is not int or not 0 <= label < len(self.names):
                # Only a number is shown: what a file nests can be endless to print.
                number = type(label) is int
                found = f"the label {label}" if number else f"a {type(label).__name__} as label"
                raise BadData(
                    f"{path}: image {index} has {found}, not one of 0 to {len(self.names) - 1}"
                )
        return images, labels

    def _check_names(self, folder: Path) -> None:
        """Refuse a copy whose classes are others: its labels would be given wrong names."""
        (name,) = self.layout.meta
        found = read_pickle(folder / name).get(self.layout.names_key)
        if isinstance(found, list):
            found = [x.decode("latin1") if isinstance(x, bytes) else x for x in found]
        if found != list(self.names):
            raise BadData(f"{folder / name}: its class names are not those of {self.layout.title}")

    def _tell_of_other_files(self, folder: Path) -> None:
        sums = self.layout.sums
        other = [name for name, md5 in sums.items() if _md5(folder / name) != md5]
        self._official = not other
        if other:
            _warn(
                f"{folder}: {len(other)} of {len(sums)} files differ from the official ones by "
                f"their MD5 sums ({', '.join(other)}); figures measured on this copy are not "
                f"{self.layout.title} figures"
            )


class Cifar10(_Cifar):
    """CIFAR-10: 50,000 training and 10,000 test images, 32×32, of 10 classes.

    ``data.root`` holds ``cifar-10-batches-py``; where that is missing it is downloaded, with a
    checksum, unless ``data.download`` forbids it. A copy in the official layout, of any size, is
    read too: where the checksums are not the official ones a warning says so. Splits: ``train``
    and ``test``, and ``val`` where ``data.held_out`` takes some of the training images for it
    (45,000 + 5,000 in 1512.03385 §4.2), keyed by the seed. Augmentation: that section's.

    Raises:
        DataMissing: The files are missing, and could or should not be downloaded.
        CorruptFile: A file is damaged, or holds what official files do not.
        BadData: A label or the class names are not CIFAR-10's.
    """

    mean, std = CIFAR10_MEAN, CIFAR10_STD
    names = CIFAR10_LABELS
    layout = _Layout(
        title="CIFAR-10",
        folder="cifar-10-batches-py",
        train={
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        },
        test={"test_batch": "40351d587109b95175f43aff81a1287e"},
        meta={"batches.meta": "5ff9c542aee3614f3951f8cda6e48888"},
        label_key="labels",
        names_key="label_names",
    )


class Cifar100(_Cifar):
    """CIFAR-100: 50,000 training and 10,000 test images, 32×32, of 100 (fine) classes.

    ``data.root`` holds ``cifar-100-python``; everything else is as for :class:`Cifar10`.

    Raises:
        DataMissing: The files are missing, and could or should not be downloaded.
        CorruptFile: A file is damaged, or holds what official files do not.
        BadData: A label or the class names are not CIFAR-100's.
    """

    mean, std = CIFAR100_MEAN, CIFAR100_STD
    names = CIFAR100_LABELS
    layout = _Layout(
        title="CIFAR-100",
        folder="cifar-100-python",
        train={"train": "16019d7e3df5f24257cddd939b257f8d"},
        test={"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
        meta={"meta": "7973b15100ade9c7d40fb424638fde48"},
        label_key="fine_labels",
        names_key="fine_label_names",
    )


@rank_zero_only
def _warn(message: str) -> None:
    logger.warning("%s", message)


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
