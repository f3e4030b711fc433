"""A run's folder: what lies where, and how it is numbered."""

import csv
from collections.abc import Mapping
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from resnet_hub.curves import read_metrics
from resnet_hub.errors import DataMissing, InvalidSetting
from resnet_hub.learning.settings import Recipe
from resnet_hub.weights.store import write_text

_LEADING = ("epoch", "step")


class Run:
    """One training run: recipe.yaml, metrics.csv, curves.png, checkpoints/, model/.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recipe = folder / "recipe.yaml"
        self.metrics = folder / "metrics.csv"
        self.curves = folder / "curves.png"
        self.checkpoints = folder / "checkpoints"
        self.last = self.checkpoints / "last.ckpt"
        self.best = self.checkpoints / "best.ckpt"
        self.model = folder / "model"
        self._made: list[Path] = []

    @classmethod
    def create(cls, recipe: Recipe, name: str, out: Path | None = None) -> "Run":
        """Make a new run's folder: ``out``, or ``runs/<name>/<n>`` with the next free number.

        Raises:
            InvalidSetting: ``out`` holds something already, or the path cannot be used.
        """
        parent = Path("runs") / name if out is None else out
        _check_path(parent)
        made = [folder for folder in (parent, *parent.parents) if not folder.exists()]
        if out is None:
            parent.mkdir(parents=True, exist_ok=True)
            out = _next_number(parent)
            made.insert(0, out)
        elif out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InvalidSetting(
                f"--out {out}: is there and not empty; choose another, or --resume {out}"
            )
        run = cls(out)
        run.checkpoints.mkdir(parents=True, exist_ok=True)
        run._made = [run.checkpoints, *made]
        write_text(run.recipe, yaml.safe_dump(recipe.to_dict(), sort_keys=False))
        return run

    @classmethod
    def find(cls, folder: Path) -> "Run":
        """Return the run in a folder.

        Raises:
            DataMissing: No run there.
            InvalidSetting: A path that Lightning would misread.
        """
        _check_path(folder)
        run = cls(folder)
        if not run.recipe.is_file():
            raise DataMissing(f"{folder}: no run (it holds no recipe.yaml)")
        return run

    def forget(self) -> None:
        """Remove what :meth:`create` made if nothing was trained in it; else leave it all."""
        if self._made and set(self.folder.rglob("*")) <= {self.recipe, self.checkpoints}:
            self.recipe.unlink()
            with suppress(OSError):  # the parent of other runs
                for folder in self._made:
                    folder.rmdir()

    def chosen(self) -> Path:
        """Return the checkpoint that is exported: the best, or the last where none is best.

        Raises:
            DataMissing: Nothing was saved yet.
        """
        return self.best if self.best.is_file() else self.checkpoint()

    def checkpoint(self) -> Path:
        """Return the last checkpoint.

        Raises:
            DataMissing: Nothing was saved yet.
        """
        if not self.last.is_file():
            raise DataMissing(f"{self.folder}: no {self.last.name} was saved yet")
        return self.last


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


def _check_path(folder: Path) -> None:
    if "::" in (path := str(folder.absolute())):
        raise InvalidSetting(f"{path}: Lightning takes '::' in a path for a protocol")


def _next_number(parent: Path) -> Path:
    taken = [int(folder.name) for folder in parent.iterdir() if folder.name.isdigit()]
    number = max(taken, default=0) + 1
    while True:
        folder = parent / str(number)
        try:
            folder.mkdir()
        except FileExistsError:  # another run began at the same moment
            number += 1
        else:
            return folder
