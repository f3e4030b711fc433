"""What a run writes down: metrics.csv, and the curves drawn from it."""

import csv
from collections.abc import Iterable, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from resnet_hub.curves import draw_curves
from resnet_hub.learning.classifier import Classifier
from resnet_hub.learning.saving.run import Run
from resnet_hub.weights.store import write_text

TIMING = ("images_per_s", "data_wait", "seconds")
"""Columns that differ between two runs that are otherwise alike; they come last."""
_LEADING = ("epoch", "step")


class MetricsFile(Logger):
    """Writes metrics.csv: one row a step that logged something, columns as they first appear.

    Unlike Lightning's, it goes on with the rows of the run that it resumes. It is about training:
    what is logged before :meth:`begin` and after the end, the final test, is left out.

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

    @property
    def rows(self) -> list[dict[str, float]]:
        """The rows so far, by step."""
        return [dict(row) for _, row in sorted(self._rows.items())]

    def begin(self, rows: Iterable[Mapping[str, float]]) -> None:
        """Take values from now on, behind these rows."""
        self._rows = {}
        for row in rows:
            self._rows.setdefault(int(row["step"]), {}).update(row)
        self._open = True

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add values to the step's row."""
        self._rows.setdefault(step or 0, {"step": step or 0}).update(metrics)

    def last(self, name: str) -> float | None:
        """Return the value that was logged last under a name."""
        rows = reversed(self._rows.values())
        return next((row[name] for row in rows if name in row), None)

    def of_epoch(self, epoch: int) -> dict[str, float]:
        """Return what an epoch's rows hold, the later value of each name; its pace left out."""
        rows = (row for row in self.rows if row.get("epoch") == epoch)
        values = {name: value for row in rows for name, value in row.items()}
        return {n: v for n, v in values.items() if n not in (*_LEADING, *TIMING)}

    def log_hyperparams(self, params: Any) -> None:
        """Nothing: recipe.yaml holds them."""

    @rank_zero_only
    def write(self) -> None:
        """Write the file, whole or not at all."""
        names = dict.fromkeys(name for row in self._rows.values() for name in row)
        ends = (*_LEADING, *TIMING)
        columns = [
            *_LEADING,
            *(n for n in names if n not in ends),
            *(n for n in TIMING if n in names),
        ]
        text = StringIO()
        table = csv.DictWriter(text, columns, lineterminator="\n")
        table.writeheader()
        for _, row in sorted(self._rows.items()):
            table.writerow({n: int(v) if _is_count(n) else f"{v:.6g}" for n, v in row.items()})
        write_text(self.path, text.getvalue())

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what is left, and take no more."""
        if self._open and self._rows:
            self.write()
        self._open = False


def _is_count(name: str) -> bool:
    return name in _LEADING or name.endswith("/n")


class Journal(Callback):
    """Keeps metrics.csv and curves.png up to date.

    Args:
        run: Where they lie.
        metrics: The logger behind metrics.csv.
    """

    def __init__(self, run: Run, metrics: MetricsFile) -> None:
        self.run, self.metrics = run, metrics
        self._rows: list[dict[str, float]] = []

    def on_save_checkpoint(
        self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the rows in the checkpoint, so that they are those of its steps whatever happens."""
        rows = self.metrics.rows
        if isinstance(module, Classifier) and module.unlogged:
            values = {name: float(value) for name, value in module.unlogged.items()}
            rows.append({"step": trainer.global_step - 1, "epoch": trainer.current_epoch, **values})
        checkpoint["rows"] = rows

    def on_load_checkpoint(
        self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Go on with the checkpoint's rows; what came after it is done again."""
        self._rows = checkpoint.get("rows", [])

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Begin with the rows of a resumed run."""
        self.metrics.begin(self._rows)

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Write the epoch before: its last values reach the logger only after its own hooks."""
        self._write()

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Write the last epoch."""
        self._write()

    @rank_zero_only
    def _write(self) -> None:
        if self.metrics.filled:
            self.metrics.write()
            draw_curves(self.run.metrics, self.run.curves)
