"""The logits of a pass over a data set, put together from every rank."""

import time
from dataclasses import dataclass
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from resnet_hub.data.batches import Batch
from resnet_hub.learning.trainer import hardware


@dataclass(frozen=True)
class Logits:
    """What a net, or an ensemble, answered for images that could be read, in order.

    Attributes:
        values: float32 ``(N, classes)``; of several looks at a picture their average (see
            :func:`~resnet_hub.evaluation.views.averaged`).
        labels: int64 ``(N,)``, the data set's.
        indices: int64 ``(N,)``, their numbers in the split.
        images_per_s: As measured when they were computed, without start-up; ``None`` where there
            was but one batch.
        hardware: What they were computed on: processes and their devices.
        from_cache: Whether no forward pass was needed.
    """

    values: Tensor
    labels: Tensor
    indices: Tensor
    images_per_s: float | None
    hardware: str
    from_cache: bool


class Collector(Callback):
    """Keeps what the steps of a test return, a row an image; beside its score, if it has one.

    Attributes:
        logits: Of all ranks, in the split's order; known after the test, the same on every rank.
            Images a second are counted from the second batch on, and each rank is taken to be as
            fast as this one.
    """

    logits: Logits

    def __init__(self) -> None:
        self._rows = _Rows()
        self._began, self._timed = 0.0, 0
        self._speed: float | None = None

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Take one batch and the logits that the step returned."""
        self._rows.update(batch, outputs)  # on the CPU: what was computed is waited for
        if batch_idx == 0:
            self._began = time.perf_counter()
        else:
            self._timed += len(batch.labels)
            self._speed = self._timed / (time.perf_counter() - self._began)

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the ranks' parts together, while they still can talk."""
        self._rows.to(pl_module.device)
        # Torchmetrics gives a single number without its axis.
        indices, labels, values = self._rows.compute()
        indices, labels = indices.reshape(-1), labels.reshape(-1)
        values = values.reshape(len(indices), -1)
        speed = None if self._speed is None else self._speed * trainer.world_size
        self.logits = Logits(values, labels, indices, speed, hardware(trainer), from_cache=False)


class _Rows(Metric):
    """Rows of every rank, on the CPU and in the split's order."""

    full_state_update = False
    indices: list[Tensor]
    labels: list[Tensor]
    values: list[Tensor]

    def __init__(self) -> None:
        super().__init__(compute_on_cpu=True)
        for name in ("indices", "labels", "values"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, batch: Batch, logits: Tensor) -> None:
        self.indices.append(batch.indices)
        self.labels.append(batch.labels)
        self.values.append(logits.float())

    def compute(self) -> tuple[Tensor, ...]:
        joined = [dim_zero_cat(x).cpu() for x in (self.indices, self.labels, self.values)]
        order = joined[0].argsort()
        return tuple(rows[order] for rows in joined)
