"""From layers to a checked recipe: keys, types and values refused with their place and nearest."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, get_args, get_type_hints

from jsonargparse import ArgumentError, ArgumentParser

from resnet_hub.cli.layers import Layer, find_recipe, read_file
from resnet_hub.cli.schema import SECTIONS, Key, choices, kind_of, takes_text, trainer_options
from resnet_hub.cli.trainer import check_trainer, has_end, refuse_own
from resnet_hub.errors import InvalidSetting, ResNetHubError, did_you_mean
from resnet_hub.learning.settings import Recipe
from resnet_hub.zoo import find_row


class Refused(InvalidSetting):
    """What is refused of one key of a layer, said with its place.

    Attributes:
        key: The key.

    Args:
        key: The key.
        layer: Knows its place.
        reason: What was wrong, and what to do.
    """

    def __init__(self, key: Key, layer: Layer, reason: object) -> None:
        super().__init__(f"{layer.place(key)}: {reason}")
        self.key = key


def read_recipe(names: Sequence[str], flags: Layer) -> Recipe:
    """Read recipe files and flags into one checked recipe to train by; the later one wins.

    Args:
        names: Paths, or names of this package's recipes.
        flags: What the command line says.

    Raises:
        ResNetHubError: A file, key or value is refused, or nothing says when training ends; the
            message says where it stands.
    """
    layer = Layer()
    for name in names:
        layer = read_file(find_recipe(name)).over(layer)
    return whole(flags.over(layer))


def whole(layer: Layer) -> Recipe:
    """Check a layer that is to be trained by, and return its recipe.

    Raises:
        Refused: A key or value, or nothing says when training ends.
    """
    recipe = check(layer)
    if not has_end(recipe.trainer):
        raise Refused(
            ("trainer", "max_epochs"),
            layer,
            "trainer: give max_epochs or max_steps, the length of the run (max_time can only end "
            "it sooner)",
        )
    return recipe


def check(layer: Layer) -> Recipe:
    """Check a layer's keys, types and values, and return its recipe.

    Raises:
        Refused: A key or value; the message names the place, the key and the nearest one.
    """
    trainer = trainer_options()
    known = {f.name for f in fields(Recipe)}
    for name, value in layer.values.items():
        _known((name,), known, layer)
        if name in SECTIONS or name == "trainer":
            if not isinstance(value, Mapping):
                raise Refused((name,), layer, f"{name} is a section of keys")
            section = trainer if name == "trainer" else SECTIONS[name]
            for key in value:
                _known((name, key), {f.name for f in fields(section)}, layer)
    for name in layer.values.get("trainer", {}):
        with _placed(("trainer", name), layer):
            refuse_own(name)
    return _typed(layer, trainer)


def _typed(layer: Layer, trainer: type) -> Recipe:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--seed", type=int, default=0)
    for name, kind in {**SECTIONS, "trainer": trainer}.items():
        parser.add_argument(f"--{name}", type=kind, default={})
    lists = {name: _entries(name, layer) for name in ("callbacks", "logger")}
    values = {n: v for n, v in layer.values.items() if n not in lists}
    try:
        parsed = parser.parse_object(values)
    except ArgumentError as error:
        raise _refusal(str(error), layer) from error
    if parsed.seed is None:
        raise Refused(("seed",), layer, "seed: needs a number")
    given = layer.values.get("trainer", {})
    options = {name: getattr(parsed.trainer, name) for name in given}
    for name, value in given.items():
        if isinstance(value, str) and takes_text(("trainer", name)):
            options[name] = value  # jsonargparse would make a number of 1:30:00
    _refuse_nulls("trainer", options, trainer, layer)
    for name, value in options.items():
        with _placed(("trainer", name), layer):
            check_trainer(name, value)
    sections: dict[str, Any] = {}
    for name, kind in SECTIONS.items():
        values = vars(getattr(parsed, name))
        _refuse_nulls(name, values, kind, layer)
        try:
            sections[name] = kind(**values)
        except ResNetHubError as error:
            key = tuple(str(error).partition(":")[0].split("."))
            raise Refused(key, layer, error) from error
    if (net := sections["net"].name) is not None:
        try:
            find_row(net)
        except ResNetHubError as error:
            raise Refused(("net", "name"), layer, f"net.name: {error}") from error
    return Recipe(seed=parsed.seed, trainer=options, **{**sections, **lists})


@contextmanager
def _placed(key: Key, layer: Layer) -> Iterator[None]:
    """Name the key's place in what is refused inside the block."""
    try:
        yield
    except ResNetHubError as error:
        raise Refused(key, layer, error) from error


def _entries(name: str, layer: Layer) -> tuple[Any, ...]:
    value = layer.values.get(name) or []
    entries = value if isinstance(value, list) else [value]
    for entry in entries:
        known = isinstance(entry, Mapping) and set(entry) <= {"class_path", "init_args"}
        if not known and not isinstance(entry, str):
            raise Refused((name,), layer, f"{name} is a list of class_path and init_args")
    return tuple(entries)


def _refuse_nulls(name: str, values: Mapping[str, Any], kind: type, layer: Layer) -> None:
    """Refuse ``null`` where a value is needed: jsonargparse takes it for any type."""
    wanted = get_type_hints(kind)
    for key, value in values.items():
        if value is None and wanted[key] is not Any and type(None) not in get_args(wanted[key]):
            raise Refused((name, key), layer, f"{name}.{key}: needs a value")


def _known(key: Key, names: set[str], layer: Layer) -> None:
    if key[-1] not in names:
        dotted = ".".join(key)
        hint = did_you_mean(key[-1], names) or f"; known: {', '.join(sorted(names))}"
        raise Refused(key, layer, f"unknown key {dotted!r}{hint}")


def _refusal(message: str, layer: Layer) -> InvalidSetting:
    """Return in our words what jsonargparse refused: where, which key, the nearest value."""
    found = re.search(r'key "([\w.]+)":\s*(.*)', message, re.DOTALL)
    if not found:
        return InvalidSetting(" ".join(message.split()))
    key, reason = tuple(found[1].split(".")), " ".join(found[2].split())
    value: Any = layer.values
    for part in key:
        value = value.get(part) if isinstance(value, Mapping) else None
    hint = did_you_mean(str(value), choices(kind_of(key)))
    reason = re.sub(r"typing\.|<class '(\w+)'>", lambda m: m[1] or "", reason)
    if "Union subtypes" in reason:
        kinds = re.findall(r"- (Expected .*?)(?= - Expected| Given value)", reason)
        kinds = [kind for kind in kinds if "NoneType" not in kind]
        reason = f"{' or '.join(kinds)}. Got value: {value}"
    return Refused(key, layer, f"{'.'.join(key)}: {reason}{hint}")
