"""What happens beside training: checkpoints written whole, curves, progress lines, interruption."""

import io
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities import rank_zero_only

from resnet_hub.curves import draw_curves
from resnet_hub.errors import CorruptFile
from resnet_hub.learning.classifier import Classifier
from resnet_hub.learning.run import MetricsFile, Run
from resnet_hub.weights.store import write_file

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_AGREE_EVERY = 10  # batches between two looks of several ranks at each other's signals


class WholeCheckpoints(TorchCheckpointIO):
    """Lightning's checkpoints, written whole or not at all and read without running any code."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write one checkpoint; the file that was there stays until this one is complete."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_file(Path(path), lambda file: file.write(buffer.getbuffer()))

    def load_checkpoint(
        self,
        path: Any,
        map_location: Callable[..., Any] | None = lambda storage, loc: storage,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read one checkpoint: tensors and plain values, whatever the caller asks for.

        Raises:
            CorruptFile: It is damaged, or holds more.
        """
        return read_training_checkpoint(Path(path), map_location)


def read_training_checkpoint(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint that a run wrote.

    Raises:
        CorruptFile: It is damaged, or holds more than tensors and plain values.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of odd pickles; we refuse or read them
            content = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # torch raises many kinds for damaged files
        raise CorruptFile(
            f"{path}: not a checkpoint of a run (it is damaged, or holds more than tensors and "
            "plain values; code in it is never run)"
        ) from error
    if not isinstance(content, dict) or "state_dict" not in content:
        raise CorruptFile(f"{path}: not a checkpoint of a run (it holds no state_dict)")
    return content


class _Checkpoints(ModelCheckpoint):
    """Lightning's, but a run whose folder was moved keeps its best score."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        folder = str(self.dirpath)

        def here(path: str) -> str:
            return str(Path(folder, Path(path).name)) if path else path

        paths = {name: here(path) for name, path in state_dict.items() if name.endswith("_path")}
        models = {here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict(
            {**state_dict, **paths, "best_k_models": models, "dirpath": self.dirpath}
        )


def checkpoint_callbacks(run: Run, *, monitor: str | None) -> list[ModelCheckpoint]:
    """Return what saves ``last.ckpt`` every epoch, and ``best.ckpt`` by ``monitor`` if given."""
    folder = run.checkpoints
    last = _Checkpoints(
        folder, "last", save_top_k=1, save_on_train_epoch_end=True, enable_version_counter=False
    )
    if monitor is None:
        return [last]
    best = _Checkpoints(
        folder,
        "best",
        monitor=monitor,
        mode="max",
        save_top_k=1,
        save_on_train_epoch_end=False,  # but after validation, which a cut last epoch has none of
        enable_version_counter=False,
    )
    return [best, last]


class Journal(Callback):
    """Keeps metrics.csv and curves.png up to date, and says how each epoch went.

    Args:
        run: Where they lie.
        metrics: The logger behind metrics.csv.
        say: Takes a line for the person who waits.
        epochs: Say a line an epoch; not needed where a progress bar shows it.
    """

    def __init__(
        self, run: Run, metrics: MetricsFile, say: Callable[[str], None], *, epochs: bool
    ) -> None:
        self.run, self.metrics, self.say, self.epochs = run, metrics, say, epochs

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Say what begins; go on with the rows of a resumed run."""
        if isinstance(module, Classifier):
            self.say(module.outline())
        self.metrics.go_on_from(trainer.global_step)

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Write the epoch before: its last values reach the logger only after its own hooks."""
        self._write()
        if trainer.current_epoch:
            self._report(trainer)

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Write the last epoch."""
        self._write()
        self._report(trainer)

    @rank_zero_only
    def _write(self) -> None:
        if self.metrics.filled:
            self.metrics.write()
            draw_curves(self.run.metrics, self.run.curves)

    @rank_zero_only
    def _report(self, trainer: L.Trainer) -> None:
        if not self.epochs or not trainer.logged_metrics:  # resumed at an epoch's start
            return
        shown = "  ".join(f"{n} {float(v):.4g}" for n, v in sorted(trainer.logged_metrics.items()))
        self.say(f"epoch {trainer.current_epoch}  {shown}")


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

    A second one kills. Several ranks stop together, within ten batches. The step is one of the
    optimizer; where a validation follows it the next one counts, and on the epoch's last one the
    epoch is finished, its validation included.

    Args:
        checkpoint: Where to save; only rank 0's counts.
        say: Takes a line for the person who waits.
    """

    def __init__(self, checkpoint: Path, say: Callable[[str], None]) -> None:
        self.checkpoint, self.say = checkpoint, say
        self.signum: int | None = None
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
            raise Interrupted(self.signum or signal.SIGTERM)

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
        if trainer.world_size > 1 and (batch_idx + 1) % _AGREE_EVERY:
            return
        if self._asked(trainer) and self._between_steps(trainer, batch_idx):
            trainer.save_checkpoint(self.checkpoint)
            self._saved = True

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Let the epoch be the last one; its checkpoint is saved as always."""
        if self._asked(trainer):
            trainer.should_stop = True

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Tell a stopped run from a finished one."""
        if self._asked(trainer) and not self._finished(trainer):
            raise Interrupted(self.signum or signal.SIGTERM)

    def _asked(self, trainer: L.Trainer) -> bool:
        asked = self.signum is not None
        if trainer.world_size > 1:  # one rank's signal stops all at the same step
            asked = trainer.strategy.reduce_boolean_decision(asked, all=False)
        return asked

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
        if self.signum is not None:
            signal.signal(signum, signal.SIG_DFL)
            signal.raise_signal(signum)
        self.signum = signum
        with suppress(RuntimeError):  # it came in the middle of another line
            self.say("stopping after this step; once more to stop at once")
