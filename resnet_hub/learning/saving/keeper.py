"""When a run's checkpoints are written, and which of them are kept."""

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import lightning as L
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities import rank_zero_only

from resnet_hub.errors import InvalidSetting
from resnet_hub.learning.plan import between_steps
from resnet_hub.learning.processes.ranks import Agreement
from resnet_hub.learning.saving.checkpoints import numbered, sweep, verify
from resnet_hub.learning.saving.run import Run
from resnet_hub.learning.saving.state import pack
from resnet_hub.learning.settings import CheckpointSettings


class Keeper(Checkpoint):
    """Writes a run's checkpoints, by epochs, steps or minutes, and at the run's end.

    The newest are kept, as many as the settings say; an older one goes after the newest was read
    again and found whole. Where the watched split may choose, the weights of the best validation
    are kept beside them. A checkpoint that falls on a step which a validation follows is written
    after the next one: a resumed run could not tell whether it was validated.

    Args:
        run: Where they lie.
        settings: When, and how many.
        monitor: Logged value whose highest is the best; ``None`` keeps no best.

    Attributes:
        situation: What the run's numbers hang on beside its recipe; kept in each checkpoint.
    """

    def __init__(self, run: Run, settings: CheckpointSettings, *, monitor: str | None) -> None:
        self.run, self.settings, self.monitor = run, settings, monitor
        self.situation: Mapping[str, Any] = {}
        self._best: float | None = None
        self._saved = -1  # the step of the newest checkpoint that this process wrote
        self._counted = 0  # the step of the batch before
        self._written = time.monotonic()
        self._due = False
        self._clocks: Agreement | None = None  # of several ranks, whether it is time by one's

    def state_dict(self) -> dict[str, Any]:
        """Return the best score so far."""
        return {"best": self._best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the best score so far."""
        self._best = state_dict["best"]

    def setup(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        """Sweep what a killed process left; refuse callbacks whose state cannot be kept.

        Raises:
            InvalidSetting: A callback's state is neither plain values nor tensors.
        """
        if stage != "fit":
            return
        if trainer.is_global_zero:
            sweep(self.run.checkpoints)
        for callback in cast(Any, trainer).callbacks:
            try:
                pack(callback.state_dict(), callback.state_key)
            except InvalidSetting as error:
                raise InvalidSetting(
                    f"callbacks: the state of {type(callback).__name__} cannot be kept in a "
                    f"checkpoint, which holds plain values and tensors alone ({error})"
                ) from error

    def on_save_checkpoint(
        self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Say in the checkpoint what the run's numbers hang on."""
        checkpoint["situation"] = self.situation

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Begin to count minutes and steps; a best that is not there is none."""
        self._written, self._counted = time.monotonic(), trainer.global_step
        if self.settings.every_minutes is not None:
            self._clocks = Agreement.of(trainer)
        if not trainer.strategy.broadcast(bool(numbered(self.run.checkpoints, "best"))):
            self._best = None

    def on_train_batch_start(
        self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Tell the other ranks whether it is time; they answer while the batch is trained on."""
        if self._clocks:
            self._clocks.ask(self._is_time())

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Write within the epoch, if it is time."""
        steps, step = self.settings.every_steps, trainer.global_step
        if steps is not None and step != self._counted:
            self._due |= step % steps == 0
        self._counted = step
        self._due |= bool(self._clocks.read()) if self._clocks else self._is_time()
        # Where the run ends within an epoch, a longer one has to go on with the epoch's rest.
        if (self._due or _is_cut(trainer)) and between_steps(trainer, batch_idx):
            self.save(trainer)

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Keep the weights, if they are the best so far."""
        score = trainer.callback_metrics.get(self.monitor or "")
        if trainer.sanity_checking or score is None:
            return
        if self._best is None or float(score) > self._best:
            self._best = float(score)
            folder = self.run.best_at(trainer.global_step)
            trainer.save_checkpoint(folder, weights_only=True)
            self._remove_others(folder, "best", keep=1)

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Write at the epoch's end, if it is time or the run ends here."""
        epochs = self.settings.every_epochs
        due = self._due or (epochs and (trainer.current_epoch + 1) % epochs == 0)
        if (due or _ends(trainer)) and self._saved != trainer.global_step:
            self.save(trainer)

    def save(self, trainer: L.Trainer) -> None:
        """Write a checkpoint that training goes on from, and let older ones go."""
        folder = self.run.step_at(trainer.global_step)
        trainer.save_checkpoint(folder)
        self._remove_others(folder, "step", keep=self.settings.keep)
        self._written, self._saved, self._due = time.monotonic(), trainer.global_step, False

    def _is_time(self) -> bool:
        minutes = self.settings.every_minutes
        return minutes is not None and time.monotonic() - self._written >= 60 * minutes

    @rank_zero_only
    def _remove_others(self, newest: Path, kind: str, *, keep: int) -> None:
        verify(newest)
        others = [folder for _, folder in numbered(self.run.checkpoints, kind) if folder != newest]
        for folder in others[keep - 1 :]:
            shutil.rmtree(folder, ignore_errors=True)


def _ends(trainer: L.Trainer) -> bool:
    """Whether the epoch that ends is the run's last."""
    epochs = trainer.max_epochs
    return _is_cut(trainer) or (epochs is not None and 0 <= epochs <= trainer.current_epoch + 1)


def _is_cut(trainer: L.Trainer) -> bool:
    """Whether the run ends here, wherever in an epoch that is."""
    return trainer.should_stop or 0 <= trainer.max_steps <= trainer.global_step
