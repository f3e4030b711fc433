"""The base of data sets held in memory: their settings, and what happens to a batch."""

from dataclasses import replace
from statistics import fmean
from typing import ClassVar, cast

from torch import Tensor

from resnet_hub.data.arrays import ArrayDataset, hold_out
from resnet_hub.data.augment import alternating_flip, flip, shift
from resnet_hub.data.batches import Batch, BatchedDataset
from resnet_hub.data.module import DataModule, Split
from resnet_hub.data.policies import policy_of
from resnet_hub.data.resident import Resident, stays
from resnet_hub.data.settings import DataSettings
from resnet_hub.data.sizes import all_sizes, at_size, training_size
from resnet_hub.errors import InvalidSetting
from resnet_hub.preprocess import Preprocess

_AUGMENTS = ("none", "pad_crop", "pad_crop_flip", "pad_crop_alternating_flip")


class ArrayDataModule(DataModule):
    """A data set held in memory; augmentation happens on the device, after the transfer.

    While it is trained or scored on a GPU the whole set lives there, in bytes; ``data.resident``.
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

    def setup(self, stage: str | None = None) -> None:
        """Lightning's hook: open the data set, and bring it to the device where it is to live."""
        super().setup(stage)
        if self.trainer is not None:
            device, splits = self.trainer.strategy.root_device, self._held
            if stays(self.settings, device, (split.images for split in splits)):
                home = Resident(device)
                for split in splits:
                    split.live(home)

    def teardown(self, stage: str) -> None:
        """Lightning's hook: give the device's memory back."""
        for split in self._held:
            split.live(None)

    @property
    def _held(self) -> list[ArrayDataset]:
        return [cast(ArrayDataset, split) for split in self.splits.values()]

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
        if settings.resident and (settings.workers or settings.policy != "none"):
            raise InvalidSetting(
                "data.resident: needs data.workers: 0 and data.policy: none; neither workers nor a "
                "policy reach what lives on the device"
            )
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
