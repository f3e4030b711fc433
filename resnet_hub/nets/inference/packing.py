"""A body on packed weights: some for each shape of images, in parts of a batch that fit."""

from __future__ import annotations

from threading import Lock
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from resnet_hub.nets.inference.body import Body
from resnet_hub.nets.inference.kernels import Convolution, Dense, Packed

SHAPES = 16
"""Shapes of images that weights are kept packed for, the last ones."""

_LEAST, _MOST = 2 << 20, 28 << 20


class Fused:
    """A body run by fused kernels, on weights packed for each shape of images.

    Packing takes half the time of a pass over one image, so that it pays at once. Layouts that two
    shapes have in common are held once. Large batches are run in parts. Threads may share it; a
    copy or a pickle begins without packed weights.

    Args:
        body: The layers.
    """

    def __init__(self, body: Body) -> None:
        self.body = body
        self._packed: dict[torch.Size, Packed] = {}
        self._shared: WeakValueDictionary[tuple[Convolution, bytes], Tensor] = WeakValueDictionary()
        self._lock = Lock()
        self._largest = 0.0

    def __call__(self, images: Tensor) -> Tensor:
        """Return logits of ``(N, in_channels, H, W)``."""
        if not len(images):
            return self.body(images, Dense())
        parts = -(-len(images) // self._most(images))
        if parts > 1:
            return torch.cat([self._part(part) for part in images.tensor_split(parts)])
        return self._part(images)

    def _part(self, images: Tensor) -> Tensor:
        with self._lock:
            packed = self._packed.get(images.shape)
            if packed is None:
                packed = self._packed[images.shape] = Packed(self._shared)
                if len(self._packed) > SHAPES:
                    del self._packed[next(iter(self._packed))]
        logits = self.body(images, packed)
        self._largest = packed.largest / images.shape[2:].numel()
        return logits

    def _most(self, images: Tensor) -> int:
        """Return how many images are run at once.

        Each part reads all weights once more, so that its largest map may take as much as they do;
        less where that is little, and never so much that an allocator asks the system for fresh
        pages each time (glibc does from 32 MiB, and clearing them takes a fifth of a pass). Each
        thread is given an image at least.
        """
        room = min(max(self.body.size, _LEAST), _MOST)
        image = max(self._largest * images.shape[2:].numel(), 1)
        return max(int(room / image), torch.get_num_threads())

    def __reduce__(self) -> tuple[type[Fused], tuple[Body]]:
        return Fused, (self.body,)
