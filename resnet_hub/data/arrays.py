"""Sets that fit in memory: uint8 arrays, gathered and augmented a whole batch at a time."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from statistics import fmean
from typing import ClassVar, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from resnet_hub.data.augment import alternating_flip, flip, shift
from resnet_hub.data.batches import Batch, BatchedDataset, Selection
from resnet_hub.data.module import DataModule, Split
from resnet_hub.data.policies import Policy, policy_of
from resnet_hub.data.settings import DataSettings
from resnet_hub.data.sizes import all_sizes, at_size, training_size
from resnet_hub.errors import InvalidSetting
from resnet_hub.preprocess import Preprocess
from resnet_hub.randomness import keyed_generator, permutation

_AUGMENTS = ("none", "pad_crop", "pad_crop_flip", "pad_crop_alternating_flip")


class ArrayDataset:
    """Images and labels in memory.

    Args:
        images: uint8 ``(M, C, H, W)``.
        labels: int64 ``(M,)``.
        seed: Key of the samples' draws.
        rows: int64 ``(N,)``, which of the images make this split; ``None`` takes them all. Splits
            of one array share it.

    Attributes:
        policy: What happens to each image as it is selected, keyed by sample; ``None``: nothing.
    """

    policy: Policy | None = None

    def __init__(
        self, images: Tensor, labels: Tensor, seed: int, rows: Tensor | None = None
    ) -> None:
        self.images, self.labels, self.seed, self.rows = images, labels, seed, rows

    def __len__(self) -> int:
        """Return N."""
        return len(self.images if self.rows is None else self.rows)

    def __getitem__(self, selection: Selection) -> Batch:
        """Gather the selected samples into one batch."""
        indices, keys = selection.indices, selection.keys(self.seed)
        rows = indices if self.rows is None else self.rows[indices]
        images = self.images[rows]
        if self.policy is not None and len(images):
            images = torch.stack(
                [self._changed(*pair) for pair in zip(images, keys.tolist(), strict=True)]
            )
        return Batch(images, self.labels[rows], indices, keys, epoch=selection.epoch)

    @property
    def targets(self) -> Tensor:
        """The split's labels in order, int64 ``(N,)``."""
        return self.labels if self.rows is None else self.labels[self.rows]

    def fingerprint(self) -> str:
        """Return a hex SHA-256 over the split's pixels and labels, in order."""
        digest = hashlib.sha256(repr(tuple(self.images.shape[1:])).encode())
        digest.update(self.targets.numpy().tobytes())
        for images in self._parts():
            digest.update(images.numpy().tobytes())
        return digest.hexdigest()

    def stamp(self) -> str:
        """Return the fingerprint, which every pixel counts in."""
        return self.fingerprint()

    def as_evaluated(self, preprocess: Preprocess) -> "ArrayDataset":
        """Return the same samples without a policy; they are cropped on the device."""
        return ArrayDataset(self.images, self.labels, self.seed, self.rows)

    def as_resized(self, preprocess: Preprocess) -> "ArrayDataset":
        """Return the same as :meth:`as_evaluated`; they are resized on the device."""
        return self.as_evaluated(preprocess)

    @property
    def uniform(self) -> bool:
        """All images have one shape."""
        return True

    def mean_image(self) -> tuple[float, ...]:
        """Return the split's mean image: ``C·H·W`` numbers in [0, 1], rounded to 6 decimals."""
        total = torch.zeros(self.images.shape[1:], dtype=torch.int64)
        for images in self._parts():
            total += images.sum(0, dtype=torch.int64)
        mean = total.to(torch.float64).flatten() / (255 * len(self))
        return tuple(round(x, 6) for x in mean.tolist())

    def _changed(self, image: Tensor, key: int) -> Tensor:
        policy = cast(Policy, self.policy)
        with keyed_generator(key):
            pixels = np.array(policy(_picture(image)))
        return torch.from_numpy(pixels).reshape(image.shape[1], image.shape[2], -1).permute(2, 0, 1)

    def _parts(self) -> Iterator[Tensor]:
        """Yield the split's images in order, some at a time: a copy would double the memory."""
        rows = torch.arange(len(self.images)) if self.rows is None else self.rows
        for start in range(0, len(rows), 4096):
            yield self.images[rows[start : start + 4096]]


