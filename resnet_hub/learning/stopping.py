"""Stopping a run by a signal so that it can go on as if nothing had been."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_AGREE_EVERY = 10  # batches between two looks of several ranks at each other's signals


class Interrupted(BaseException):
    """A run stopped by a signal.

    Attributes:
        signum: The signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGINT and SIGTERM raise :class:`Interrupted` inside the block.

    Lightning would exit with 1 on the first, and 0 on the second.
    """

    def stop(signum: int, frame: Any) -> None:
        raise Interrupted(signum)

    before = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class StopCleanly(Callback):
    """In training, saves after the running step and stops on the first SIGINT or SIGTERM.

    The step is one of the optimizer. Where a validation follows it the next one counts, and on the
    epoch's last one the epoch is finished, its validation included. Several ranks stop at the same
    step, whichever of them was told: they look at each other's signals at every tenth batch and at
    the epoch's end. A second signal kills at once.

    Args:
        checkpoint: Where to save; only rank 0's counts.
        say: Takes a line for the person who waits.
    """

    def __init__(self, checkpoint: Path, say: Callable[[str], None]) -> None:
        self.checkpoint, self.say = checkpoint, say
        self._noted = 0
        self._agreed = 0  # the signal that every rank knows of, and will stop by
        self._saved = False

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Take the signals over from Lightning, which gives them back to who had them before."""
        for number in _SIGNALS:
            signal.signal(number, self._note)

    def on_train_batch_start(
        self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Stop, now that the values of the step that was saved are logged."""
        if self._saved:
            raise Interrupted(self._agreed)

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save within the epoch."""
        # Ranks agree by waiting for each other, which at every step would cost too much.
        if trainer.world_size == 1 or (batch_idx + 1) % _AGREE_EVERY == 0:
            self._agree(trainer)
        if self._agreed and self._between_steps(trainer, batch_idx):
            trainer.save_checkpoint(self.checkpoint)
            self._saved = True

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Let the epoch be the last one; its checkpoint is saved as always."""
        self._agree(trainer)
        if self._agreed:
            trainer.should_stop = True

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Tell a stopped run from a finished one."""
        self._agree(trainer)
        if self._agreed and not self._finished(trainer):
            raise Interrupted(self._agreed)

    def _agree(self, trainer: L.Trainer) -> None:
        """Let every rank know of a signal that any of them got."""
        if trainer.world_size == 1:
            self._agreed = self._noted
        elif not self._agreed:
            noted = torch.tensor(self._noted, device=trainer.strategy.root_device)
            self._agreed = int(trainer.strategy.reduce(noted, reduce_op="max"))

    @staticmethod
    def _between_steps(trainer: L.Trainer, batch_idx: int) -> bool:
        """Whether the optimizer stepped, and its next step is what follows."""
        each_epoch = trainer.check_val_every_n_epoch is not None
        done = batch_idx + 1 if each_epoch else trainer.fit_loop.total_batch_idx + 1
        validates = trainer.val_check_batch is not None and done % trainer.val_check_batch == 0
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        return stepped and not validates and not trainer.is_last_batch

    @staticmethod
    def _finished(trainer: L.Trainer) -> bool:
        epochs, steps = trainer.max_epochs, trainer.max_steps
        return (epochs is not None and 0 <= epochs <= trainer.current_epoch) or (
            0 <= steps <= trainer.global_step
        )

    def _note(self, signum: int, frame: Any) -> None:
        self._noted = signum
        for number in _SIGNALS:  # from now on the system's, which kills in the middle of C++ too
            signal.signal(number, signal.SIG_DFL)
        with suppress(RuntimeError):  # it came in the middle of another line
            self.say("stopping after this step; once more to stop at once")
