"""``resnet-hub tune``: a learning rate, or a batch size, to begin with."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_hub.cli.layers import Layer, read_flags
from resnet_hub.cli.recipes import read_recipe
from resnet_hub.errors import InvalidSetting
from resnet_hub.learning.settings import Recipe
from resnet_hub.paths import expanded

if TYPE_CHECKING:
    from resnet_hub.learning.tuning import Batch, Rates

HELP = """usage: resnet-hub tune RECIPE... lr [--key value ...] [--plot FILE.png] [--from LR]
                       [--to LR] [--steps N] [--json]
       resnet-hub tune RECIPE... batch [--key value ...] [--most N] [--json]

Tries a recipe out and prints what to begin with. Nothing is written but the plot.

lr      train for --steps (100) steps while the learning rate rises from --from (1e-6) to --to (10),
        and suggest the one at which the loss falls most steeply. --plot draws loss over rate.
batch   double data.batch_size from 2 until it no longer fits on the device, or is --most (8192).
        On a CPU --most has to be given.

  resnet-hub tune cifar10_resnet56 lr --plot lr.png
  resnet-hub tune imagenet_r18 batch --data.root /data/imagenet
"""

Numbers = dict[str, float | None]
Answer = tuple[list[str], dict[str, Any]]
"""Lines for a person, and the same as plain values."""

_NUMBERS: dict[str, Numbers] = {
    "lr": {"from": 1e-6, "to": 10.0, "steps": 100},
    "batch": {"most": None},
}
"""What each search takes beside a recipe's keys, and takes without them."""


def tune_command(arguments: list[str]) -> int:
    """Run ``resnet-hub tune``."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(HELP)
        return 0
    as_json = "--json" in arguments
    flags, names = read_flags([argument for argument in arguments if argument != "--json"])
    if len(names) < 2 or names[-1] not in _NUMBERS:
        raise InvalidSetting(
            "tune: needs a recipe, then lr or batch (see `resnet-hub tune --help`)"
        )
    what = names.pop()
    numbers = {name: _number(flags, name, own) for name, own in _NUMBERS[what].items()}
    plot = _plot(flags) if what == "lr" else None
    recipe = read_recipe(names, flags)

    from resnet_hub.cli import stdout
    from resnet_hub.cli.console import group, quiet, say
    from resnet_hub.learning.processes.stopping import Interrupted

    quiet()
    try:
        with stdout.clear(), group():
            found = _lr(recipe, numbers, plot) if what == "lr" else _batch(recipe, numbers)
    except Interrupted as stop:
        return stop.code
    lines, facts = found
    for line in [json.dumps(facts, allow_nan=False)] if as_json else lines:
        say(line)
    return 0


def _lr(recipe: Recipe, numbers: Numbers, plot: Path | None) -> Answer:
    from resnet_hub.cli.console import is_first, shows_bar
    from resnet_hub.curves import draw_rates
    from resnet_hub.learning.tuning import find_lr

    least, most, steps = (float(numbers[name] or 0) for name in ("from", "to", "steps"))
    found = find_lr(recipe, least=least, most=most, steps=int(steps), bar=shows_bar())
    lines = _of_rates(found, recipe)
    if plot:
        lines.append(f"plot: {plot}")
        if is_first():
            curves = (found.rates, found.losses, found.smoothed)
            draw_rates(*curves, plot, suggestion=found.suggestion)
    return lines, {**asdict(found), "setting": _setting(found, recipe)}


def _batch(recipe: Recipe, numbers: Numbers) -> Answer:
    from resnet_hub.learning.tuning import find_batch_size

    most = numbers["most"]
    found = find_batch_size(recipe, most=None if most is None else int(most))
    return _of_batch(found, recipe), asdict(found)


def _of_rates(found: "Rates", recipe: Recipe) -> list[str]:
    tried = f"{found.rates[0]:.2g} to {found.rates[-1]:.2g} in {len(found.rates)} steps"
    images = f"{found.step_images:,} images a step"
    setting = _setting(found, recipe)
    if setting is None:
        return [
            f"no suggestion: from {tried} the loss never fell by more than its noise; take more "
            "--steps, or another range"
        ]
    told = f"learning rate {found.suggestion:.2g} with {images}: the steepest descent from {tried}"
    lines = [f"{told}; the loss was least at {found.lowest:.2g}"]
    if found.is_open:
        lines.append("the loss still fell at the end; a larger --to would say more")
    scaled = " (scaled: for 256 images a step)" if recipe.optimizer.scaled else ""
    return [*lines, f"try it: --optimizer.lr {setting:.2g}{scaled}"]


def _setting(found: "Rates", recipe: Recipe) -> float | None:
    """Return what ``optimizer.lr`` has to be for the suggestion to be in force."""
    if found.suggestion is None or not recipe.optimizer.scaled:
        return found.suggestion
    return found.suggestion * 256 / found.step_images


def _of_batch(found: "Batch", recipe: Recipe) -> list[str]:
    end = "twice as many do not" if found.is_edge else "nothing larger was tried"
    lr = "follows it" if recipe.optimizer.scaled else "does not follow it (optimizer.scaled)"
    return [
        f"batches of {found.size:,} images fit on {found.device}; {end}",
        f"try it: --data.batch_size {found.size}; the learning rate {lr}",
    ]


def _plot(flags: Layer) -> Path | None:
    value = flags.values.pop("plot", None)
    if value is None:
        return None
    path = expanded(value)
    if path.suffix.lower() != ".png" or path.is_dir() or not path.parent.is_dir():
        raise InvalidSetting(f"--plot {path}: give a .png file in a folder that is there")
    return path


def _number(flags: Layer, name: str, own: float | None) -> float | None:
    text = flags.values.pop(name, None)
    if text is None:
        return own
    try:
        return float(text) if isinstance(own, float) else int(text)
    except ValueError as error:
        raise InvalidSetting(f"--{name}: {text!r} is no number") from error
