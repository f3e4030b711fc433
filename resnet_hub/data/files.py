"""Sets of image files: decoded, cropped and stacked to uint8 batches, in the worker processes.

Apart from the data module, so that workers which do not share memory import no Lightning.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from resnet_hub.data.batches import Batch, Selection
from resnet_hub.data.crops import Transform
from resnet_hub.data.images import Exif, Mode
from resnet_hub.data.pixels import read_pixels
from resnet_hub.data.settings import Knots
from resnet_hub.data.sizes import training_size
from resnet_hub.data.source import Source
from resnet_hub.errors import BadData, InvalidSetting
from resnet_hub.preprocess import Preprocess
from resnet_hub.randomness import keyed_generator

_MODES: dict[int, Mode] = {1: "L", 3: "RGB"}


class ImageFiles:
    """Image files with labels, read a whole batch at a time.

    The draws of a transform are keyed by (seed, epoch, sample): workers, ranks and restarts change
    nothing.

    Attributes:
        labels: int64 ``(M,)``.
        uniform: Whether the transform makes all images of one shape.

    Args:
        samples: Path and label of every image.
        transform: Crops a picture to the net's size; a mapping has one for each size of ``sizes``.
        classes: Number of classes, which bounds the labels.
        channels: 1 reads pictures as grey, 3 as RGB.
        size: Side of the transform's result, in pixels.
        sizes: The same by epoch, in place of ``size``; see
            :func:`~resnet_hub.data.sizes.training_size`.
        seed: Key of the transform's draws.
        exif: See :func:`~resnet_hub.data.images.read_image`.
        on_bad_image: ``raise`` names the file and stops; ``skip`` leaves it out of its batch and
            counts it in ``Batch.skipped``.
        fill: Where ``skip`` leaves nothing of a batch, put the next image that can be read into it:
            a training step needs one. Otherwise such a batch is empty.
        balanced: Classes come equally often: for an image that ``skip`` leaves out, the next of its
            class that can be read stands in, at its draws.
        source: Holds the images' bytes; ``None`` reads each from its path.

    Raises:
        BadData: A label out of range; its image is named.
        InvalidSetting: Neither 1 nor 3 channels.
    """

    def __init__(
        self,
        samples: Sequence[tuple[str, int]],
        transform: Transform | Mapping[int, Transform],
        *,
        classes: int,
        channels: int = 3,
        size: int = 224,
        sizes: Knots | None = None,
        seed: int = 0,
        exif: Exif = "ignore",
        on_bad_image: Literal["raise", "skip"] = "raise",
        fill: bool = False,
        balanced: bool = False,
        source: Source | None = None,
    ) -> None:
        for path, label in samples:
            if not 0 <= label < classes:
                raise BadData(f"{path}: label {label} is not 0 to {classes - 1}")
        if channels not in _MODES:
            raise InvalidSetting(f"pictures have 1 or 3 channels; the net takes {channels}")
        # One array of bytes: forked workers share its memory, where the reference counts of a
        # million strings would make each worker copy them.
        self._paths = np.array([os.fsencode(path) for path, _ in samples], dtype=np.bytes_)
        self.labels = torch.tensor([label for _, label in samples], dtype=torch.int64)
        self.sizes = sizes or ((0, size),)
        self.transforms = transform if isinstance(transform, Mapping) else {size: transform}
        self.channels = channels
        self.seed, self.exif, self.on_bad_image, self.fill = seed, exif, on_bad_image, fill
        self.balanced, self.source = balanced, source
        self.uniform = True

    def __len__(self) -> int:
        """Return M, the number of images."""
        return len(self.labels)

    @property
    def targets(self) -> Tensor:
        """The samples' labels in order, int64 ``(M,)``."""
        return self.labels

    def fingerprint(self) -> str:
        """Return a hex SHA-256 over labels and names, in order; the folders above may move."""
        digest = hashlib.sha256(self.labels.numpy().tobytes())
        if self.source is not None:
            digest.update(self.source.changed.encode())
        for path in self._paths:
            digest.update(b"/".join(bytes(path).rsplit(b"/", 2)[-2:]) + b"\0")
        return digest.hexdigest()

    def stamp(self) -> str:
        """Return a hex SHA-256 over names, labels, sizes and times of change, and the reading.

        Whoever changes a file's bytes and keeps both its size and its time is not found out.

        Raises:
            BadData: A file is gone.
        """
        how = f"{self.fingerprint()} {self.exif} {self.on_bad_image}"
        digest = hashlib.sha256(how.encode())
        if self.source is not None:
            digest.update(self.source.stamp().encode())
            return digest.hexdigest()
        for path in self._paths:
            name = os.fsdecode(bytes(path))
            try:
                found = Path(name).stat()
            except OSError as error:
                raise BadData(f"{name}: {error.strerror}") from error
            digest.update(f" {found.st_size} {found.st_mtime_ns}".encode())
        return digest.hexdigest()

    def as_evaluated(self, preprocess: Preprocess) -> "ImageFiles":
        """Return the same images, cropped at the centre; one that is skipped leaves a gap."""
        return self._plain(preprocess.size, preprocess.crop)

    def as_resized(self, preprocess: Preprocess) -> "ImageFiles":
        """Return the same images, resized and whole, one of which is a batch."""
        whole = self._plain(preprocess.size, preprocess.resized)
        whole.uniform = False
        return whole

    def _plain(self, size: int, transform: Transform) -> "ImageFiles":
        plain = copy(self)
        plain.sizes, plain.fill, plain.balanced = ((0, size),), False, False
        plain.transforms = {size: transform}
        return plain

    def path(self, index: int) -> str:
        """Return the file of one sample."""
        return os.fsdecode(bytes(self._paths[index]))

    def content(self, index: int) -> bytes | None:
        """Return the bytes of one sample where they lie in no file of its own, else ``None``.

        Raises:
            BadData: They cannot be read.
        """
        return None if self.source is None else self.source.read(index, self.path(index))

    def __getitem__(self, selection: Selection) -> Batch:
        """Read the selected images into one batch, uint8 ``(N, C, size, size)``.

        Raises:
            BadData: An image that cannot be read, under ``raise``; or, where a batch is filled,
                there is none that can.
        """
        batch = self._read_batch(selection)
        if self.fill and batch.skipped and not len(batch.labels):
            return self._next_readable(selection)._replace(skipped=batch.skipped)
        return batch

    def _read_batch(self, selection: Selection) -> Batch:
        indices, keys = selection.indices, selection.keys(self.seed)
        size = training_size(self.sizes, selection.epoch)
        transform = self.transforms[size]
        images: list[Tensor] = []
        read: list[int] = []
        kept: list[int] = []
        skipped = 0
        for place, (index, key) in enumerate(zip(indices.tolist(), keys.tolist(), strict=True)):
            found = self._read_or_next(index, key, transform)
            if found is None or found[0] != index:
                skipped += 1
            if found is not None:
                read.append(found[0])
                images.append(found[1])
                kept.append(place)
        if skipped:
            indices, keys = torch.tensor(read, dtype=torch.int64), keys[kept]
        none = torch.empty(0, self.channels, size, size, dtype=torch.uint8)
        stacked = torch.stack(images) if images else none
        labels = self.labels[indices]
        return Batch(stacked, labels, indices, keys, skipped, epoch=selection.epoch)

    def _read_or_next(
        self, index: int, key: int, transform: Transform
    ) -> tuple[int, Tensor] | None:
        """Return an image and its number, or those of who stands in for it, if anybody does."""
        for number in chain((index,), self._stand_ins(index)):
            try:
                return number, self._read(number, key, transform)
            except BadData:
                if self.on_bad_image == "raise":
                    raise
        return None

    def _stand_ins(self, index: int) -> Iterator[int]:
        """Yield the rest of an image's class, from it on, where classes are balanced."""
        if self.balanced:
            own = (self.labels == self.labels[index]).nonzero().flatten()
            place = int(torch.searchsorted(own, index))
            yield from own.roll(-place)[1:].tolist()

    def _next_readable(self, selection: Selection) -> Batch:
        """Return the first image behind these, in the split's order, that can be read."""
        last = selection.indices[-1:]
        for step in range(1, len(self)):
            batch = self._read_batch(Selection(selection.epoch, (last + step) % len(self)))
            if len(batch.labels):
                return batch
        raise BadData(
            f"none of the {len(self):,} training images can be read, {self.path(0)} among them"
        )

    def _read(self, index: int, key: int, transform: Transform) -> Tensor:
        mode, content = _MODES[self.channels], self.content(index)
        pixels = read_pixels(self.path(index), mode=mode, exif=self.exif, content=content)
        with keyed_generator(key):
            return transform(pixels)
