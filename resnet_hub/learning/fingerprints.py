"""Digests of what a test was given and what it answered, on any number of devices alike."""

import hashlib
from collections.abc import Iterator
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torchmetrics import Metric

from resnet_hub.data.batches import Batch
from resnet_hub.errors import InvalidSetting


class Witness(Callback):
    """Takes the fingerprints of a test.

    Attributes:
        found: Hex digests by a receipt's names, the same on every rank; known after the test.
    """

    def __init__(self) -> None:
        self.found: dict[str, str] = {}
        self._fingerprints = Fingerprints()

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Take one batch and the logits that the step returned."""
        self._fingerprints.update(batch, outputs)

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the ranks' parts together, while they still can talk."""
        self.found = self._fingerprints.compute()


class Fingerprints(Metric):
    """SHA-256 over all samples seen: their pixels, the likeliest classes and the logits.

    Each sample is hashed with its number in the split, and the samples' digests are hashed in the
    order of these numbers: no order, batch size or number of ranks changes the result.
    """

    full_state_update = False
    indices: list[Tensor]
    data: list[Tensor]
    answers: list[Tensor]
    logits: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("indices", "data", "answers", "logits"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, batch: Batch, logits: Tensor) -> None:
        """Take one batch.

        Args:
            batch: As an evaluation step gets it.
            logits: float32 ``(N, classes)``.

        Raises:
            InvalidSetting: The batch comes without its pixels.
        """
        if batch.pixels is None:
            raise InvalidSetting("data: its prepare() gives a test no pixels to be fingerprinted")
        pairs = torch.stack((batch.indices, batch.labels), 1)
        best = torch.stack((batch.indices, logits.argmax(1)), 1)
        self.indices.append(batch.indices)
        self.data.append(_digests(pairs, batch.pixels))
        self.answers.append(_digests(best, None))
        self.logits.append(_digests(batch.indices[:, None], logits))

    def compute(self) -> dict[str, str]:
        """Return hex digests by a receipt's names."""
        order = _joined(self.indices).argsort()
        states = {"data": self.data, "answers": self.answers, "logits": self.logits}
        return {f"{name}_sha256": _digest(_joined(x)[order]) for name, x in states.items()}


def _digests(numbers: Tensor, values: Tensor | None) -> Tensor:
    """Return SHA-256 of each row of int64 numbers and, if any, of values: uint8 ``(N, 32)``."""
    found = [hashlib.sha256(head).digest() for head in _rows(numbers)]
    if values is not None:
        shape = repr(tuple(values.shape[1:])).encode()
        found = [
            hashlib.sha256(head + shape + row).digest()
            for head, row in zip(_rows(numbers), _rows(values), strict=True)
        ]
    joined = torch.frombuffer(bytearray(b"".join(found) or b"\0"), dtype=torch.uint8)
    return joined[: 32 * len(found)].view(-1, 32).to(numbers.device)


def _rows(values: Tensor) -> Iterator[bytes]:
    array = values.cpu().contiguous().numpy()
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return (row.tobytes() for row in little)


def _joined(parts: list[Tensor] | Tensor) -> Tensor:
    return parts if isinstance(parts, Tensor) else torch.cat(parts)


def _digest(values: Tensor) -> str:
    return hashlib.sha256(values.cpu().numpy().tobytes()).hexdigest()
