"""What a person who waits for a run is told: its pace, its waiting for data, the time left."""

import math
from collections.abc import Callable
from time import monotonic
from typing import Any, cast

import lightning as L
from lightning.pytorch.callbacks import Callback, RichProgressBar, Timer
from lightning.pytorch.callbacks.progress.rich_progress import ProcessingSpeedColumn

from resnet_hub.counting import parameters
from resnet_hub.data.batches import Batch
from resnet_hub.data.loader import BatchLoader
from resnet_hub.data.module import DataModule
from resnet_hub.learning.classifier import Classifier
from resnet_hub.learning.optim.optimizers import effective_lr
from resnet_hub.learning.plan import (
    batches_a_validation,
    ends_step,
    images_per_step,
    images_tested,
    images_validated,
    run_length,
)
from resnet_hub.learning.reporting.journal import MetricsFile
from resnet_hub.learning.reporting.pace import Pace, duration
from resnet_hub.learning.targets.class_weights import named, worded
from resnet_hub.zoo import title_of

_DRAWN = 4  # times a second that the bar is


class Progress(Callback):
    """Logs the pace, and tells it: a line an epoch, and one in between where they are long.

    At every logged step all loggers get ``images_per_s``, the images that all ranks trained on in
    a second, and ``data_wait``, the share of the time in which this process waited for its loader,
    both since the step logged before; and ``seconds``, the time spent in training so far, which
    goes on over a resume. Validations are left out of all three.

    Args:
        metrics: What was logged last; a tensor would have to be waited for.
        say: Takes a line for the person who waits.
        lines: Say them; not needed where a progress bar shows it all.
        heartbeat: Seconds without a line after which the next batch is told of; 0 tells of none.
        pace: The clock's readings.
    """

    def __init__(
        self,
        metrics: MetricsFile,
        say: Callable[[str], None],
        *,
        lines: bool,
        heartbeat: float = 60.0,
        pace: Pace | None = None,
    ) -> None:
        self.metrics, self.lines, self.heartbeat = metrics, lines, heartbeat
        self.pace = pace or Pace()
        self._say = say
        self._told = self.pace.clock()
        self._waited = 0.0  # the loader's own sum, after the batch before
        self._steps = 0
        self._batches_a_step = 1.0
        self._evaluating: tuple[str, int] | None = None  # what is running, and its images
        self._trained = False  # since the last epoch was told; a resumed run may begin with a next

    def state_dict(self) -> dict[str, Any]:
        """Return the time spent in training, for a checkpoint."""
        return {"seconds": self.pace.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint's time."""
        self.pace.before = state_dict["seconds"]

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Say what begins, and start the clock."""
        if isinstance(module, Classifier):
            self.tell(outline(trainer, module))
        length = run_length(trainer, _data(trainer))
        self._steps = length.steps
        self._batches_a_step = trainer.num_training_batches / length.steps_per_epoch
        self._go_on(trainer)

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Tell of the epoch before: its last values reach the logger only after its own hooks."""
        if trainer.current_epoch:
            self._tell_epoch(trainer)
        self._go_on(trainer)

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Count the batch; log the pace in the rows of the steps that are logged."""
        self._trained = True
        waited = _loader(trainer).waited
        self.pace.trained(len(batch.labels) * trainer.world_size, waited - self._waited)
        self._waited = waited
        every: int = cast(Any, trainer).log_every_n_steps
        step, stepped = trainer.global_step, ends_step(trainer, batch_idx)
        if stepped and every and step and step % every == 0 and (lap := self.pace.lap()):
            values = {
                "images_per_s": lap.images_per_s,
                "data_wait": lap.data_wait,
                "seconds": self.pace.seconds,
            }
            for logger in trainer.loggers:  # module.log would make tensors, to be waited for
                logger.log_metrics({**values, "epoch": trainer.current_epoch}, step=step - 1)
        self._beat(trainer)

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Tell of the last epoch."""
        self._tell_epoch(trainer)

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Start the evaluation's clock."""
        self._begin_evaluation("validating", images_validated(trainer, _data(trainer)))

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the batch."""
        self.pace.evaluated(len(batch.labels) * trainer.world_size)
        self._beat(trainer)

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Stop the evaluation's clock, and let training's go on."""
        self._end_evaluation()
        if not trainer.sanity_checking:
            self._go_on(trainer)

    def on_test_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Start the evaluation's clock."""
        self._begin_evaluation("testing", images_tested(trainer, _data(trainer)))

    on_test_batch_end = on_validation_batch_end

    def on_test_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Stop the evaluation's clock."""
        self._end_evaluation()

    def tell(self, line: str) -> None:
        """Say a line; the next heartbeat counts from it."""
        self._told = self.pace.clock()
        self._say(line)

    def outlook(self, trainer: L.Trainer) -> dict[str, str]:
        """Return what is known of the pace and the time left, by its name, to be shown."""
        shown = {}
        if recent := self.pace.recent:
            shown["images/s"] = f"{recent.images_per_s:,.4g}"
            shown["data wait"] = f"{recent.data_wait:.0%}"
        if (left := self.seconds_left(trainer)) is not None:
            shown["left"] = duration(left)
        return shown

    def seconds_left(self, trainer: L.Trainer) -> float | None:
        """Return the seconds to the end of the run, its validations and test included.

        Steps go on at the pace of the last minute, and an evaluation at that of the last one (the
        first: at training's). Nothing is known before the second batch.
        """
        per_image = self.pace.seconds_per_evaluated
        images = 0.0
        if self._evaluating:
            images = max(0, self._evaluating[1] - self.pace.evaluated_so_far)
        if trainer.testing:
            return None if per_image is None else images * per_image
        if (recent := self.pace.recent) is None or per_image is None:
            return None
        batches = max(0, self._steps - trainer.global_step) * self._batches_a_step
        training = recent.seconds / recent.batches * batches
        coming = math.ceil(batches / batches_a_validation(trainer) - 1e-6)
        images += coming * images_validated(trainer, _data(trainer))
        for timer in (c for c in cast(Any, trainer).callbacks if isinstance(c, Timer)):
            if (remaining := timer.time_remaining()) is not None:
                training = min(training, max(0.0, remaining))
        return training + (images + images_tested(trainer, _data(trainer))) * per_image

    def _go_on(self, trainer: L.Trainer) -> None:
        self._waited = _loader(trainer).waited
        self.pace.resume()

    def _begin_evaluation(self, name: str, images: int) -> None:
        self._evaluating = (name, images)
        self.pace.begin_evaluation()

    def _end_evaluation(self) -> None:
        self._evaluating = None
        self.pace.end_evaluation()

    def _tell_epoch(self, trainer: L.Trainer) -> None:
        if not self.lines or not self._trained:
            return
        self._trained = False
        values = self.metrics.of_epoch(trainer.current_epoch - 1)
        shown = [_worded(name, value) for name, value in sorted(values.items())]
        self.tell("  ".join([f"epoch {trainer.current_epoch}", *shown, *self._words(trainer)]))

    def _beat(self, trainer: L.Trainer) -> None:
        silent = self.pace.clock() - self._told
        if not self.lines or not self.heartbeat or silent < self.heartbeat:
            return
        words = []
        if not trainer.testing:
            words = [f"step {trainer.global_step:,} of {self._steps:,}"]
            words.append(f"epoch {trainer.current_epoch + 1}")
            if (loss := self.metrics.last("train/loss")) is not None:
                words.append(f"train/loss {loss:.4g}")
        if self._evaluating:
            name, images = self._evaluating
            words.append(f"{name} {min(images, self.pace.evaluated_so_far):,} of {images:,} images")
        self.tell("  ".join([*words, *self._words(trainer)]))

    def _words(self, trainer: L.Trainer) -> list[str]:
        return [f"{name} {value}" for name, value in self.outlook(trainer).items()]


class RunBar(RichProgressBar):
    """Lightning's bar, with the pace and the time left of the run; it waits for no device.

    It is drawn a few times a second: Lightning's, at every step and a hundred times, would take
    longer than a small net's steps.

    Args:
        progress: Knows them.
    """

    def __init__(self, progress: Progress) -> None:
        super().__init__(refresh_rate=_DRAWN)
        self._progress_of_run = progress
        self._next = 0.0  # by the clock, when what it shows is brought up to date

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Bring it up to date if it is time, and at an epoch's end."""
        now = monotonic()
        if now >= self._next or trainer.is_last_batch:
            self._next = now + 1 / _DRAWN
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def configure_columns(self, trainer: L.Trainer) -> list[Any]:
        """Return Lightning's columns but its batches a second: images say more."""
        columns = super().configure_columns(trainer)
        return [column for column in columns if not isinstance(column, ProcessingSpeedColumn)]

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        """Return what is shown behind the bar: the time left, the pace, what was logged last."""
        shown: dict[str, Any] = self._progress_of_run.outlook(trainer)
        if (left := shown.pop("left", None)) is not None:
            shown = {"run left": left, **shown}  # the bar's own is the epoch's
        for name in ("train/loss", "lr"):
            if (value := self._progress_of_run.metrics.last(name)) is not None:
                shown[name] = value
        return {**shown, **super().get_metrics(trainer, pl_module)}


def outline(trainer: L.Trainer, module: Classifier) -> str:
    """Return one line on what a trainer is about to do with a classifier."""
    net, data = module.net.architecture, _data(trainer)
    length, images = run_length(trainer, data), images_per_step(trainer, data)
    lr, weights = effective_lr(module.recipe.optimizer, images), module.class_weights
    told = f"; class weights: {worded(named(weights.weights, data.labels))}" if weights else ""
    return (
        f"{title_of(net)}: {parameters(net):,} parameters; {images:,} images a step, "
        f"{length.steps_per_epoch:,} steps an epoch, {length.steps:,} steps ({length.epochs:g} "
        f"epochs) in all; effective learning rate {lr:g}{told}"
    )


def _worded(name: str, value: float) -> str:
    return f"{name} {value:,.0f}" if name.endswith("/n") else f"{name} {value:.4g}"


def _data(trainer: L.Trainer) -> DataModule:
    return cast(DataModule, cast(Any, trainer).datamodule)


def _loader(trainer: L.Trainer) -> BatchLoader:
    return cast(BatchLoader, trainer.train_dataloader)
