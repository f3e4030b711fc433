"""The base of every data set: splits, loaders, and what happens to a batch on the device."""

import hashlib
import json
import math
from abc import ABC, abstractmethod
from dataclasses import replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Literal, cast, final

import lightning as L
from torch import Tensor, device

from resnet_hub.data.augment import erase, lighting
from resnet_hub.data.batches import Batch, BatchedDataset, BatchSampler, check_labels
from resnet_hub.data.loader import BatchLoader
from resnet_hub.data.settings import Augment, DataSettings, Knots
from resnet_hub.data.sizes import at_size
from resnet_hub.errors import DataMissing, InvalidSetting
from resnet_hub.paths import expanded
from resnet_hub.preprocess import Preprocess

Split = Literal["train", "val", "test"]

HOMES = {
    "Digits": "resnet_hub.data.digits",
    "Cifar10": "resnet_hub.data.cifar",
    "Cifar100": "resnet_hub.data.cifar",
    "ImageNet": "resnet_hub.data.imagenet",
    "ImageNetV2": "resnet_hub.data.imagenet_tests",
    "ImageNetA": "resnet_hub.data.imagenet_tests",
    "ImageNetR": "resnet_hub.data.imagenet_tests",
    "ImageNetSketch": "resnet_hub.data.imagenet_tests",
    "Folder": "resnet_hub.data.folder",
}
"""Where each data set's class lives; ``DataSettings.name`` is one of these names."""


