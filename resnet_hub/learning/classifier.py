"""The one LightningModule: plain, residual, wide and pre-activation nets learn the same way."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

from resnet_hub.data.batches import Batch
from resnet_hub.data.module import DataModule
from resnet_hub.errors import InvalidSetting
from resnet_hub.learning import optimizers
from resnet_hub.learning.averaging import follow
from resnet_hub.learning.clipping import clip_adaptively
from resnet_hub.learning.export import description, restored
from resnet_hub.learning.freezing import Freezing
from resnet_hub.learning.guards import Guard, check_weights
from resnet_hub.learning.plan import (
    check_all_seen,
    check_match,
    images_per_step,
    is_logged,
    run_length,
)
from resnet_hub.learning.schedules import Length, WarmUp, factor
from resnet_hub.learning.settings import (
    FreezingSettings,
    ModelSettings,
    OptimizerSettings,
    ScheduleSettings,
)
from resnet_hub.metrics import Scores
from resnet_hub.nets.resnet import ResNet
from resnet_hub.randomness import key_of


class Classifier(L.LightningModule):
    """Trains and scores a net on batches of one of this package's data modules.

    Logged: ``train/loss`` (mean since the last log of the epoch) and ``lr`` at every
    ``log_every_n_steps``-th step;
    ``train/epoch_loss``, ``train/top1``, ``train/top5`` an epoch; ``val/…`` (or ``test/…``, where
    no images are held out) after each validation; with a moving average these are the averaged
    net's, and ``…/live_top1`` the live one's.

    Attributes:
        net: The net.
        averaged: Its moving average, if the settings ask for one.
        guard: What keeps steps that are not finite out of it all.
        unlogged: What the running step or epoch logs, which reaches the loggers after its hooks.

    Args:
        net: The net, or a row's name for a fresh one.
        model: Loss and how the net is run.
        optimizer: Optimizer.
        schedule: Learning-rate schedule.
        freezing: What does not learn, and until when.
        seed: Key of what is left to torch's default generators in a training step.

    Raises:
        UnknownName: No such row, or layer.
    """

    def __init__(
        self,
        net: ResNet | str,
        *,
        model: ModelSettings | None = None,
        optimizer: OptimizerSettings | None = None,
        schedule: ScheduleSettings | None = None,
        freezing: FreezingSettings | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.net = ResNet(net) if isinstance(net, str) else net
        self.settings = model or ModelSettings()
        self.optimizer_settings = optimizer or OptimizerSettings()
        self.schedule_settings = schedule or ScheduleSettings()
        self.freezing_settings = freezing or FreezingSettings()
        self.warm_up = WarmUp(self.schedule_settings)
        self.freezing = Freezing(self.net, self.freezing_settings)
        self.seed = seed
        if self.settings.channels_last:
            cast(Any, self.net).to(memory_format=torch.channels_last)
        self.averaged: AveragedModel | None = None
        if self.settings.ema_decay is not None:
            self.averaged = AveragedModel(self.net).requires_grad_(False)
        self.train_scores, self.scores, self.live_scores = Scores(), Scores(), Scores()
        self.train_scores.persistent(True)  # an epoch resumed halfway keeps its first half
        self._recent: list[Tensor] = []
        self.unlogged: dict[str, Tensor] = {}
        self._options: optimizers.Groups = []
        self.guard = Guard(self.settings.nonfinite, self.settings.most_nonfinite)

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]  # Lightning's own reads pickles
        cls, checkpoint_path: str | Path, map_location: torch.device | str | None = None
    ) -> "Classifier":
        """Return what a run's checkpoint holds, on a device; see :func:`~.export.restored`."""
        return restored(cls, checkpoint_path).to(map_location)

    @property
    def finished(self) -> ResNet:
        """The net that is validated and exported: the average, if there is one."""
        return self.net if self.averaged is None else cast(ResNet, self.averaged.module)

    def forward(self, images: Tensor) -> Tensor:
        """Return the finished net's logits ``(N, classes)`` of preprocessed ``(N, C, H, W)``."""
        logits: Tensor = self.finished(self._laid_out(images))
        return logits

    def setup(self, stage: str) -> None:
        """Check that net and data go together; compile if asked.

        Raises:
            InvalidSetting: They do not.
        """
        data = self._data()
        if data is not None:
            check_match(self.net, data)
            if stage == "fit":
                for own in {self.net, self.finished}:
                    own.labels, own.preprocess = tuple(data.labels), data.preprocess
        if self.settings.compile:
            cast(Any, self.net).compile()

    def configure_optimizers(self) -> Any:
        """Return the optimizer and its schedule, by steps."""
        length, images = self._plan()
        lr = optimizers.effective_lr(self.optimizer_settings, images)
        optimizer = optimizers.build_optimizer(self.net, self.optimizer_settings, lr=lr)
        settings = self.schedule_settings
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: factor(settings, step, length, warmed=self.warm_up.ended)
        )
        self._options = optimizers.options(optimizer)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def on_train_start(self) -> None:
        """Go by the recipe, if it was changed since the checkpoint."""
        schedule = self.lr_schedulers()
        if isinstance(schedule, torch.optim.lr_scheduler.LambdaLR):
            optimizers.hold_to_recipe(self.trainer.optimizers[0], schedule, self._options)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Key the default generators by (seed, epoch, batch, rank): a resumed run draws alike."""
        self.unlogged = {}
        self.freezing.begin(self.trainer, self.current_epoch)
        key = key_of("step", self.seed, self.current_epoch, batch_idx, self.global_rank)
        torch.default_generator.manual_seed(key)
        if self.device.type == "cuda":
            torch.cuda.default_generators[self.device.index or 0].manual_seed(key)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the batch's mean loss."""
        scores = cast(dict[str, Tensor], self.train_scores.metric_state)
        self.guard.begin([*self.net.buffers(), *scores.values()])
        logits = self.net(self._laid_out(batch.images), batch.keys)
        loss = F.cross_entropy(logits, batch.labels, label_smoothing=self.settings.label_smoothing)
        detached = loss.detach()
        self.train_scores.update(logits.detach(), batch.labels, detached * len(batch.labels))
        self._recent.append(detached)
        if is_logged(self.trainer, batch_idx):
            self._log_recent(len(batch.labels))
        return self.guard.watch(loss, batch.indices)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Judge the step by its averaged, unscaled gradients; clip them to the weights if asked."""
        self.guard.judge(optimizer)
        if self.optimizer_settings.agc is not None:
            clip_adaptively(self.net, self.optimizer_settings.agc)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Step, unless it is not finite, then let the moving average follow.

        Raises:
            Diverged: A step of late was not finite.
        """
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        step, decay = self.global_step, self.settings.ema_decay  # the step is not counted yet
        good = self.guard.settle(optimizer, step=step + 1, epoch=epoch + 1)
        if self.averaged is not None and decay is not None and step % self.settings.ema_every == 0:
            follow(self.averaged, self.net, decay=decay, good=good)
        if self.guard.due:
            self._look()
        in_epoch = -(-(batch_idx + 1) // self.trainer.accumulate_grad_batches)
        if self.warm_up.due(in_epoch, last=self.trainer.is_last_batch):
            self.warm_up.look(1 - float(self.train_scores.compute()["top1"]), steps=step + 1)

    def on_train_epoch_end(self) -> None:
        """Log the epoch's training scores.

        Raises:
            Diverged: Steps or weights are finite no more; the epoch is not saved.
        """
        self._look(weights=True)
        values = self.train_scores.compute()
        self.train_scores.reset()
        self._recent.clear()
        named = {"epoch_loss": "loss", "top1": "top1", "top5": "top5"}
        self.unlogged = {f"train/{name}": values[key] for name, key in named.items()}
        self.log_dict(self.unlogged, sync_dist=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say in the checkpoint what net it holds, so that it can be exported from it alone.

        Raises:
            Diverged: Steps or weights are finite no more; nothing is saved.
        """
        self._look(weights=True)
        checkpoint.update(description(self))
        checkpoint["recent_losses"] = [float(loss) for loss in self._recent]
        checkpoint["steps_left_out"] = self.guard.skipped
        checkpoint["warm_up_ended"] = self.warm_up.ended
        with self.train_scores.sync_context():  # every rank's, in rank 0's file
            scores = self.train_scores.state_dict(prefix="train_scores.")
        checkpoint["state_dict"].update(scores)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the epoch's losses that were not logged yet, and with its scores."""
        self.guard.skipped = checkpoint.get("steps_left_out", 0)
        self.warm_up.ended = checkpoint.get("warm_up_ended")
        losses = checkpoint.get("recent_losses", [])
        self._recent = list(torch.tensor(losses, device=self.device))
        none = torch.zeros(0, 1, device=self.device)  # else the metric would warn of no update
        self.train_scores.update(none, none[:, 0].long(), none.sum())
        if self.global_rank > 0:  # rank 0 has the sum
            scores = self.train_scores.state_dict(prefix="train_scores.")
            checkpoint["state_dict"].update({n: torch.zeros_like(t) for n, t in scores.items()})

    def on_validation_start(self) -> None:
        """Give every rank rank 0's BatchNorm statistics: they are what is exported.

        Raises:
            Diverged: Steps or weights are finite no more.
        """
        self._look(weights=True)
        if self.trainer.world_size > 1:
            for buffer in self.buffers():
                torch.distributed.broadcast(buffer, 0)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count one batch of the watched split."""
        self._count(self.finished, batch, self.scores)
        if self.averaged is not None:
            self._count(self.net, batch, self.live_scores)

    def on_validation_epoch_end(self) -> None:
        """Log the watched split's scores under its name."""
        split = "val" if (data := self._data()) is None else data.watched
        self._log_scores(self.scores, split)
        if self.averaged is not None:
            self._log_scores(self.live_scores, split, prefix="live_")

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Count one batch of the tested split; return its logits, for callbacks."""
        return self._count(self.finished, batch, self.scores)

    def on_test_epoch_end(self) -> None:
        """Log the tested split's scores, and how many images were seen."""
        self._log_scores(self.scores, "test")

    def _look(self, *, weights: bool = False) -> None:
        self.guard.look(getattr(self.trainer.precision_plugin, "scaler", None))
        if weights:
            check_weights(self.net, epoch=self.current_epoch + 1)

    def _count(self, net: nn.Module, batch: Batch, scores: Scores) -> Tensor:
        logits: Tensor = net(self._laid_out(batch.images)).float()
        loss = F.cross_entropy(logits, batch.labels, reduction="sum")
        scores.update(logits, batch.labels, loss, batch.skipped)
        return logits

    def _log_scores(self, scores: Scores, split: str, prefix: str = "") -> None:
        values = scores.compute()
        scores.reset()
        check_all_seen(self.trainer, int(values["n"] + values.pop("skipped")))
        if prefix:
            del values["n"]  # of another net on the same images
        # The ranks' values are one already; of three equal numbers the mean may be another one.
        named = {f"{split}/{prefix}{k}": v.float() for k, v in values.items()}
        self.log_dict(named, sync_dist=True, reduce_fx="max")

    def _log_recent(self, count: int) -> None:
        losses = torch.stack(self._recent)
        values = {
            "train/loss": losses.where(losses.isfinite(), torch.nan).nanmean(),
            "lr": torch.tensor(optimizers.rate_in_force(self.trainer.optimizers[0])),
        }
        self._recent.clear()
        self.unlogged = values
        self.log_dict(values, batch_size=count)  # prog_bar would ask the device at every step

    def _laid_out(self, images: Tensor) -> Tensor:
        if self.settings.channels_last:
            return images.contiguous(memory_format=torch.channels_last)
        return images

    def _plan(self) -> tuple[Length, int]:
        """Return the attached trainer's run in steps, and the images of a step."""
        if (data := self._data()) is None:
            raise InvalidSetting("Classifier: fit needs a data module of this package")
        return run_length(self.trainer, data), images_per_step(self.trainer, data)

    def _data(self) -> DataModule | None:
        data = getattr(self.trainer, "datamodule", None)
        return data if isinstance(data, DataModule) else None
