"""Which weights run a batch: packed ones for shapes of images that come again."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock

import torch
from torch import Tensor

from resnet_hub.nets.inference.body import Body
from resnet_hub.nets.inference.kernels import Convolution, Dense, Packed, pack

MOST = 8
"""Shapes of images that weights are kept packed for, the last ones."""


class Fused:
    """A body run by fused kernels, on weights packed for each shape of images.

    Packing takes about as long as a pass over a few images, so the first batch of a shape is run
    by torch's public calls, which also see what each convolution is given; from the second on its
    weights are packed. Layouts that two shapes have in common are held once. Threads may share it;
    a copy or a pickle begins without packed weights.

    Args:
        body: The layers.
    """

    def __init__(self, body: Body) -> None:
        self.body = body
        self._packed: dict[tuple[int, ...], Packed] = {}
        self._seen: dict[tuple[int, ...], Mapping[Convolution, torch.Size]] = {}
        self._lock = Lock()

    def __call__(self, images: Tensor) -> Tensor:
        """Return logits of ``(N, in_channels, H, W)``."""
        shape = tuple(images.shape)
        packed = self._packed.get(shape) or self._pack(shape)
        if packed is not None:
            return self.body(images, packed)
        dense = Dense()
        logits = self.body(images, dense)
        with self._lock:
            _keep(self._seen, shape, dense.shapes)
        return logits

    def _pack(self, shape: tuple[int, ...]) -> Packed | None:
        """Return packed weights for a shape that was seen."""
        with self._lock:
            if shape not in self._packed and shape in self._seen:
                known = next(reversed(self._packed.values()), None)
                _keep(self._packed, shape, pack(self._seen.pop(shape), known))
            return self._packed.get(shape)

    def __reduce__(self) -> tuple[type[Fused], tuple[Body]]:
        return Fused, (self.body,)


def _keep(found: dict[tuple[int, ...], object], shape: tuple[int, ...], value: object) -> None:
    """Keep a value for a shape, and forget the oldest beyond :data:`MOST`."""
    found[shape] = value
    if len(found) > MOST:
        del found[next(iter(found))]
