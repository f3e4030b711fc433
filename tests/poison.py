"""A callback, to be named in recipes, that makes pixels of a training batch NaN."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from resnet_hub.data.batches import Batch


def learnt(trainer: L.Trainer, module: L.LightningModule) -> dict[str, Tensor]:
    """Return copies of weights, statistics, average, scores and the optimizer's state, by name."""
    found = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    for number, state in enumerate(trainer.optimizers[0].state.values()):
        for name, value in state.items():
            found[f"optimizer.{number}.{name}"] = torch.as_tensor(value).clone()
    return found


class Poison(Callback):
    """Makes the first pixel of some training batches NaN.

    Args:
        batches: Which, from the run's beginning; ``None`` draws one of ``within``.
        within: Upper bound of the batch that is drawn.
        rank: On which rank alone; ``None`` on all.
        record: Folder for ``before-RANK.pt`` and ``after-RANK.pt``: what had been learnt before the
            first of these batches, and after it.

    Attributes:
        samples: Indices of the samples of each bad batch.
    """

    def __init__(
        self,
        batches: list[int] | None = None,
        *,
        within: int = 1,
        rank: int | None = None,
        record: str | None = None,
    ) -> None:
        self.batches = [random.randrange(within)] if batches is None else batches
        self.rank, self.record = rank, record
        self.samples: list[list[int]] = []

    def on_train_batch_start(
        self, trainer: L.Trainer, module: L.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        if trainer.fit_loop.total_batch_idx not in self.batches:
            return
        self._write("before", learnt, trainer, module)
        if self.rank in (None, trainer.global_rank):
            batch.images[0, 0, 0, 0] = torch.nan
            self.samples.append(batch.indices.tolist())
            self._write("samples", lambda *_: batch.indices, trainer, module)

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        if trainer.fit_loop.total_batch_idx in self.batches:
            self._write("after", learnt, trainer, module)

    def _write(
        self, name: str, what: Callable[..., Any], trainer: L.Trainer, module: L.LightningModule
    ) -> None:
        if self.record is not None:
            path = Path(self.record) / f"{name}-{trainer.global_rank}.pt"
            if not path.exists():
                torch.save(what(trainer, module), path)
