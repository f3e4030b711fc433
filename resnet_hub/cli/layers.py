"""Recipe files and flags as layers: nested values, each with the place it came from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from resnet_hub.cli.plain_yaml import NULL, build, compose, read_text
from resnet_hub.cli.schema import NAMED, Key, has_key, is_string
from resnet_hub.errors import DataMissing, InvalidSetting, did_you_mean
from resnet_hub.paths import expanded


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
        """Return where a key, or the nearest one above or below it, stands."""
        for length in range(len(key), 0, -1):
            if (above := key[:length]) in self.places:
                return self.places[above]
        below = (place for other, place in self.places.items() if other[: len(key)] == key)
        return next(below, "recipe")

    def over(self, below: "Layer") -> "Layer":
        """Return this layer laid over another: mappings merge, anything else replaces."""
        kept = {
            key: place
            for key, place in below.places.items()
            if not _replaced(key, below.values, self.values)
        }
        return Layer(_merged(below.values, self.values), {**kept, **self.places})


def find_recipe(name: str) -> Path:
    """Return a recipe's file: a path wins, else a recipe of this package by its name.

    Raises:
        DataMissing: Neither; the message offers the nearest recipe.
    """
    path = expanded(name)
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
        OSError: It cannot be read.
    """
    layer, node = Layer(), compose(read_text(path), str(path))
    if node is None:
        return layer
    place = f"{path}:{node.start_mark.line + 1}"
    if node.tag != "tag:yaml.org,2002:map":
        raise InvalidSetting(f"{place}: a recipe is a mapping of sections")
    layer.values = build(node, (), layer.places, where=lambda n: f"{path}:{n.start_mark.line + 1}")
    return _expanded(layer)


def read_flags(arguments: Sequence[str]) -> tuple[Layer, list[str]]:
    """Read ``--section.key value`` flags: YAML, but text where a string is wanted.

    Returns:
        Their layer, and the arguments that are no flags.

    Raises:
        InvalidSetting: A flag without a value, or one that is not YAML.
    """
    given, others = flag_values(arguments)
    layer = Layer()
    for name, text in given:
        layer = _flag(name, text).over(layer)
    return layer, others


def flag_values(arguments: Sequence[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the flags, ``--name value`` or ``--name=value``, and the arguments that are none.

    Raises:
        InvalidSetting: A flag without a value; switches have to be taken out before.
    """
    flags, others = [], []
    rest = list(arguments)
    while rest:
        flag = rest.pop(0)
        if not flag.startswith("--"):
            others.append(flag)
            continue
        name, equals, text = flag[2:].partition("=")
        if not equals:
            if not rest or rest[0].startswith("--"):
                known = has_key(tuple(name.split(".")))
                unknown = "" if known else ", and is no switch of this command"
                raise InvalidSetting(f"{flag}: needs a value{unknown}")
            text = rest.pop(0)
        flags.append((name, text))
    return flags, others


def _flag(name: str, text: str) -> Layer:
    place, key = f"--{name}", tuple(name.split("."))
    layer = Layer(places={key: place})
    inner = layer.values
    for part in key[:-1]:
        inner = inner.setdefault(part, {})
    if not has_key(key):  # of a command, not of a recipe: the folder of --out may be called null
        inner[key[-1]] = text
    elif is_string(key):
        inner[key[-1]] = _string(text)
    else:
        node = compose(text, place)
        inner[key[-1]] = node and build(node, key, layer.places, where=lambda _: place)
    return _expanded(layer)


def _string(text: str) -> str | None:
    """Return a flag's text as it stands, unless YAML quotes it or calls it null."""
    try:
        node = compose(text, "--")
    except InvalidSetting:
        return text
    if node is None or node.tag == NULL:
        return None
    return str(node.value) if getattr(node, "style", None) in ("'", '"') else text


def _expanded(layer: Layer) -> Layer:
    for section in NAMED:
        value = layer.values.get(section)
        if isinstance(value, str):
            layer.values[section] = {"name": value}
            layer.places[(section, "name")] = layer.places[(section,)]
    return layer


def _replaced(key: Key, below: Mapping[str, Any], above: Mapping[str, Any]) -> bool:
    """Whether the layer above has another value for a key of the layer below, or around it."""
    for part in key:
        if part not in above:
            return False
        old, new = below.get(part), above[part]
        if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
            return True
        below, above = old, new
    return False


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for name, value in above.items():
        old = merged.get(name)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            value = _merged(old, value)
        merged[name] = value
    return merged
