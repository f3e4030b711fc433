"""Sets that fit in memory: uint8 arrays, gathered and augmented a whole batch at a time."""

import torch
from torch import Tensor
from torch.nn import functional as F

from resnet_hub.data.batches import Batch, Selection
from resnet_hub.data.module import DataModule
from resnet_hub.errors import InvalidSetting
from resnet_hub.randomness import integers, permutation, sample_keys

_SHIFT_DOWN, _SHIFT_RIGHT, _FLIP = 0, 1, 2  # streams of a sample's draws


class ArrayDataset:
    """Images and labels in memory.

    Args:
        images: uint8 ``(N, C, H, W)``.
        labels: int64 ``(N,)``.
        seed: Key of the samples' draws.
    """

    def __init__(self, images: Tensor, labels: Tensor, seed: int) -> None:
        self.images, self.labels, self.seed = images, labels, seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, selection: Selection) -> Batch:
        """Gather the selected samples into one batch."""
        epoch, indices = selection
        keys = sample_keys(self.seed, epoch, indices)
        return Batch(self.images[indices], self.labels[indices], indices, keys)


class ArrayDataModule(DataModule):
    """A data set held in memory; augmentation happens on the device, after the transfer."""

    def prepare(self, batch: Batch, *, train: bool) -> Batch:
        """Normalise; in training also shift and flip, keyed by sample."""
        images = self.preprocess.normalise(self.preprocess.crop(batch.images))
        if train and self.augment in ("pad_crop", "pad_crop_flip"):
            flip = self.augment == "pad_crop_flip"
            images = shift_and_flip(images, batch.keys, pad=self.settings.pad, flip=flip)
        elif train and self.augment != "none":
            raise InvalidSetting(
                f"data.augment: {self.augment} is for sets of image files; "
                "here: none, pad_crop, pad_crop_flip"
            )
        return batch._replace(images=images)


def shift_and_flip(images: Tensor, keys: Tensor, *, pad: int, flip: bool) -> Tensor:
    """Pad with zeros, crop at a keyed place, flip by a keyed coin (1512.03385 §4.2).

    Args:
        images: float ``(N, C, H, W)``, normalised: the zeros are the mean, as in fb.resnet.torch,
            which normalises before it pads.
        keys: int64 ``(N,)``.
        pad: Pixels on each side.
        flip: Whether half of the images are mirrored.

    Returns:
        Same shape and dtype.
    """
    count, _, height, width = images.shape
    down = integers(keys, _SHIFT_DOWN, 2 * pad + 1)
    right = integers(keys, _SHIFT_RIGHT, 2 * pad + 1)
    # A view of every window, (N, C, 2·pad+1, 2·pad+1, H, W), of which one a sample is gathered.
    windows = F.pad(images, (pad,) * 4).unfold(2, height, 1).unfold(3, width, 1)
    shifted = windows[torch.arange(count, device=images.device), :, down, right]
    if not flip:
        return shifted
    mirrored = integers(keys, _FLIP, 2).bool().view(-1, 1, 1, 1)
    return torch.where(mirrored, shifted.flip(3), shifted)


def hold_out(labels: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Choose ``count`` samples to hold out, in equal shares of every class as far as they divide.

    Returns:
        Sorted indices (kept, held out), int64.

    Raises:
        InvalidSetting: More to hold out than there is.
    """
    total = len(labels)
    if not 0 <= count < total:
        raise InvalidSetting(f"data.held_out: {count:,} of {total:,} training images leave none")
    order = permutation(total, seed, "hold out")
    # Rank each sample within its class, then take the lowest ranks: equal shares, keyed choice.
    shuffled = labels[order]
    ranks = torch.empty(total, dtype=torch.int64)
    for label in set(shuffled.tolist()):
        places = (shuffled == label).nonzero().squeeze(1)
        ranks[places] = torch.arange(len(places))
    by_rank = order[torch.argsort(ranks, stable=True)]
    return by_rank[count:].sort().values, by_rank[:count].sort().values
