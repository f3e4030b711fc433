"""A run's checkpoints: written whole, read without running any code, last and best."""

import io
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from resnet_hub.errors import CorruptFile, InvalidSetting
from resnet_hub.learning.run import Run
from resnet_hub.learning.settings import Recipe
from resnet_hub.weights.store import write_file

_STATE = ("loops", "optimizer_states", "lr_schedulers", "callbacks", "epoch", "global_step", "net")
"""What Lightning and the classifier leave in a checkpoint beside the tensors."""
_FREE = ("trainer.", "callbacks", "logger", "net.weights", "data.root", "data.workers")
"""How the keys of a recipe begin that may change before a run goes on."""


class WholeCheckpoints(TorchCheckpointIO):
    """Lightning's checkpoints, written whole or not at all and read without running any code.

    Args:
        recipe: What the run goes by, to be kept in each of them.
    """

    def __init__(self, recipe: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.recipe = recipe

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write one checkpoint; the file that was there stays until this one is complete."""
        buffer = io.BytesIO()
        torch.save({**checkpoint, "recipe": self.recipe}, buffer)
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


def finished_epochs(content: Mapping[str, Any]) -> int | None:
    """Return how many whole epochs a checkpoint was trained for, or ``None`` where it is silent.

    Lightning's own ``epoch`` is the running one's number, of an epoch's end as of its middle.
    """
    try:
        loop = content["loops"]["fit_loop"]
        begun: int = loop["epoch_progress"]["current"]["ready"]
        return begun if loop["epoch_loop.batch_progress"]["is_last_batch"] else begun - 1
    except (KeyError, TypeError):
        return None


def check_resumable(path: Path, recipe: Recipe) -> None:
    """Check that a run can go on from a checkpoint by a recipe.

    Trainer options, callbacks and loggers may have changed, and where things lie.

    Raises:
        CorruptFile: The checkpoint is damaged, or holds no training state.
        InvalidSetting: The recipe has changed since; the message says what.
    """
    content = read_training_checkpoint(path)
    missing = [name for name in _STATE if name not in content]
    if missing:
        raise CorruptFile(
            f"{path}: training cannot go on from it (it holds no {', '.join(missing)})"
        )
    before, now = _decisive(content.get("recipe")), _decisive(recipe.to_dict())
    changed = [name for name in before if before[name] != now.get(name, before[name])]
    if changed:
        name = changed[0]
        raise InvalidSetting(
            f"{name}: the run was trained with {before[name]!r}, its recipe.yaml now says "
            f"{now[name]!r}; set it back, or begin another run"
        )


def _decisive(recipe: Any) -> dict[str, Any]:
    """Return what fixes a run's numbers in its recipe, by dotted key; of no recipe, nothing."""
    keys: dict[str, Any] = {}
    for section, value in recipe.items() if isinstance(recipe, Mapping) else ():
        if isinstance(value, Mapping):
            keys |= {f"{section}.{name}": item for name, item in value.items()}
        else:
            keys[section] = value
    return {name: value for name, value in keys.items() if not name.startswith(_FREE)}


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
