"""What a run tells: metrics.csv, the curves drawn from it, and a line an epoch."""

import csv
from collections.abc import Callable, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from resnet_hub.curves import draw_curves, read_metrics
from resnet_hub.learning.classifier import Classifier
from resnet_hub.learning.run import Run
from resnet_hub.weights.store import write_text

_LEADING = ("epoch", "step")


class MetricsFile(Logger):
    """Writes metrics.csv: one row a step that logged something, columns as they first appear.

    Unlike Lightning's, it goes on with the rows of the run that it resumes. It is about training:
    what is logged before :meth:`go_on_from` and after the end, the final test, is left out.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._rows: dict[int, dict[str, float]] = {}
        self._open = False

    @property
    def name(self) -> str:
        """The logger's name."""
        return "metrics"

    @property
    def version(self) -> str:
        """There is one version: the file."""
        return ""

    @property
    def filled(self) -> bool:
        """Whether anything was logged yet."""
        return bool(self._rows)

    def go_on_from(self, step: int) -> None:
        """Keep the file's rows before this optimizer step, drop what a resumed run redoes."""
        rows = read_metrics(self.path) if self.path.is_file() else []
        self._rows = {int(row["step"]): row for row in rows if row["step"] < step}
        self._open = True

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add values to the step's row."""
        self._rows.setdefault(step or 0, {"step": step or 0}).update(metrics)

    def log_hyperparams(self, params: Any) -> None:
        """Nothing: recipe.yaml holds them."""

    @rank_zero_only
    def write(self) -> None:
        """Write the file, whole or not at all."""
        names = dict.fromkeys(name for row in self._rows.values() for name in row)
        columns = [*_LEADING, *(name for name in names if name not in _LEADING)]
        text = StringIO()
        table = csv.DictWriter(text, columns, lineterminator="\n")
        table.writeheader()
        for _, row in sorted(self._rows.items()):
            table.writerow({n: int(v) if n in _LEADING else f"{v:.6g}" for n, v in row.items()})
        write_text(self.path, text.getvalue())

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what is left, and take no more."""
        if self._open and self._rows:
            self.write()
        self._open = False


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
