"""A net's score on a data set's test split, by the same metric as in training."""

import time
from collections.abc import Mapping
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from resnet_hub.data.batches import Batch
from resnet_hub.data.module import DataModule
from resnet_hub.evaluation.restricted import answering
from resnet_hub.learning.classifier import Classifier
from resnet_hub.learning.measure import measure
from resnet_hub.learning.trainer import make_trainer
from resnet_hub.nets.resnet import ResNet
from resnet_hub.weights.provenance import Score


def score(
    net: ResNet,
    data: DataModule,
    *,
    trainer: Mapping[str, Any] | None = None,
    witness: Callback | None = None,
) -> Score:
    """Score a net on ``data.tested``, each image once, on any number of devices.

    Args:
        net: The net; its classes must be the data's (see
            :func:`~resnet_hub.evaluation.restricted.answering`).
        data: The data set, opened with the net's own preprocessing.
        trainer: Lightning's ``Trainer`` options: devices, strategy, precision, ...
        witness: Sees every batch and its logits beside, such as :class:`Answers`.

    Returns:
        Top-1, top-5 and the number of images seen, the same on every rank; with a receipt, unless
        ``limit_test_batches`` leaves images out.

    Raises:
        InvalidSetting: Net, data or trainer options do not go together.
        ResNetHubError: The data cannot be read.
    """
    placed = quiet_trainer(trainer or {})
    if witness is not None:
        placed.callbacks.append(witness)  # type: ignore[attr-defined]
    return measure(placed, Classifier(answering(net, data)), data)


class Answers(Callback):
    """Keeps the logits of a score's one pass.

    Attributes:
        values: float32 ``(N, classes)``, the same on every rank after the test, as all below.
        labels: int64 ``(N,)``.
        indices: int64 ``(N,)``, numbers in the split, rising.
        images_per_s: Of this rank from its second batch on; ``None`` where there is one.
    """

    values: Tensor
    labels: Tensor
    indices: Tensor
    images_per_s: float | None = None

    def __init__(self) -> None:
        self._rows = _Rows()
        self._began = self._timed = 0.0

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
            self.images_per_s = self._timed / (time.perf_counter() - self._began)

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the ranks' parts together, while they still can talk."""
        self._rows.to(pl_module.device)
        self.indices, self.labels, self.values = self._rows.compute()


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


def quiet_trainer(options: Mapping[str, Any]) -> L.Trainer:
    """Return Lightning's Trainer with these options, which shows and writes nothing of its own.

    Raises:
        InvalidSetting: Lightning refuses them.
    """
    shown = {"enable_progress_bar": False, "enable_model_summary": False, **options}
    return make_trainer({**shown, "logger": False, "enable_checkpointing": False})
