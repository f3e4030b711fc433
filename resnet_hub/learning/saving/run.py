"""A run's folder: what lies where, and how it is numbered."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

import yaml

from resnet_hub.errors import DataMissing, InvalidSetting, ResNetHubError
from resnet_hub.learning.saving.checkpoints import numbered
from resnet_hub.learning.settings import Recipe
from resnet_hub.weights.card import FILES
from resnet_hub.weights.store import check_replaceable, write_text


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
        self.model = folder / "model"
        self._lock = folder / ".lock"
        self._held: int | None = None
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
        else:
            cls.check_out(out)
        run = cls(out)
        run._made = [run.checkpoints, *made]
        try:
            run.checkpoints.mkdir(parents=True, exist_ok=True)
            run.hold()
            write_text(run.recipe, yaml.safe_dump(recipe.to_dict(), sort_keys=False))
        except (OSError, ResNetHubError):  # a full disk: leave no half of a folder
            run.forget()
            raise
        return run

    @classmethod
    def check_out(cls, out: Path) -> None:
        """Check that a new run can lie in a folder.

        Raises:
            InvalidSetting: It holds something already.
        """
        if out.exists() and not cls(out)._is_free():
            raise InvalidSetting(
                f"--out {out}: is there and not empty; choose another, or --resume {out}"
            )

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

    def hold(self) -> None:
        """Keep every other process from training this run, until this one ends or forgets it.

        Raises:
            InvalidSetting: Another process trains it.
            ResNetHubError: The disk refused.
        """
        try:
            self._held = os.open(self._lock, os.O_WRONLY | os.O_CREAT, 0o666)
        except OSError as error:
            raise ResNetHubError(f"{self.folder}: cannot be written ({error.strerror})") from error
        try:
            # This kind dies with its process, whose children (the loader's workers) do not hold it.
            fcntl.lockf(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._release()
            raise InvalidSetting(
                f"{self.folder}: another process trains this run; wait for it, or begin another run"
            ) from error

    def forget(self) -> None:
        """Let others have the run; remove what :meth:`create` made if nothing was trained in it."""
        if self._held is None:
            return
        untrained = {self.recipe, self.checkpoints, self._lock}
        if self._made and set(self.folder.rglob("*")) <= untrained:
            self.recipe.unlink(missing_ok=True)
            self._lock.unlink(missing_ok=True)
            with suppress(OSError):  # not made yet, or the parent of other runs
                for folder in self._made:
                    folder.rmdir()
        self._release()

    def check_places(self) -> None:
        """Check, before a run goes on for days, that its results can be put where they belong.

        Raises:
            InvalidSetting: Something else lies there.
            ResNetHubError: The run's folder cannot be read.
        """
        try:
            check_replaceable(self.model, FILES)
        except InvalidSetting as error:
            raise InvalidSetting(
                f"{self.model}: holds something else than the model that goes there; move it away"
            ) from error
        except OSError as error:
            raise ResNetHubError(f"{self.model}: cannot be read ({error.strerror})") from error
        for path in (self.metrics, self.curves):
            if path.is_dir():
                raise InvalidSetting(f"{path}: a folder, where the run writes a file; move it away")

    def _is_free(self) -> bool:
        """Whether the folder is empty, or of a run that saved nothing: nothing is to be lost."""
        if not self.folder.is_dir() or self.metrics.is_dir() or self.curves.is_dir():
            return False
        unsaved = {self.recipe, self.metrics, self.curves, self.checkpoints, self._lock}
        saved = [path for path in self.checkpoints.glob("*") if not path.name.startswith(".")]
        return set(self.folder.iterdir()) <= unsaved and not saved

    def _release(self) -> None:
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def step_at(self, step: int) -> Path:
        """Return where the checkpoint of an optimizer step lies, which training goes on from."""
        return self.checkpoints / f"step-{step:08d}"

    def best_at(self, step: int) -> Path:
        """Return where the weights of an optimizer step lie, if they are the best."""
        return self.checkpoints / f"best-{step:08d}"

    def is_saved(self) -> bool:
        """Whether there is a checkpoint that training can go on from."""
        return bool(numbered(self.checkpoints, "step"))

    def newest(self) -> Path:
        """Return the checkpoint of the highest step.

        Raises:
            DataMissing: Nothing was saved yet.
        """
        if not (found := numbered(self.checkpoints, "step")):
            raise DataMissing(f"{self.folder}: no checkpoint was saved yet")
        return found[0][1]

    def chosen(self) -> Path:
        """Return the checkpoint that is exported: the best, or the newest where none is best.

        Raises:
            DataMissing: Nothing was saved yet.
        """
        found = numbered(self.checkpoints, "best")
        return found[0][1] if found else self.newest()


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
