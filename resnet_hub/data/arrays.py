"""Sets that fit in memory: uint8 arrays, gathered a whole batch at a time.

Apart from the data module, so that workers which do not share memory import no Lightning.
"""

import hashlib
from collections.abc import Iterator
from typing import cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from resnet_hub.data.batches import Batch, Selection
from resnet_hub.data.policies import Policy
from resnet_hub.errors import InvalidSetting
from resnet_hub.preprocess import Preprocess
from resnet_hub.randomness import keyed_generator, permutation


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
