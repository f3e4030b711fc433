"""Runs as they lie in their folders, and which of them differ in their seed alone."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnet_hub.learning.settings import Recipe

_FREE = (
    "seed",
    "callbacks",
    "logger",
    "checkpoint.",
    "progress.",
    "distributed.",
    "data.root",
    "data.cache_gb",
    "data.download",
    "data.workers",
    "data.timeout",
    "trainer.log_every_n_steps",
    "trainer.enable_progress_bar",
)
"""How the keys begin that may differ between two runs of one recipe."""
_TOLD = 2  # settings that a label names


@dataclass(frozen=True)
class Trained:
    """One run, finished or not.

    Attributes:
        folder: Its folder.
        recipe: What it was trained by.
        rows: What its metrics.csv holds.
    """

    folder: Path
    recipe: Recipe
    rows: list[dict[str, float]]

    @property
    def net(self) -> str:
        """The net's name, or where its weights come from."""
        return self.recipe.net.name or self.recipe.net.weights or "a net"

    @property
    def decisive(self) -> dict[str, Any]:
        """The recipe's settings that make it what it is, by their dotted names."""
        settings = flattened(self.recipe.to_dict())
        return {name: value for name, value in settings if not name.startswith(_FREE)}


@dataclass(frozen=True)
class Seeds:
    """Runs that differ in their seed alone.

    Attributes:
        label: The net's name, and what tells it from others of that name.
        runs: One at least.
    """

    label: str
    runs: tuple[Trained, ...]


def flattened(content: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested settings by their dotted names."""
    for name, value in content.items():
        if isinstance(value, Mapping) and value:
            yield from flattened(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def by_recipe(runs: Sequence[Trained]) -> list[Seeds]:
    """Put runs of one recipe together, in the order of the first of each."""
    found: dict[str, list[Trained]] = {}
    for run in runs:
        found.setdefault(json.dumps(run.decisive, sort_keys=True), []).append(run)
    groups = list(found.values())
    labels = [_label(group[0], [other[0] for other in groups]) for group in groups]
    return [
        Seeds(label if labels.count(label) == 1 else f"{label}, {group[0].folder}", tuple(group))
        for label, group in zip(labels, groups, strict=True)
    ]


def _label(run: Trained, others: Sequence[Trained]) -> str:
    """Return a run's net, and the first settings that tell it from others with the same net."""
    namesakes = [other.decisive for other in others if other.net == run.net]
    own = run.decisive
    differing = [name for name in own if any(other.get(name) != own[name] for other in namesakes)]
    told = [f"{name} {_short(own[name])}" for name in differing[:_TOLD]]
    return ", ".join([run.net, *told])


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
