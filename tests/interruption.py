"""A callback, to be named in recipes, that sends the process a signal in the middle of a run."""

import os
import signal
import time
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import Callback


class SignalAt(Callback):
    """Sends one signal, once for all processes that share the mark.

    Args:
        mark: A file that is there once the signal was sent.
        signal: Its name.
        batch: Training batches, from the run's beginning, before the signal may come.
        hook: Where it comes.
        hang: Seconds that the hook takes after it.
        rank: Of several processes the one that it is sent to; ``None`` takes the first to come.
    """

    def __init__(
        self,
        mark: str,
        *,
        signal: str = "SIGINT",
        batch: int = 0,
        hook: str = "train_batch",
        hang: float = 0,
        rank: int | None = None,
    ) -> None:
        self.mark, self.signal, self.batch, self.hook = Path(mark), signal, batch, hook
        self.hang, self.rank = hang, rank

    def on_train_batch_start(
        self, trainer: L.Trainer, module: L.LightningModule, batch: object, batch_idx: int
    ) -> None:
        self._reached("train_batch", trainer)

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._reached("validation", trainer)

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._reached("train_end", trainer)

    def on_test_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._reached("test", trainer)

    def setup(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        if stage == "fit":
            self._reached("setup", trainer)

    def teardown(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        self._reached("after the " + stage, trainer)  # an enumeration, whose str() is another

    def _reached(self, hook: str, trainer: L.Trainer) -> None:
        done = 0 if hook == "setup" else trainer.fit_loop.total_batch_idx
        if self.rank not in (None, trainer.global_rank):
            return
        if hook == self.hook and done >= self.batch and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), getattr(signal, self.signal))
            time.sleep(self.hang)


class Slow(Callback):
    """Makes each batch take longer.

    Args:
        seconds: How much longer.
        hook: ``train_batch`` or ``validation_batch``.
    """

    def __init__(self, seconds: float, *, hook: str = "train_batch") -> None:
        self.seconds, self.hook = seconds, hook

    def on_train_batch_start(self, *arguments: object) -> None:
        if self.hook == "train_batch":
            time.sleep(self.seconds)

    def on_validation_batch_start(self, *arguments: object) -> None:
        if self.hook == "validation_batch":
            print("validating")
            time.sleep(self.seconds)
