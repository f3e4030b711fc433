"""What a study trains: a packaged recipe, and what the study sets in it. Torch-free."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from resnet_hub.learning.settings import Recipe
from resnet_hub.learning.settings.recipe import LEARNING

Settings = Mapping[str, Any]
"""Values by a recipe's dotted keys."""

_FREE = (
    "net.checkpoint_blocks",
    "data.root",
    "data.cache_gb",
    "data.download",
    "data.workers",
    "data.resident",
    "data.timeout",
    "model.compile",
    "model.nonfinite",
    "model.most_nonfinite",
)
"""Keys of the compared sections that change none of a run's numbers, or its last bits alone."""
_TRAINER: Settings = {
    "max_steps": -1,
    "max_epochs": None,
    "precision": "32-true",
    "devices": 1,
    "num_nodes": 1,
    "accumulate_grad_batches": 1,
    "limit_train_batches": 1.0,
    "gradient_clip_val": None,
    "gradient_clip_algorithm": None,
}
"""Trainer options that do change them, and what each is where a recipe does not say."""


@dataclass(frozen=True)
class Member:
    """One net of a study.

    Attributes:
        net: Its name in the architecture table.
        label: What pictures and tables call it.
        recipe: A recipe of this package.
        settings: What the study sets in it; its seed and length come later.
        twist: What its folder is called beside its net, if two members have one net.
        panel: Of the figure: members that are drawn together.
        depth: Layers.
    """

    net: str
    label: str
    recipe: str
    settings: Settings = field(hash=False)
    twist: str = ""
    panel: str = ""
    depth: int = 0

    def folder(self, seed: int) -> str:
        """Return the name of a run's folder, such as ``cifar_plain20-seed0``."""
        return f"{self.net}-{self.twist}-seed{seed}" if self.twist else f"{self.net}-seed{seed}"


def as_flags(settings: Settings) -> list[str]:
    """Return settings as flags of ``resnet-hub fit``."""
    return [
        f"--{key}={value if isinstance(value, str) else json.dumps(value)}"
        for key, value in settings.items()
    ]


def shortened(recipe: Recipe, steps: int) -> dict[str, Any]:
    """Return what makes a recipe another number of steps long, its schedule in proportion.

    Milestones and a warm-up in epochs are scaled too, and may be fractions then.

    Args:
        recipe: Ends after a number of steps.
        steps: Of the new run, at least 1.
    """
    if steps == recipe.trainer["max_steps"]:
        return {}
    share = steps / recipe.trainer["max_steps"]
    scaled: dict[str, Any] = {"trainer.max_steps": steps}
    rounds = round if recipe.schedule.unit == "iterations" else float
    if recipe.schedule.milestones:
        scaled["schedule.milestones"] = [
            max(1, rounds(share * milestone)) for milestone in recipe.schedule.milestones
        ]
    if recipe.schedule.warmup:
        scaled["schedule.warmup"] = rounds(share * recipe.schedule.warmup)
    return scaled


def at_length(recipe: Recipe, steps: int) -> Recipe:
    """Return a recipe of another number of steps; see :func:`shortened`."""
    changes = shortened(recipe, steps)
    schedule: dict[str, Any] = {
        key.removeprefix("schedule."): tuple(value) if isinstance(value, list) else value
        for key, value in changes.items()
        if key.startswith("schedule.")
    }
    return replace(
        recipe,
        schedule=replace(recipe.schedule, **schedule),
        trainer={**recipe.trainer, "max_steps": steps},
    )


def differences(asked: Recipe, found: Recipe, *, ignore: Sequence[str] = ()) -> list[str]:
    """Return in words where two recipes give other numbers: ``key: this there, that asked``.

    Where data lie, how they are read, and what is saved and told does not count.

    Args:
        asked: The recipe that is wanted.
        found: The recipe of a run.
        ignore: More keys that do not count.
    """
    before, now = dict(_numbers(found)), dict(_numbers(asked))
    return [
        f"{key}: {before.get(key)!r} there, {now.get(key)!r} asked"
        for key in {**now, **before}
        if before.get(key) != now.get(key) and key not in ignore
    ]


def _numbers(recipe: Recipe) -> Iterator[tuple[str, Any]]:
    content = recipe.to_dict()
    for section in ("net", "data", *LEARNING):
        value = content[section]
        if not isinstance(value, Mapping):
            yield section, value
            continue
        for name, item in value.items():
            if (key := f"{section}.{name}") not in _FREE:
                yield key, item
    for name, usual in _TRAINER.items():
        value = content["trainer"].get(name)
        yield f"trainer.{name}", usual if value is None else value
