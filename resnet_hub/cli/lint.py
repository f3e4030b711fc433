"""What can be told of a recipe from its text alone: what ``fit`` would refuse, and what is odd."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from resnet_hub.cli.layers import Layer, read_file
from resnet_hub.cli.plain_yaml import read_text
from resnet_hub.cli.recipes import Refused, whole
from resnet_hub.cli.schema import SECTIONS, Key, has_key
from resnet_hub.errors import ResNetHubError
from resnet_hub.learning.settings import Recipe


@dataclass(frozen=True)
class Finding:
    """Something about a recipe.

    Attributes:
        text: One line, which begins with the place: ``file:line``, or the flag.
        error: Whether ``fit`` would refuse it; else it is a warning.
    """

    text: str
    error: bool


_NOWHERE = "recipe: "
"""What stands before a message on a key that stands nowhere; see :meth:`Layer.place`."""


class _Remark(NamedTuple):
    key: Key
    text: str
    error: bool = False


def lint(path: Path, flags: Layer) -> list[Finding]:
    """Check a recipe file without torch, data or devices.

    Args:
        path: The file.
        flags: Laid over it.

    Returns:
        Errors first. Of the values of one section the first that is refused is told.
    """
    try:
        layer = flags.over(read_file(path))
        header = list(_about_header(path))
    except (ResNetHubError, OSError) as error:
        return [Finding(str(error), error=True)]
    recipe, errors = _checked(layer)
    found = [Finding(text, error=True) for text in errors]
    for remark in _about(recipe, layer) if recipe else ():
        found.append(Finding(f"{layer.place(remark.key)}: {remark.text}", error=remark.error))
    found += [Finding(f"{_NOWHERE}{text}", error=False) for text in header]
    placed = [
        replace(each, text=re.sub(f"^{_NOWHERE}", lambda _: f"{path}:1: ", each.text))
        for each in found
    ]
    return sorted(placed, key=lambda finding: not finding.error)


def opening(text: str) -> list[str]:
    """Return the comment lines that a recipe begins with, without their ends."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.rstrip())
    return lines


def _checked(layer: Layer) -> tuple[Recipe | None, list[str]]:
    """Return the recipe, and all that is refused: each time what was blamed is left out.

    The recipe is ``None`` where anything was.
    """
    errors: list[str] = []
    while True:
        try:
            recipe = whole(layer)
        except Refused as error:
            below = _without(layer, error.key)
            is_missing = below.values == layer.values
            if not (is_missing and errors):  # else what it misses may have been left out here
                errors.append(str(error))
            if is_missing:
                return None, errors
            layer = below
        except ResNetHubError as error:
            return None, [*errors, str(error)]
        else:
            return (None if errors else recipe), errors


def _without(layer: Layer, key: Key) -> Layer:
    """Return a layer without a key, and without its section where values there are one whole."""
    name, *inner = key
    rest = dict(layer.values)
    section = rest.pop(name, None)
    if inner and isinstance(section, Mapping) and (name not in SECTIONS or not has_key(key)):
        rest[name] = {k: v for k, v in section.items() if k != inner[0]}
    return Layer(rest, layer.places)


def _about(recipe: Recipe, layer: Layer) -> Iterator[_Remark]:
    if not (recipe.net.name or recipe.net.weights):
        yield _Remark(("net",), "net: neither name nor weights; fit will need one as a flag")
    if recipe.data.batch_size < 1:
        yield _Remark(("data", "batch_size"), "data.batch_size: must be at least 1", error=True)
    yield from _about_devices(recipe.trainer)
    if "batch_size" not in layer.values.get("data", {}):
        yield _Remark(("data",), f"data.batch_size: not given; {recipe.data.batch_size} is taken")
    if recipe.data.sampling == "balanced" and recipe.model.class_weights != "none":
        text = (
            "data.sampling: balanced, and model.class_weights count rare classes twice; leave one "
            "of them out"
        )
        yield _Remark(("data", "sampling"), text)
    yield from _about_schedule(recipe)


def _about_devices(trainer: Mapping[str, Any]) -> Iterator[_Remark]:
    on_cpu, devices = trainer.get("accelerator") == "cpu", trainer.get("devices")
    if on_cpu and trainer.get("precision") == "16-mixed":
        text = "trainer.precision: 16-mixed on a CPU would be bf16; use bf16-mixed"
        yield _Remark(("trainer", "precision"), text, error=True)
    if on_cpu and trainer.get("sync_batchnorm") and isinstance(devices, int) and devices > 1:
        text = "trainer.sync_batchnorm: torch has it for GPUs alone"
        yield _Remark(("trainer", "sync_batchnorm"), text, error=True)
    if not on_cpu and devices in (None, -1, "-1", "auto"):
        text = "trainer.devices: not given; every device found adds data.batch_size images a step"
        yield _Remark(("trainer", "devices"), text)


def _about_schedule(recipe: Recipe) -> Iterator[_Remark]:
    schedule, key = (
        recipe.schedule,
        "max_epochs" if recipe.schedule.unit == "epochs" else "max_steps",
    )
    if schedule.milestones and schedule.name != "multistep":
        text = f"schedule.milestones: {schedule.name} has none; only multistep steps there"
        yield _Remark(("schedule", "milestones"), text)
    end = recipe.trainer.get(key)
    if end is None or end < 0:  # in the other unit, whose size the data tell
        return
    beyond = [milestone for milestone in schedule.milestones if milestone >= end]
    if beyond and schedule.name == "multistep":
        text = f"{', '.join(f'{m:g}' for m in beyond)} never comes: trainer.{key} is {end}"
        yield _Remark(("schedule", "milestones"), f"schedule.milestones: {text}")
    if schedule.warmup >= end:
        text = (
            f"schedule.warmup: {schedule.warmup:g} is not shorter than the run, trainer.{key} {end}"
        )
        yield _Remark(("schedule", "warmup"), text)


def _about_header(path: Path) -> Iterator[str]:
    """Yield what a recipe's opening lacks of source, command, expectation and deviations."""
    lines = opening(read_text(path))
    found = dict(re.findall(r"^# ([A-Z]\w+) +(\S.*)$", "\n".join(lines[1:]), re.MULTILINE))
    wanted: Sequence[Sequence[str]] = (
        *(("Paper", "Source", "Net"), ("Command",), ("Expect",)),
        ("Differs", "Net"),  # a net's recipe of one's own differs from none
    )
    missing = [names[0] for names in wanted if not set(names) & found.keys()]
    if not lines:
        yield "opens with no comment: a title, then Paper or Source, Command, Expect, Differs"
    elif missing:
        yield f"its opening comment lacks {', '.join(missing)}"
    named = re.search(r"[\w.-]+\.yaml", found.get("Command", ""))
    if named and named[0] != path.name:
        yield f"its Command is for {named[0]}"
