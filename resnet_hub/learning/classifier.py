"""The one LightningModule: plain, residual, wide and pre-activation nets learn the same way."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from resnet_hub.data.batches import Batch
from resnet_hub.learning.export import description, restored
from resnet_hub.learning.guards import Guard, check_weights
from resnet_hub.learning.optim import optimizers
from resnet_hub.learning.optim.averaging import follow
from resnet_hub.learning.optim.clipping import clip_adaptively
from resnet_hub.learning.optim.freezing import Freezing
from resnet_hub.learning.optim.schedules import WarmUp, factor
from resnet_hub.learning.plan import attached_data, check_match, is_logged, planned
from resnet_hub.learning.record import TrainingRecord, counted, evaluated
from resnet_hub.learning.settings import (
    DistillationSettings,
    FreezingSettings,
    MixingSettings,
    ModelSettings,
    OptimizerSettings,
    ScheduleSettings,
)
from resnet_hub.learning.targets.class_weights import ClassWeights
from resnet_hub.learning.targets.distillation import Teacher
from resnet_hub.learning.targets.mixing import mixed
from resnet_hub.learning.targets.objective import training_loss
from resnet_hub.metrics import Scores, SoftScores
from resnet_hub.nets.resnet import ResNet
from resnet_hub.randomness import key_of, seed_generators


class Classifier(L.LightningModule):
    """Trains and scores a net on batches of one of this package's data modules.

    Logged: ``train/loss`` (mean since the last log of the epoch) and ``lr`` at every
    ``log_every_n_steps``-th step; ``train/epoch_loss``, ``train/top1``, ``train/top5`` an epoch, or
    ``train/soft_top1`` where batches are mixed; ``val/…`` (or ``test/…``, where no images are held
    out) after each validation; with a moving average these are the averaged net's, and
    ``…/live_top1`` the live one's.

    Attributes:
        net: The net.
        averaged: Its moving average, if the settings ask for one.
        teacher: Whom it learns from while it is fitted, if the settings name one.
        class_weights: How much each class counts while it is fitted, if not all alike.
        guard: What keeps steps that are not finite out of it all.
        unlogged: What the running step or epoch logs, which reaches the loggers after its hooks.

    Args:
        net: The net, or a row's name for a fresh one.
        model: Loss and how the net is run.
        mixing: How training batches are mixed.
        distillation: Which teacher it learns from.
        optimizer: Optimizer.
        schedule: Learning-rate schedule.
        freezing: What does not learn, and until when.
        seed: Key of how batches are mixed, and of what is left to torch's default generators.

    Raises:
        UnknownName: No such row, or layer.
    """

    def __init__(
        self,
        net: ResNet | str,
        *,
        model: ModelSettings | None = None,
        mixing: MixingSettings | None = None,
        distillation: DistillationSettings | None = None,
        optimizer: OptimizerSettings | None = None,
        schedule: ScheduleSettings | None = None,
        freezing: FreezingSettings | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.net = ResNet(net) if isinstance(net, str) else net
        self.settings = model or ModelSettings()
        self.mixing_settings = mixing or MixingSettings()
        self.distillation_settings = distillation or DistillationSettings()
        self.optimizer_settings = optimizer or OptimizerSettings()
        self.schedule_settings = schedule or ScheduleSettings()
        self.freezing_settings = freezing or FreezingSettings()
        self.warm_up = WarmUp(self.schedule_settings, mixed=self.mixing_settings.on)
        self.freezing = Freezing(self.net, self.freezing_settings)
        self.seed, last = seed, self.settings.channels_last
        self._layout = torch.channels_last if last else torch.contiguous_format
        cast(Any, self.net).to(memory_format=self._layout)
        averages = self.settings.ema_decay is not None
        self.averaged = AveragedModel(self.net).requires_grad_(False) if averages else None
        self.teacher: Teacher | None = None  # no module: it is neither saved nor trained
        self.class_weights: ClassWeights | None = None
        self.train_scores = SoftScores() if self.mixing_settings.on else Scores()
        self.scores, self.live_scores = Scores(), Scores()
        self.record = TrainingRecord(self.train_scores)
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
        return cast(Tensor, self.finished(self.laid_out(images)))

    def setup(self, stage: str) -> None:
        """Check that net, teacher and data go together; compile if asked.

        Raises:
            InvalidSetting: They do not.
            ResNetHubError: The teacher cannot be loaded.
        """
        data = attached_data(self.trainer)
        if data is not None:
            check_match(self.net, data)
            if stage == "fit":
                self.teacher = Teacher.load(self.distillation_settings, data)
                self.class_weights = ClassWeights.of(self.settings, data)
                for own in {self.net, self.finished}:
                    own.labels, own.preprocess = tuple(data.labels), data.preprocess
        if self.settings.compile:
            cast(Any, self.net).compile()

    def configure_optimizers(self) -> Any:
        """Return the optimizer and its schedule, by steps."""
        length, images = planned(self.trainer)
        lr = optimizers.effective_lr(self.optimizer_settings, images)
        optimizer = optimizers.build_optimizer(self.net, self.optimizer_settings, lr=lr)
        settings = self.schedule_settings
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: factor(settings, step, length, warmed=self.warm_up.ended)
        )
        self._options = optimizers.options(optimizer)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    def on_train_start(self) -> None:
        """Go by the recipe, if it was changed since the checkpoint; let the teacher come along."""
        schedule = self.lr_schedulers()
        if isinstance(schedule, torch.optim.lr_scheduler.LambdaLR):
            optimizers.hold_to_recipe(self.trainer.optimizers[0], schedule, self._options)
        if self.teacher is not None:
            self.teacher.to(self.device, channels_last=self.settings.channels_last)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Key the default generators by (seed, epoch, batch, rank): a resumed run draws alike."""
        self.unlogged = {}
        self.freezing.begin(self.trainer, self.current_epoch)
        key = key_of("step", self.seed, self.current_epoch, batch_idx, self.global_rank)
        seed_generators(key, self.device)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the batch's mean loss."""
        self.guard.begin([*self.net.buffers(), *self.record.states])
        place = (self.seed, self.current_epoch, batch_idx, self.global_rank)
        classes = self.net.architecture.classes
        images, targets = mixed(batch, classes, self.mixing_settings, place=place)
        images = self.laid_out(images)
        logits = self.net(images, batch.keys)
        weights = self.class_weights.at(self.trainer, batch_idx) if self.class_weights else None
        loss = training_loss(logits, targets, self.settings, weights)
        if self.teacher is not None:
            loss = self.teacher.guide(loss, logits, images)
        self.record.add(logits, targets, loss)
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
        self.unlogged = self.record.epoch()
        self.log_dict(self.unlogged, sync_dist=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say in the checkpoint what net it holds, so that it can be exported from it alone.

        Raises:
            Diverged: Steps or weights are finite no more; nothing is saved.
        """
        self._look(weights=True)
        checkpoint.update(description(self))
        checkpoint["steps_left_out"] = self.guard.skipped
        checkpoint["warm_up_ended"] = self.warm_up.ended
        self.record.save(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the epoch's losses that were not logged yet, and with its scores."""
        self.guard.skipped = checkpoint.get("steps_left_out", 0)
        self.warm_up.ended = checkpoint.get("warm_up_ended")
        self.record.load(checkpoint, self.device, rank=self.global_rank)

    def on_fit_end(self) -> None:
        """Let the teacher go."""
        self.teacher = None

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

    def _look(self, *, weights: bool = False) -> None:
        self.guard.look(getattr(self.trainer.precision_plugin, "scaler", None))
        if weights:
            check_weights(self.net, epoch=self.current_epoch + 1)

    def _count(self, net: nn.Module, batch: Batch, scores: Scores) -> Tensor:
        return counted(net, batch._replace(images=self.laid_out(batch.images)), scores)

    def _log_scores(self, scores: Scores, split: str, prefix: str = "") -> None:
        values = evaluated(self.trainer, scores, split, prefix)
        # The ranks' values are one already; of three equal numbers the mean may be another one.
        self.log_dict(values, sync_dist=True, reduce_fx="max")

    def _log_recent(self, count: int) -> None:
        self.unlogged = {
            "train/loss": self.record.recent(),
            "lr": torch.tensor(optimizers.rate_in_force(self.trainer.optimizers[0])),
        }
        # prog_bar would ask the device at every step
        self.log_dict(self.unlogged, batch_size=count)

    def laid_out(self, images: Tensor) -> Tensor:
        """Return images as they lie best in memory for the net."""
        return images.contiguous(memory_format=self._layout)
