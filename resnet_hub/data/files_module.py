"""The base of data sets of image files: their settings, transforms and preprocessing."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from resnet_hub.data.arrays import hold_out
from resnet_hub.data.batches import BatchedDataset
from resnet_hub.data.crops import Transform, resized_crop_flip, scale_crop_flip, with_policy
from resnet_hub.data.files import ImageFiles
from resnet_hub.data.loader import BatchLoader
from resnet_hub.data.module import DataModule, Split
from resnet_hub.data.pack import Pack, open_pack
from resnet_hub.data.pack_files import PackedSource
from resnet_hub.data.pack_remote import check_cache, fetch_pack, is_address, place_of
from resnet_hub.data.policies import policy_of
from resnet_hub.data.scan import Sample, Tree
from resnet_hub.data.settings import Augment, Knots
from resnet_hub.data.sizes import all_sizes, at_size
from resnet_hub.errors import DataMissing, InvalidSetting
from resnet_hub.preprocess import Preprocess


class ImageFilesDataModule(DataModule):
    """A data set of image files: decoded and cropped by workers, normalised on the device.

    Evaluation resizes the shorter side to 256 pixels and takes the central 224, or as the weights
    say. One filter does all resizing: the weights' where they bring one, else
    ``data.interpolation``.

    Raises:
        InvalidSetting: Settings that do not fit together, on :meth:`open`.
    """

    own_augment: Augment = "resized_crop_flip"

    layout: ClassVar[str]
    """The folders expected under the root, for messages."""

    @cached_property
    def pack(self) -> Pack | None:
        """The pack that ``data.root`` is, if it is one.

        Raises:
            CorruptFile: A damaged one.
            DataMissing: One whose tar files are not all there, or a server that gives none.
            InvalidSetting: An address that cannot be one.
        """
        if is_address(self.settings.root):
            return fetch_pack(self.settings)
        return open_pack(super().root)

    @property
    def root(self) -> Path:
        """The folder that holds the data set, ``~`` expanded; of a pack that is fetched, its cache.

        Raises:
            InvalidSetting: There is no such home, or an address that cannot be one.
        """
        return place_of(self.settings.root) if is_address(self.settings.root) else super().root

    @cached_property
    def tree(self) -> Tree:
        """Where the class folders are looked for."""
        return self.pack or Tree()

    @property
    def title(self) -> str:
        """The set's name."""
        return type(self).__name__

    @property
    def described(self) -> str:
        """What scores on this data are called: prepared pictures are others than the set's own."""
        prepared = self.pack.index.prepared if self.pack else None
        return f"{self.title} ({prepared})" if prepared else self.title

    def shards(self, split: Split) -> Tensor:
        """Return the number of the shard that each image of a split lies in, int64 ``(N,)``.

        Raises:
            InvalidSetting: The data set is no pack.
        """
        files = self.split(split)
        if not isinstance(files, ImageFiles) or not isinstance(files.source, PackedSource):
            return super().shards(split)
        return files.source.shard.long()

    def fingerprint(self) -> str:
        """Return what the data set's own is, with the shards where training goes by them."""
        own = super().fingerprint()
        if not self.settings.shuffle_shards or "train" not in self.splits:
            return own
        return hashlib.sha256(own.encode() + self.shards("train").numpy().tobytes()).hexdigest()

    def train_dataloader(self) -> BatchLoader:
        """Return the loader of training batches in keyed order.

        Raises:
            InvalidSetting: The cache of a pack that is fetched is too small for that order.
        """
        if self.pack and is_address(self.settings.root):
            check_cache(self.settings, self.pack.index)
        return super().train_dataloader()

    def packed_name(self, path: str, label: int) -> str:
        """Return what an image is called in a pack: its path below the root, with class folder."""
        return Path(path).relative_to(self.root).as_posix()

    def own_preprocess(self) -> Preprocess:
        """Return ImageNet's convention: 256 → 224, ImageNet's mean and std."""
        return Preprocess(interpolation=self.settings.interpolation)

    def split(self, name: Split) -> BatchedDataset:
        """Return one split.

        Raises:
            DataMissing: The data set has no such split; the message says where it would lie.
        """
        self.open()
        if name not in self.splits:
            raise DataMissing(
                f"{type(self).__name__}: no {name} images in {self.root}; expected {self.layout}"
            )
        return super().split(name)

    def held_out(self, samples: Sequence[Sample], count: int) -> tuple[list[Sample], list[Sample]]:
        """Split training samples into (kept, held out), as much of every class as of the others.

        Raises:
            InvalidSetting: More to hold out than there is.
        """
        kept, held = hold_out(torch.tensor([label for _, label in samples]), count, self.seed)
        return [samples[i] for i in kept.tolist()], [samples[i] for i in held.tolist()]

    def image_files(self, samples: Sequence[Sample], *, train: bool) -> ImageFiles:
        """Return a split of these images; subclasses set ``labels`` before.

        Raises:
            DataMissing: No images.
        """
        if not samples:
            raise DataMissing(f"{type(self).__name__}: {self.root} has no images of data.classes")
        preprocess, settings = self.preprocess, self.settings
        settings.check_channels(preprocess.channels)
        if settings.per_pixel_mean:
            raise InvalidSetting("data.per_pixel_mean: is for sets held in memory")
        if settings.resident:
            raise InvalidSetting("data.resident: is for sets held in memory")
        if settings.pad_mode != "zeros":
            raise InvalidSetting("data.pad_mode: is for sets held in memory")
        sizes = self.training_sizes if train else ((0, preprocess.size),)
        return ImageFiles(
            samples,
            self._training_transforms(sizes) if train else {preprocess.size: preprocess.crop},
            classes=len(self.labels),
            channels=preprocess.channels,
            sizes=sizes,
            seed=self.seed,
            exif=settings.exif,
            on_bad_image=settings.on_bad_image,
            fill=train,
            balanced=train and settings.sampling == "balanced",
            source=self.pack.source(samples) if self.pack else None,
        )

    def _training_transforms(self, sizes: Knots) -> dict[int, Transform]:
        policy = policy_of(self.settings, self.preprocess)
        crops = {size: self._training_crop(size) for size in all_sizes(sizes)}
        return {n: with_policy(crop, policy) if policy else crop for n, crop in crops.items()}

    def _training_crop(self, size: int) -> Transform:
        augment, (low, high) = self.augment, self.settings.scale
        # Also refuses a size that a mean image of another size cannot be subtracted at.
        as_evaluated = at_size(self.preprocess, size)
        interpolation = as_evaluated.interpolation
        if augment == "none":
            return as_evaluated.crop
        if augment == "resized_crop_flip":
            return resized_crop_flip(size, interpolation=interpolation)
        if augment == "scale_crop_flip":
            if not size <= low <= high:
                raise InvalidSetting(
                    f"data.scale: {low} to {high} are not bounds of a shorter side of at least "
                    f"the {size} pixels of the crop"
                )
            return scale_crop_flip(size, scale=(low, high), interpolation=interpolation)
        raise InvalidSetting(
            f"data.augment: {augment} is for sets held in memory; {type(self).__name__} takes "
            "none, resized_crop_flip, scale_crop_flip"
        )
