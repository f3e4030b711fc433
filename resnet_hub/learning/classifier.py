"""The one LightningModule: plain, residual, wide and pre-activation nets learn the same way."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from resnet_hub.data.batches import Batch
from resnet_hub.learning.compiling import captures, check_capture, compile_in_place
from resnet_hub.learning.guards import Guard, check_weights
from resnet_hub.learning.optim import optimizers
from resnet_hub.learning.optim.averaging import follow
from resnet_hub.learning.optim.clipping import clip_adaptively
from resnet_hub.learning.optim.freezing import Freezing
from resnet_hub.learning.optim.schedules import WarmUp
from resnet_hub.learning.plan import attached_data, check_match, is_logged, planned
from resnet_hub.learning.record import TrainingRecord
from resnet_hub.learning.saving.description import described, description
from resnet_hub.learning.scorer import Scorer
from resnet_hub.learning.settings import (
    DistillationSettings,
    FreezingSettings,
    MixingSettings,
    ModelSettings,
    OptimizerSettings,
    Recipe,
    ScheduleSettings,
)
from resnet_hub.learning.targets.class_weights import ClassWeights
from resnet_hub.learning.targets.distillation import Teacher
from resnet_hub.learning.targets.mixing import mixed
from resnet_hub.learning.targets.objective import training_loss
from resnet_hub.metrics import Scores, SoftScores
from resnet_hub.nets.resnet import ResNet
from resnet_hub.paths import expanded
from resnet_hub.randomness import key_of, seed_generators
from resnet_hub.weights.match import matched


class Classifier(Scorer):
    """Trains and scores a net on batches of one of this package's data modules.

    Logged: ``train/loss`` (mean since the last log of the epoch) and ``lr`` at every
    ``log_every_n_steps``-th step; ``train/epoch_loss``, ``train/top1``, ``train/top5`` an epoch, or
    ``train/soft_top1`` where batches are mixed; ``val/…`` (or ``test/…``, where no images are held
    out) after each validation; with a moving average these are the averaged net's, and
    ``…/live_top1`` the live one's.

    Attributes:
        net: The net.
        recipe: What it learns by, in the sections that are its arguments.
        averaged: Its moving average, if the settings ask for one.
        teacher: Whom it learns from while it is fitted, if the settings name one.
        class_weights: How much each class counts while it is fitted, if not all alike.
        guard: What keeps steps that are not finite out of it all.
        compiled: Whether the net is compiled; ``None`` where it was not asked for, or not yet.
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
        recipe = Recipe(
            seed=seed,
            model=model or ModelSettings(),
            mixing=mixing or MixingSettings(),
            distillation=distillation or DistillationSettings(),
            optimizer=optimizer or OptimizerSettings(),
            schedule=schedule or ScheduleSettings(),
            freezing=freezing or FreezingSettings(),
        )
        super().__init__(
            ResNet(net) if isinstance(net, str) else net,
            channels_last=recipe.model.channels_last,
            averages=recipe.model.ema_decay is not None,
        )
        self.recipe = recipe
        self.warm_up = WarmUp(recipe.schedule, mixed=recipe.mixing.on)
        self.freezing = Freezing(self.net, recipe.freezing)
        self.teacher: Teacher | None = None  # no module: it is neither saved nor trained
        self.class_weights: ClassWeights | None = None
        self.train_scores = SoftScores() if recipe.mixing.on else Scores()
        self.record = TrainingRecord(self.train_scores)
        self.unlogged: dict[str, Tensor] = {}
        self._options: optimizers.Groups = []
        self._buffers_moved: list[Tensor] = []
        self.guard = Guard(recipe.model.nonfinite, recipe.model.most_nonfinite)
        self.compiled: bool | None = None

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]  # Lightning's own reads pickles
        cls, checkpoint_path: str | Path, map_location: torch.device | str | None = None
    ) -> "Classifier":
        """Return what a run's checkpoint holds, on a device.

        Raises:
            CorruptFile: It is damaged, or none.
            WeightsMismatch: Its tensors do not fit the net that it names.
        """
        net, recipe, state = described(expanded(checkpoint_path))
        own = cls(net, **recipe.learning())
        own.load_state_dict(matched(state, own.state_dict(), str(checkpoint_path)), assign=True)
        return own.to(map_location)

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
                self.teacher = Teacher.load(self.recipe.distillation, data)
                self.class_weights = ClassWeights.of(self.recipe.model, data)
                for own in {self.net, self.finished}:
                    own.labels, own.preprocess = tuple(data.labels), data.preprocess
        mode, device = self.recipe.model.compile, self.trainer.strategy.root_device
        if mode and self.compiled is None:
            check_capture(mode, self.trainer.accumulate_grad_batches)
            self.compiled = compile_in_place(self.net, mode, device)
            self.captured = self.compiled and captures(mode, device)

    def configure_optimizers(self) -> Any:
        """Return the optimizer and its schedule, by steps."""
        length, images = planned(self.trainer)
        lr = optimizers.effective_lr(self.recipe.optimizer, images)
        optimizer = optimizers.build_optimizer(self.net, self.recipe.optimizer, lr=lr)
        schedule = optimizers.build_schedule(optimizer, self.recipe.schedule, length, self.warm_up)
        self._options = optimizers.options(optimizer)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    def on_train_start(self) -> None:
        """Go by the recipe, if it was changed since the checkpoint; let the teacher come along."""
        self._buffers_moved = [*self.net.buffers()]  # to look for them at each step takes long
        # Fitted to the weights that training begins from.
        self.net.temperature = self.finished.temperature = None
        schedule = self.lr_schedulers()
        if isinstance(schedule, torch.optim.lr_scheduler.LambdaLR):
            optimizers.hold_to_recipe(self.trainer.optimizers[0], schedule, self._options)
        if self.teacher is not None:
            self.teacher.to(self.device, channels_last=self.recipe.model.channels_last)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Key the default generators by (seed, epoch, batch, rank): a resumed run draws alike."""
        self.unlogged = {}
        if self.captured:
            # The graphs write over the gradients of the step before, which Lightning still holds.
            self.net.zero_grad(set_to_none=True)
            cast(Any, torch.compiler).cudagraph_mark_step_begin()
        self.freezing.begin(self.trainer, self.current_epoch)
        key = key_of("step", self.recipe.seed, self.current_epoch, batch_idx, self.global_rank)
        seed_generators(key, self.device)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the batch's mean loss."""
        self.guard.begin([*self._buffers_moved, *self.record.states])
        place = (self.recipe.seed, self.current_epoch, batch_idx, self.global_rank)
        classes = self.net.architecture.classes
        images, targets = mixed(batch, classes, self.recipe.mixing, place=place)
        images = self.laid_out(images)
        logits = self.net(images, batch.keys)
        weights = self.class_weights.at(self.trainer, batch_idx) if self.class_weights else None
        loss = training_loss(logits, targets, self.recipe.model, weights)
        if self.teacher is not None:
            loss = self.teacher.guide(loss, logits, images)
        self.record.add(logits, targets, loss)
        if is_logged(self.trainer, batch_idx):
            self._log_recent(len(batch.labels))
        return self.guard.watch(loss, batch.indices)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Judge the step by its averaged, unscaled gradients; clip them to the weights if asked."""
        self.guard.judge(optimizer)
        if self.recipe.optimizer.agc is not None:
            clip_adaptively(self.net, self.recipe.optimizer.agc)

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
        step, settings = self.global_step, self.recipe.model  # the step is not counted yet
        good = self.guard.settle(optimizer, step=step + 1, epoch=epoch + 1)
        if self.averaged is not None and step % settings.ema_every == 0:
            follow(self.averaged, self.net, decay=cast(float, settings.ema_decay), good=good)
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
        checkpoint.update(description(self.net, self.recipe))
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

    def _look(self, *, weights: bool = False) -> None:
        self.guard.look(getattr(self.trainer.precision_plugin, "scaler", None))
        if weights:
            check_weights(self.net, epoch=self.current_epoch + 1)

    def _log_recent(self, count: int) -> None:
        self.unlogged = {
            "train/loss": self.record.recent(),
            "lr": torch.tensor(optimizers.rate_in_force(self.trainer.optimizers[0])),
        }
        # prog_bar would ask the device at every step
        self.log_dict(self.unlogged, batch_size=count)
