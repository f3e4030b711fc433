"""A run's folder: what lies where, and how it is numbered."""

from contextlib import suppress
from pathlib import Path

import yaml

from resnet_hub.errors import DataMissing, InvalidSetting, ResNetHubError
from resnet_hub.learning.settings import Recipe
from resnet_hub.weights.store import write_text


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
            ResNetHubError: The disk refused; nothing is left.
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
        run._made = [run.checkpoints, *made]
        try:
            run.checkpoints.mkdir(parents=True, exist_ok=True)
            write_text(run.recipe, yaml.safe_dump(recipe.to_dict(), sort_keys=False))
        except (OSError, ResNetHubError):  # a full disk: leave no half of a folder
            run.forget()
            raise
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
            self.recipe.unlink(missing_ok=True)
            with suppress(OSError):  # not made yet, or the parent of other runs
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
