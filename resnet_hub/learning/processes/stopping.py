"""Stopping a run by a signal so that it can go on as if nothing had been."""

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import active_children
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from resnet_hub.data.workers import wake
from resnet_hub.learning.plan import between_steps
from resnet_hub.learning.processes.ranks import Agreement

_NAMES = ("SIGINT", "SIGTERM", "SIGUSR1")  # SLURM sends the last before the time is over
SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
"""The signals that stop a run."""


class Interrupted(BaseException):
    """A run stopped by a signal.

    Attributes:
        signum: The signal.
        code: What the process should exit with: 130 for SIGINT, else SIGTERM's 143.
        requeues: Whether it came from a batch system that lets the job go on another time.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum
        self.code = 128 + (signum if signum == signal.SIGINT else signal.SIGTERM)
        self.requeues = signum not in (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let the signals raise :class:`Interrupted` inside the block.

    Lightning would exit with 1 on SIGINT, and 0 on SIGTERM.
    """

    def stop(signum: int, frame: Any) -> None:
        raise Interrupted(signum)

    before = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class StopCleanly(Callback):
    """Stops on the first signal: in training after it saved the running step, in a test at once.

    The step is one of the optimizer. Where a validation follows it, or is running, that is stopped
    after a batch, and a resumed run begins with it anew. Several ranks stop at the same step,
    whichever of them was told: they tell each other as each batch begins, and know as it ends. They
    do so the last time as a test ends: a signal that comes later stops none of them. A SIGINT after
    the first signal kills at once; other signals then say the same again, as those do who watch
    over processes.

    Args:
        save: Writes the checkpoint that training goes on from; all ranks call it.
        say: Takes a line for the person who waits.
        hold: Keep the signals between a training and its test, and after that: whoever runs both
            gives them back, as :func:`interruptible` does.
    """

    def __init__(
        self,
        save: Callable[[L.Trainer], None],
        say: Callable[[str], None],
        *,
        hold: bool = False,
    ) -> None:
        self.save, self.say, self.hold = save, say, hold
        self._noted = 0
        self._answer = ""  # what the person is told who sent it
        self._agreed = 0  # the signal that every rank knows of, and will stop by
        self._ranks: Agreement | None = None
        self._before: dict[int, Any] = {}
        self._common = 0  # batches of an evaluation that every rank has
        self._validating = False

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Take the signals over, until the training has ended."""
        self._answer = "stopping after this step"
        self._take_over(trainer)

    def teardown(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        """Give the signals back to who had them before."""
        if self.hold:
            return
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def on_exception(
        self, trainer: L.Trainer, module: L.LightningModule, exception: BaseException
    ) -> None:
        """Give the signals back; Lightning tears nothing down here."""
        self.teardown(trainer, module, "fit")

    def on_train_batch_start(
        self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Tell the other ranks."""
        self._ask()

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save within the epoch, and stop; what the step logs is in the checkpoint."""
        self._read()
        if self._agreed and between_steps(trainer, batch_idx):
            self.save(trainer)
            raise Interrupted(self._agreed)

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Find how many batches the ranks can stop after together."""
        self._count_common(trainer.num_val_batches)

    def on_validation_batch_start(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Tell the other ranks."""
        if batch_idx < self._common:
            self._ask()

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Save within a validation of the training, and stop."""
        if batch_idx < self._common:
            self._read()
        if self._agreed and self._before and not self._steps_done(trainer):
            self._validating = True
            self.save(trainer)
            raise Interrupted(self._agreed)

    def on_save_checkpoint(
        self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Where a validation is stopped, let Lightning begin the resumed run with a whole one."""
        if self._validating:
            progress = checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]
            none = dict.fromkeys(progress["current"], 0)
            progress |= {"current": none, "total": {**none, "ready": 1, "started": 1}}

    def on_test_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Take the signals over, until the test has ended."""
        self._answer = "stopping after this batch"
        self._take_over(trainer)
        self._count_common(trainer.num_test_batches)

    on_test_batch_start = on_validation_batch_start

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop; what was trained is saved already."""
        if batch_idx < self._common:
            self._read()
        if self._agreed:
            raise Interrupted(self._agreed)

    def on_test_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Stop, or let all ranks finish what follows."""
        self._ask()
        self._read()
        if self._agreed:
            raise Interrupted(self._agreed)
        self._answer = "finishing what follows the test"

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Let the epoch be the last one; its checkpoint is saved as always."""
        self._ask()
        self._read()
        if self._agreed:
            trainer.should_stop = True

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Tell a stopped run from a finished one, whose test is what is stopped."""
        self._ask()
        self._read()
        if self._agreed and not self._finished(trainer):
            raise Interrupted(self._agreed)

    def _take_over(self, trainer: L.Trainer) -> None:
        if not self._before:
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        self._ranks = self._ranks or Agreement.of(trainer)

    def _count_common(self, batches: Sequence[float]) -> None:
        """Let ranks agree in an evaluation only on batches that all of them have."""
        own = round(sum(batches))
        self._common = own if self._ranks is None else -self._ranks.ask(-own).read()

    def _ask(self) -> None:
        """Tell the other ranks of this one's signal, without waiting."""
        if self._ranks:
            self._ranks.ask(self._noted)

    def _read(self) -> None:
        """Know the signal that any of the ranks told of."""
        self._agreed = self._ranks.read() if self._ranks else self._noted

    @classmethod
    def _finished(cls, trainer: L.Trainer) -> bool:
        epochs = trainer.max_epochs
        return cls._steps_done(trainer) or (
            epochs is not None and 0 <= epochs <= trainer.current_epoch
        )

    @staticmethod
    def _steps_done(trainer: L.Trainer) -> bool:
        """Whether ``max_steps`` are done: Lightning would resume to nothing more, no validation."""
        return 0 <= trainer.max_steps <= trainer.global_step

    def _note(self, signum: int, frame: Any) -> None:
        if self._noted:
            return
        self._noted = signum
        wake(active_children())  # the batch that this step waits for may be a stopped worker's
        # From now on the system's, which kills in the middle of C++ too.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        with suppress(RuntimeError):  # it came in the middle of another line
            if signum == signal.SIGINT:
                self.say(f"{self._answer}; Ctrl-C once more to stop at once")
            else:
                self.say(f"{signal.Signals(signum).name}: {self._answer}")