class DataModule(L.LightningDataModule, ABC):
    """A data set in splits, with its class names and the preprocessing of its images.

    Subclasses fill ``labels`` (class names, the index is the label) and ``splits``; those without a
    validation split have no ``val`` there.

    Attributes:
        settings: As given; ``None`` fields resolved through the class's own habits.
        seed: Key of order, augmentation and random splits.
        preprocess: Evaluation's preprocessing: as given, else the data set's own; at the settings'
            sizes.
        labels: Class names, known after :meth:`open`.
        splits: Opened data sets by split name, known after :meth:`open`.

    Args:
        settings: What the recipe says; by default everything as the data set has it.
        seed: See above.
        preprocess: That of the weights to be evaluated or fine-tuned, if any.
    """

    own_augment: Augment = "none"
    """What ``settings.augment`` None means here."""

    def __init__(
        self,
        settings: DataSettings | None = None,
        *,
        seed: int = 0,
        preprocess: Preprocess | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings or DataSettings()
        self.seed = seed
        self.labels: list[str] = []
        self.splits: dict[Split, BatchedDataset] = {}
        self._given_preprocess = preprocess

    @abstractmethod
    def own_preprocess(self) -> Preprocess:
        """Return the preprocessing of this data set where neither weights nor settings say it."""

    @abstractmethod
    def read(self) -> None:
        """Fill ``labels`` and ``splits`` from disk.

        Raises:
            DataMissing: Nothing there; the message says where it was looked for and how to get it.
            BadData: Something there that cannot be used.
        """

    @final
    def open(self) -> "DataModule":
        """Read what is on disk, once, and return self.

        Raises:
            DataMissing: Nothing there.
            BadData: Something there that cannot be used, a label that no class has among it.
        """
        if not self.splits:
            self.read()
            read, self.splits = self.splits, {}  # what is refused once is refused again
            for name, split in read.items():
                check_labels(split, len(self.labels), f"{type(self).__name__} {name}")
            self.splits = read
        return self

    def setup(self, stage: str | None = None) -> None:
        """Lightning's hook: open the data set in this process."""
        self.open()

    @property
    def batch_size(self) -> int:
        """Images a forward pass on one device; Lightning's Tuner sets it, for loaders to come."""
        return self.settings.batch_size

    @batch_size.setter
    def batch_size(self, size: int) -> None:
        self.settings = replace(self.settings, batch_size=size)

    @property
    def root(self) -> Path:
        """The folder that holds the data set, ``~`` expanded.

        Raises:
            InvalidSetting: There is no such home.
        """
        return expanded(self.settings.root)

    @cached_property
    def preprocess(self) -> Preprocess:
        """Evaluation's preprocessing: that of the weights where given, else the data set's own.

        ``data.eval_size`` and ``data.eval_resize`` overrule either; a new size alone keeps the
        share of the picture that is seen.

        Raises:
            InvalidSetting: Sizes that do not fit together, or that a mean image does not have.
        """
        size, resize = self.settings.eval_size, self.settings.eval_resize
        asked = at_size(self._given_preprocess or self.own_preprocess(), size)
        if resize is None:
            return asked
        if resize < asked.size:
            raise InvalidSetting(
                f"data.eval_resize: {resize} is below the evaluation size, {asked.size}"
            )
        return replace(asked, resize=resize)

    @property
    def training_sizes(self) -> Knots:
        """The side of training images by epoch; see ``training_size`` of ``data/sizes.py``."""
        sizes, size = self.settings.sizes, self.settings.size
        return sizes or ((0, self.preprocess.size if size is None else size),)

    @property
    def augment(self) -> Augment:
        """The augmentation in force."""
        return self.settings.augment or self.own_augment

    @property
    def watched(self) -> Literal["val", "test"]:
        """The split that learning curves show: validation, or test where nothing is held out."""
        return "val" if "val" in self.splits else "test"

    @property
    def selects(self) -> bool:
        """Whether the watched split may choose a best checkpoint: never the test split."""
        return self.watched == "val"

    @property
    def tested(self) -> Split:
        """The split that a final score is measured on."""
        return "test" if "test" in self.splits else "val"

    def prepare(self, batch: Batch, *, train: bool) -> Batch:
        """Turn a transferred uint8 batch into the net's input, augmented in training."""
        images = self.preprocess.normalise(batch.images)
        if train:
            images = self.perturbed(images, batch.keys)
        return batch._replace(images=images, pixels=None if train else batch.images)

    def perturbed(self, images: Tensor, keys: Tensor) -> Tensor:
        """Return normalised training images ``(N, C, H, W)`` lit and erased, keyed by sample."""
        settings = self.settings
        if settings.lighting:
            images = lighting(images, keys, sd=settings.lighting, std=self.preprocess.std)
        if settings.erase:
            images = erase(
                images,
                keys,
                probability=settings.erase,
                area=settings.erase_area,
                aspect=settings.erase_aspect,
                fill=settings.erase_fill,
            )
        return images

    def transfer_batch_to_device(self, batch: Batch, device: device, dataloader_idx: int) -> Batch:
        """Lightning's hook, whose own walks through whatever a batch might hold."""
        return batch.moved(device, non_blocking=device.type == "cuda")

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Lightning's hook: :meth:`prepare` for the running phase."""
        return self.prepare(batch, train=self.trainer is not None and bool(self.trainer.training))

    def train_batches(self) -> int:
        """Return the batches an epoch that this rank trains on."""
        return len(self._sampler("train", seed=self.seed))

    def train_batch_size(self) -> int:
        """Return the images of a full training batch of this rank; a small set fills none."""
        return self._sampler("train", seed=self.seed).full_batch

    def train_dataloader(self) -> BatchLoader:
        """Return the loader of training batches in keyed order."""
        return self._loader("train", seed=self.seed)

    def val_dataloader(self) -> BatchLoader:
        """Return the loader of the split that learning curves show; see :attr:`watched`."""
        return self._loader(self.watched, seed=None)

    def test_dataloader(self) -> BatchLoader:
        """Return the loader of the split that scores are measured on; see :attr:`tested`."""
        return self._loader(self.tested, seed=None)

    @property
    def described(self) -> str:
        """What scores on this data are called."""
        return type(self).__name__

    @property
    def measured(self) -> str:
        """Data set and split that scores are measured on, as a card names them."""
        return f"{self.described} {self.tested}"

    def fingerprint(self) -> str:
        """Return a hex SHA-256 over class names and splits: other data have another one.

        Of sets in memory every pixel counts; of image files their names, not their bytes.
        """
        parts = {name: split.fingerprint() for name, split in self.open().splits.items()}
        return hashlib.sha256(json.dumps([self.labels, parts]).encode()).hexdigest()

    def split(self, name: Split) -> BatchedDataset:
        """Return one split.

        Raises:
            DataMissing: The data set has no such split.
        """
        self.open()
        if name not in self.splits:
            raise DataMissing(f"{type(self).__name__}: there is no {name} split here")
        return self.splits[name]

    def shards(self, split: Split) -> Tensor:
        """Return the number of the shard that each image of a split lies in, int64 ``(N,)``.

        Raises:
            InvalidSetting: The data set is no pack.
        """
        raise InvalidSetting(f"data.shuffle_shards: {type(self).__name__} here is no pack")

    def _sampler(self, split: Split, *, seed: int | None) -> BatchSampler:
        trainer = self.trainer
        rank, ranks = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        dataset, settings, trains = self.split(split), self.settings, seed is not None
        return BatchSampler(
            len(dataset),
            settings.batch_size,
            seed=seed,
            rank=rank,
            ranks=ranks,
            repeats=settings.repeats if trains else 1,
            labels=dataset.targets if trains and settings.sampling == "balanced" else None,
            shards=self.shards(split) if trains and settings.shuffle_shards else None,
            window=settings.shuffle_shards or 1,
        )

    def _loader(self, split: Split, *, seed: int | None) -> BatchLoader:
        sampler = self._sampler(split, seed=seed)
        return BatchLoader(
            self.split(split),
            sampler,
            workers=self.settings.workers,
            timeout=self.settings.timeout,
            name=f"{self.described} {split}",
        )


def open_data(
    settings: DataSettings, *, seed: int = 0, preprocess: Preprocess | None = None
) -> DataModule:
    """Return the data set that ``settings.name`` names, not read yet."""
    if settings.batch_size < 1 or settings.workers < 0:
        raise InvalidSetting("data.batch_size must be at least 1, data.workers at least 0")
    if not 0 < settings.timeout < math.inf:
        raise InvalidSetting(f"data.timeout: {settings.timeout!r} is not a number of seconds")
    kind = getattr(import_module(HOMES[settings.name]), settings.name)
    return cast(DataModule, kind(settings, seed=seed, preprocess=preprocess))