class ArrayDataModule(DataModule):
    """A data set held in memory; augmentation happens on the device, after the transfer.

    ``read`` fills ``splits`` with :class:`ArrayDataset`. Of the settings, ``workers`` is of use for
    a ``policy`` alone (a batch is one index operation else), and what concerns image files is
    ignored: ``scale``, ``on_bad_image``, ``exif``.

    Raises:
        InvalidSetting: A setting that no set in memory can follow.
    """

    names: ClassVar[tuple[str, ...]]
    """Class names."""

    side: ClassVar[int]
    """Height and width of the stored images, in pixels."""

    mean: ClassVar[tuple[float, ...]]
    std: ClassVar[tuple[float, ...]]
    """Of the training images, one number a channel, pixels scaled to [0, 1]."""

    def __init__(
        self,
        settings: DataSettings | None = None,
        *,
        seed: int = 0,
        preprocess: Preprocess | None = None,
    ) -> None:
        super().__init__(settings, seed=seed, preprocess=preprocess)
        self.labels = list(self.names)
        self._check_settings()
        if preprocess or not self.settings.per_pixel_mean:
            for size in all_sizes(self.training_sizes):  # refused before any image is read
                at_size(self.preprocess, size)

    def own_preprocess(self) -> Preprocess:
        """Return mean and std a channel, or the mean image where ``per_pixel_mean`` asks for it.

        The mean image is that of the training split, which is read for it. 1512.03385 §4.2
        subtracts it and divides by nothing; here one std, the mean of the channels', divides all
        of them, so that inputs have the usual scale: a constant factor, which the first BatchNorm
        takes out again.
        """
        if not self.settings.per_pixel_mean:
            return self._channelwise
        mean = cast(ArrayDataset, self.split("train")).mean_image()
        std = (round(fmean(self.std), 4),) * len(self.std)
        return replace(self._channelwise, mean=mean, std=std)

    @property
    def _channelwise(self) -> Preprocess:
        return Preprocess(
            size=self.side,
            resize=None,
            interpolation=self.settings.interpolation,
            mean=self.mean,
            std=self.std,
        )

    def prepare(self, batch: Batch, *, train: bool) -> Batch:
        """Normalise; in training also shift, flip, light and erase, keyed by sample."""
        preprocess = self.preprocess
        if train:
            preprocess = at_size(preprocess, training_size(self.training_sizes, batch.epoch))
        pixels = preprocess.crop(batch.images)
        images = preprocess.normalise(pixels)
        if train:
            images = self.perturbed(self._moved(images, batch), batch.keys)
        return batch._replace(images=images, pixels=None if train else pixels)

    def _moved(self, images: Tensor, batch: Batch) -> Tensor:
        augment, settings = self.augment, self.settings
        if augment == "none":
            return images
        if augment == "pad_crop_alternating_flip":
            images = alternating_flip(images, batch.indices, seed=self.seed, epoch=batch.epoch)
        images = shift(images, batch.keys, pad=settings.pad, mode=settings.pad_mode)
        return flip(images, batch.keys) if augment == "pad_crop_flip" else images

    def _check_settings(self) -> None:
        settings, name = self.settings, type(self).__name__
        if self.augment not in _AUGMENTS:
            raise InvalidSetting(
                f"data.augment: {self.augment} is for sets of image files; {name} takes "
                f"{', '.join(_AUGMENTS)}"
            )
        if not 0 <= settings.pad <= self.side:
            raise InvalidSetting(
                f"data.pad: {settings.pad} is not 0 to {self.side}, the side of {name}'s images"
            )
        settings.check_channels(len(self.std))
        if settings.pad_mode == "reflect":
            self._check_reflection()
        if settings.classes is not None:
            raise InvalidSetting(f"data.classes: {name} has no class folders to choose from")
        sides = {settings.size, settings.eval_size, settings.eval_resize} - {None, self.side}
        sides |= {side for _, side in settings.sizes or ()} - {self.side}
        if settings.per_pixel_mean and sides:
            raise InvalidSetting(
                f"data.per_pixel_mean: the mean image is {self.side} pixels wide; leave data.size, "
                "data.sizes, data.eval_size and data.eval_resize out"
            )
        given = self._given_preprocess
        if settings.per_pixel_mean and given and len(given.mean) == given.channels:
            raise InvalidSetting(
                "data.per_pixel_mean: the weights come with a mean a channel, which is kept; leave "
                "data.per_pixel_mean out"
            )

    def _check_reflection(self) -> None:
        pad, fixed = self.settings.pad, self.settings.per_pixel_mean
        least = self.side if fixed else min(all_sizes(self.training_sizes))
        if pad >= least:
            raise InvalidSetting(
                f"data.pad: {pad} pixels cannot be reflected at the border of an image of {least}"
            )

    def _splits(
        self, train: ArrayDataset, test: ArrayDataset, *, held_out: int, seed: int
    ) -> dict[Split, BatchedDataset]:
        """Return the splits, ``held_out`` training samples made into ``val`` where above 0."""
        splits: dict[Split, BatchedDataset] = {"train": train, "test": test}
        kept, held = hold_out(train.labels, held_out, seed)
        if held_out:
            splits["train"] = ArrayDataset(train.images, train.labels, self.seed, kept)
            splits["val"] = ArrayDataset(train.images, train.labels, self.seed, held)
        preprocess = self._given_preprocess or self._channelwise
        cast(ArrayDataset, splits["train"]).policy = policy_of(self.settings, preprocess)
        return splits


def _picture(image: Tensor) -> Image.Image:
    """Return uint8 ``(1 or 3, H, W)`` as a picture."""
    pixels = image.permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def hold_out(labels: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Choose ``count`` samples to hold out, the same share of every class as far as they divide.

    Args:
        labels: int64 ``(N,)``.
        count: How many to hold out.
        seed: Key of the choice.

    Returns:
        Sorted indices (kept, held out), int64.

    Raises:
        InvalidSetting: More to hold out than there is.
    """
    total = len(labels)
    if not 0 <= count < total:
        raise InvalidSetting(f"data.held_out: {count:,} is not 0 to {total - 1:,} training images")
    order = permutation(total, seed, "hold out")
    # Where each sample stands in its shuffled class, from 0 to 1: the lowest are held out, so that
    # a class gives in proportion to its size and a small one is not used up. Each gives one at
    # least, if it has two and all can.
    shuffled = labels[order]
    places = torch.empty(total, dtype=torch.float64)
    classes = set(shuffled.tolist())
    for label in classes:
        members = (shuffled == label).nonzero().squeeze(1)
        places[members] = (torch.arange(len(members), dtype=torch.float64) + 0.5) / len(members)
        if len(members) > 1 and count >= len(classes):
            places[members[0]] = 0
    chosen = order[torch.argsort(places, stable=True)]
    return chosen[count:].sort().values, chosen[:count].sort().values
