"""The evaluating half of the LightningModule: a net, its moving average, and how both score."""

from typing import Any, cast

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

from resnet_hub.data.batches import Batch
from resnet_hub.learning.plan import attached_data, check_all_seen
from resnet_hub.metrics import Scores
from resnet_hub.nets.resnet import ResNet


class Scorer(L.LightningModule):
    """Scores a net on batches of one of this package's data modules.

    Attributes:
        net: The net.
        averaged: Its moving average, if there is to be one.
        captured: Whether the net runs as CUDA graphs: each batch's logits overwrite the last one's.
        scores: Of the finished net.
        live_scores: Of the live one beside its average.

    Args:
        net: The net.
        channels_last: Keep tensors channels-last in memory (NHWC).
        averages: Whether the net learns and has a moving average.
    """

    def __init__(self, net: ResNet, *, channels_last: bool, averages: bool) -> None:
        super().__init__()
        self.net = net
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        cast(Any, self.net).to(memory_format=self._layout)
        self.averaged = AveragedModel(self.net).requires_grad_(False) if averages else None
        self.captured = False
        self.scores, self.live_scores = Scores(), Scores()

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; those that Lightning sets forty times a step, at once.

        It notes the name of each hook that runs, and torch's modules look for parameters in all
        that they are given.
        """
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    @property
    def finished(self) -> ResNet:
        """The net that is validated and exported: the average, if there is one."""
        return self.net if self.averaged is None else cast(ResNet, self.averaged.module)

    def forward(self, images: Tensor) -> Tensor:
        """Return the finished net's logits ``(N, classes)`` of preprocessed ``(N, C, H, W)``."""
        return cast(Tensor, self.finished(self.laid_out(images)))

    def laid_out(self, images: Tensor) -> Tensor:
        """Return images as they lie best in memory for the net."""
        return images.contiguous(memory_format=self._layout)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count one batch of the watched split."""
        self._count(self.finished, batch, self.scores)
        if self.averaged is not None:
            self._count(self.net, batch, self.live_scores)

    def on_validation_epoch_end(self) -> None:
        """Log the watched split's scores under its name."""
        split = "val" if (data := attached_data(self.trainer)) is None else data.watched
        self._log_scores(self.scores, split)
        if self.averaged is not None:
            self._log_scores(self.live_scores, split, prefix="live_")

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Count one batch of the tested split; return its logits, for callbacks."""
        return self._count(self.finished, batch, self.scores)

    def on_test_epoch_end(self) -> None:
        """Log the tested split's scores, and how many images were seen."""
        self._log_scores(self.scores, "test")

    def _count(self, net: nn.Module, batch: Batch, scores: Scores) -> Tensor:
        """Count one batch, the loss always cross-entropy; return its float32 logits."""
        logits: Tensor = net(self.laid_out(batch.images)).float()
        if self.captured:
            logits = logits.clone()
        loss = F.cross_entropy(logits, batch.labels, reduction="sum")
        scores.update(logits, batch.labels, loss, batch.skipped)
        return logits

    def _log_scores(self, scores: Scores, split: str, prefix: str = "") -> None:
        """Log loss, top-1 and top-5 over all ranks, and begin anew.

        Args:
            scores: What was counted.
            split: Where.
            prefix: Of a second net on the same images; else there is ``n``, how many they are, too.

        Raises:
            BadData: Another number of images was seen than the split has.
        """
        values = scores.compute()
        scores.reset()
        check_all_seen(self.trainer, int(values["n"] + values.pop("skipped")))
        if prefix:
            del values["n"]
        named = {f"{split}/{prefix}{name}": value.float() for name, value in values.items()}
        # The ranks' values are one already; of three equal numbers the mean may be another one.
        self.log_dict(named, sync_dist=True, reduce_fx="max")
