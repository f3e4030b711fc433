"""Going on with a run: from which checkpoint, and whether it is still the same run."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightning as L

from resnet_hub.data.module import DataModule
from resnet_hub.errors import CorruptFile, DataMissing, InvalidSetting
from resnet_hub.learning.saving.checkpoints import (
    numbered,
    read_training_checkpoint,
    set_aside,
    verify,
)
from resnet_hub.learning.saving.run import Run
from resnet_hub.learning.settings import Recipe
from resnet_hub.learning.targets.class_weights import ClassWeights, named

_STATE = {
    "loops": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
    "callbacks": dict,
    "epoch": int,
    "global_step": int,
    "net": dict,
}
"""What Lightning and the classifier leave in a checkpoint beside the tensors."""
_FREE = (
    "callbacks",
    "logger",
    "checkpoint.",
    "progress.",
    "distributed.",
    "net.weights",
    "data.root",
    "data.cache_gb",
    "data.workers",
    "data.resident",
    "data.timeout",
    "model.nonfinite",
    "model.most_nonfinite",
)
"""How the keys of a recipe begin that change none of a run's numbers."""
_TRAINER = ("gradient_clip_algorithm", "gradient_clip_val", "limit_train_batches", "precision")
"""Trainer options that do; what others do to the numbers, the situation tells."""
_TOLD = ("data.batch_size",)
"""Keys whose part in the numbers the situation tells."""


def newest_checkpoint(run: Run, say: Callable[[str], None]) -> tuple[Path, dict[str, Any]]:
    """Return a run's newest whole checkpoint: by its step, whatever the clock says.

    Args:
        run: The run.
        say: Takes a line on each that had to be left out.

    Returns:
        Its folder, and what it holds.

    Raises:
        DataMissing: Nothing was saved yet.
        CorruptFile: None is whole.
    """
    found = numbered(run.checkpoints, "step")
    if not found:
        raise DataMissing(
            f"{run.folder}: no checkpoint was saved yet; begin the run anew, --out takes its folder"
        )
    for step, folder in found:
        try:
            content = read_training_checkpoint(folder)
            _check_complete(folder, content, step)
        except CorruptFile as error:
            if folder == found[-1][1]:
                raise
            say(f"left out: {error}")
        else:
            break
    return folder, content


def check_same_classes(content: Mapping[str, Any], data: DataModule) -> None:
    """Check that a net's answers still mean what they meant.

    Raises:
        InvalidSetting: The data have other classes now.
    """
    before = content.get("net", {}).get("labels")
    if before is not None and before != data.labels:
        names = (sorted({*before} - {*data.labels}), sorted({*data.labels} - {*before}))
        gone, new = (", ".join(map(repr, n[:4])) or "none" for n in names)
        raise InvalidSetting(
            f"the data have other classes than the run was trained on (gone: {gone}; new: {new}); "
            "begin another run, with net.weights for its weights"
        )


def check_same_run(
    content: Mapping[str, Any], recipe: Recipe, situation: Mapping[str, Any], *, allowed: bool
) -> list[str]:
    """Compare what a run was trained by with what it would go on by.

    Trainer options that change no number, callbacks and loggers may have changed, and where things
    lie.

    Args:
        content: The checkpoint.
        recipe: The recipe now.
        situation: See :func:`situation_of`.
        allowed: Whether differences are only told.

    Returns:
        The differences, in words.

    Raises:
        InvalidSetting: There are some, and they are not allowed; or they cannot be.
    """
    before = {**_decisive(content.get("recipe")), **content.get("situation", {})}
    now = {**_decisive(recipe.to_dict()), **situation}
    changed = [name for name in before if before[name] != now.get(name, before[name])]
    listed = [f"{name}: {before[name]!r} before, {now[name]!r} now" for name in changed]
    if listed and not allowed:
        raise InvalidSetting(
            f"the run has changed since it was saved ({'; '.join(listed)}); set it back, begin "
            "another run, or go on all the same with --allow-changed"
        )
    cut = {"images a batch", "batches a step"} & set(changed)
    if cut and not _at_epochs_end(content):  # the place within an epoch is a number of batches
        raise InvalidSetting(
            f"other {' and '.join(sorted(cut))} need a checkpoint at an epoch's end, and the "
            "newest lies within one; go on with the old numbers first"
        )
    return listed


def situation_of(trainer: L.Trainer, data: DataModule, recipe: Recipe) -> dict[str, Any]:
    """Return what a run's numbers hang on beside its recipe.

    Args:
        trainer: The run's, not attached yet.
        data: The opened data.
        recipe: Whose schedule may bend with the run's length, and whose class weights may be the
            data's.

    Raises:
        InvalidSetting: Class weights that do not go with the data.
    """
    ranks = trainer.world_size
    situation = {
        "data": data.fingerprint(),
        "images": {name: len(split) for name, split in data.splits.items()},
        "processes": ranks,
        "images a batch": data.settings.batch_size * ranks,
        "batches a step": trainer.accumulate_grad_batches,
    }
    if (classes := ClassWeights.of(recipe.model, data)) is not None:
        situation["class weights"] = named(classes.weights, data.labels)
    if recipe.schedule.name in ("cosine", "onecycle"):
        situation |= {"epochs": trainer.max_epochs, "steps": trainer.max_steps}
    return situation


def clear_later(run: Run, step: int, say: Callable[[str], None]) -> None:
    """Set aside what a run that goes on from a step cannot use: it would be in the way.

    Checkpoints of later steps are damaged, or were left out for another reason; the best weights of
    later steps come again, unless the run has changed. Damaged best weights are none.

    Args:
        run: The run; nobody else trains it.
        step: The step that it goes on from.
        say: Takes a line on each.
    """
    for kind in ("step", "best"):
        for own, folder in numbered(run.checkpoints, kind):
            reason = f"of a later step than {step}" if own > step else ""
            if kind == "best" and not reason:
                try:
                    verify(folder)
                except CorruptFile as error:
                    reason = str(error)
            if reason:
                say(f"set aside as {set_aside(folder)}: {reason}")


def _check_complete(folder: Path, content: Mapping[str, Any], step: int) -> None:
    if content["global_step"] != step:
        raise CorruptFile(f"{folder}: is of step {content['global_step']}, not of its name's")
    missing = [name for name, kind in _STATE.items() if not isinstance(content.get(name), kind)]
    if missing:
        raise CorruptFile(
            f"{folder}: training cannot go on from it (it holds no {', '.join(missing)})"
        )


def _at_epochs_end(content: Mapping[str, Any]) -> bool:
    loop = content["loops"]["fit_loop"]
    return bool(loop["epoch_loop.batch_progress"]["is_last_batch"])


def _decisive(recipe: Any) -> dict[str, Any]:
    """Return what fixes a run's numbers in its recipe, by dotted key; of no recipe, nothing."""
    keys: dict[str, Any] = {}
    for section, value in recipe.items() if isinstance(recipe, Mapping) else ():
        if isinstance(value, Mapping):
            keys |= {f"{section}.{name}": item for name, item in value.items()}
        else:
            keys[section] = value
    return {name: value for name, value in keys.items() if _decides(name)}


def _decides(key: str) -> bool:
    section, _, name = key.partition(".")
    if section == "trainer":
        return name in _TRAINER
    return key not in _TOLD and not key.startswith(_FREE)
