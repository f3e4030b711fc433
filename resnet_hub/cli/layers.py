"""Recipe files and flags as layers: nested values, each with the place it came from."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from resnet_hub.errors import DataMissing, InvalidSetting, did_you_mean

Key = tuple[str, ...]

NAMED = ("net", "data", "optimizer", "schedule")
"""Sections whose bare value is their name: ``--data Cifar10`` is ``--data.name Cifar10``."""


@dataclass
class Layer:
    """Nested values, and where each key stands.

    Attributes:
        values: As YAML has them.
        places: ``file:line`` or the flag, by key.
    """

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[Key, str] = field(default_factory=dict)

    def place(self, key: Key) -> str:
        """Return where a key, or the nearest one above it, stands."""
        while key and key not in self.places:
            key = key[:-1]
        return self.places.get(key, "recipe")

    def over(self, below: "Layer") -> "Layer":
        """Return this layer laid over another: mappings merge, anything else replaces."""
        return Layer(_merged(below.values, self.values), {**below.places, **self.places})


def find_recipe(name: str) -> Path:
    """Return a recipe's file: a path wins, else a recipe of this package by its name.

    Raises:
        DataMissing: Neither; the message offers the nearest recipe.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    folder = packaged_recipes()
    if (packaged := folder / f"{name}.yaml").is_file():
        return packaged
    names = [recipe.stem for recipe in folder.glob("*.yaml")]
    hint = did_you_mean(path.stem, names) or f"; recipes here: {', '.join(sorted(names))}"
    raise DataMissing(f"{name}: no such recipe file{hint}")


def packaged_recipes() -> Path:
    """Return the folder of this package's recipes: in the wheel, or beside it in a checkout."""
    package = Path(str(files("resnet_hub")))
    inside = package / "recipes"
    return inside if inside.is_dir() else package.parent / "recipes"


def read_file(path: Path) -> Layer:
    """Read a recipe file.

    Raises:
        InvalidSetting: Not YAML, or with aliases, a key twice, or numbers that are none.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise InvalidSetting(f"{path}: YAML aliases are not read; write the value out")
        node = yaml.compose(text, yaml.SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or error
        raise InvalidSetting(f"{path}{line}: not YAML ({reason})") from error
    layer = Layer()
    if node is None:
        return layer
    if not isinstance(node, yaml.MappingNode):
        raise InvalidSetting(f"{path}: a recipe is a mapping of sections")
    layer.values = _constructed(node, str(path), (), layer.places)
    return _expanded(layer)


def read_flags(arguments: Sequence[str]) -> tuple[Layer, list[str]]:
    """Read ``--section.key value`` flags.

    Returns:
        Their layer, and the arguments that are no flags.

    Raises:
        InvalidSetting: A flag without a value, or one that is not YAML.
    """
    layer, others = Layer(), []
    rest = list(arguments)
    while rest:
        flag = rest.pop(0)
        if not flag.startswith("--"):
            others.append(flag)
            continue
        name, equals, text = flag[2:].partition("=")
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise InvalidSetting(f"{flag}: needs a value")
            text = rest.pop(0)
        key = tuple(name.split("."))
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise InvalidSetting(f"--{name}: {text!r} is not YAML") from error
        _refuse_odd_numbers(value, f"--{name}")
        one = Layer(places={key: f"--{name}"})
        inner = one.values
        for part in key[:-1]:
            inner = inner.setdefault(part, {})
        inner[key[-1]] = value
        layer = _expanded(one).over(layer)
    return layer, others


def _constructed(node: yaml.MappingNode, path: str, above: Key, places: dict[Key, str]) -> Any:
    values: dict[str, Any] = {}
    for name_node, value_node in node.value:
        name, place = str(name_node.value), f"{path}:{name_node.start_mark.line + 1}"
        key = (*above, name)
        if name in values:
            raise InvalidSetting(f"{place}: {'.'.join(key)} stands there twice")
        places[key] = place
        if isinstance(value_node, yaml.MappingNode):
            values[name] = _constructed(value_node, path, key, places)
        else:
            loader = yaml.SafeLoader("")
            values[name] = loader.construct_object(value_node, deep=True)
            _refuse_odd_numbers(values[name], f"{place}: {'.'.join(key)}")
    return values


def _refuse_odd_numbers(value: Any, where: str) -> None:
    items = value.values() if isinstance(value, Mapping) else value
    if isinstance(value, Mapping | list):
        for item in items:
            _refuse_odd_numbers(item, where)
    elif isinstance(value, float) and not math.isfinite(value):
        raise InvalidSetting(f"{where}: {value} is no finite number")


def _expanded(layer: Layer) -> Layer:
    for section in NAMED:
        value = layer.values.get(section)
        if isinstance(value, str):
            layer.values[section] = {"name": value}
            layer.places[(section, "name")] = layer.places[(section,)]
    return layer


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for name, value in above.items():
        old = merged.get(name)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            value = _merged(old, value)
        merged[name] = value
    return merged
