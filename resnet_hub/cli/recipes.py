"""From layers to a checked recipe: keys, types and values refused with their place and nearest."""

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import field, fields, make_dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Optional, Union, get_args, get_type_hints

from jsonargparse import ArgumentError, ArgumentParser

from resnet_hub.cli.layers import Key, Layer, find_recipe, read_file
from resnet_hub.data.settings import DataSettings
from resnet_hub.errors import InvalidSetting, ResNetHubError, did_you_mean
from resnet_hub.learning.settings import (
    ModelSettings,
    NetSettings,
    OptimizerSettings,
    Recipe,
    ScheduleSettings,
)
from resnet_hub.zoo import find_row

SECTIONS: dict[str, type] = {
    "net": NetSettings,
    "data": DataSettings,
    "model": ModelSettings,
    "optimizer": OptimizerSettings,
    "schedule": ScheduleSettings,
}
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
OWN = {
    "logger": "use the recipe's `logger:`",
    "callbacks": "use the recipe's `callbacks:`",
    "plugins": "checkpoints are written by a plugin of this package",
    "default_root_dir": "use --out",
    "use_distributed_sampler": "the data modules' samplers know the ranks",
    "enable_checkpointing": "a run always saves its checkpoints",
    "barebones": "a run always logs and saves",
    "overfit_batches": "use --trainer.limit_train_batches",
    "fast_dev_run": "use --trainer.limit_train_batches 2 --trainer.max_epochs 1",
}
"""Trainer options that a run sets itself, and what to use instead."""
LEAST = {"accumulate_grad_batches": 1, "check_val_every_n_epoch": 1, "log_every_n_steps": 0}
"""Trainer options that Lightning takes any number for, and divides by it later."""


def read_recipe(names: Sequence[str], flags: Layer) -> Recipe:
    """Read recipe files and flags into one checked recipe; the later one wins.

    Args:
        names: Paths, or names of this package's recipes.
        flags: What the command line says.

    Raises:
        ResNetHubError: A file, key or value is refused; the message says where it stands.
    """
    layer = Layer()
    for name in names:
        layer = read_file(find_recipe(name)).over(layer)
    return check(flags.over(layer))


def check(layer: Layer) -> Recipe:
    """Check a layer's keys, types and values, and return its recipe.

    Raises:
        InvalidSetting: The message names the place, the key and the nearest one.
    """
    trainer = trainer_options()
    known = {f.name for f in fields(Recipe)}
    for name, value in layer.values.items():
        _known((name,), known, layer)
        if name in SECTIONS or name == "trainer":
            if not isinstance(value, Mapping):
                raise InvalidSetting(f"{layer.place((name,))}: {name} is a section of keys")
            section = trainer if name == "trainer" else SECTIONS[name]
            for key in value:
                _known((name, key), {f.name for f in fields(section)}, layer)
    for key, instead in OWN.items():
        if key in layer.values.get("trainer", {}):
            place = layer.place(("trainer", key))
            raise InvalidSetting(f"{place}: trainer.{key} is set by the run; {instead}")
    return _typed(layer, trainer)


def trainer_options() -> type:
    """Return a dataclass of Lightning's Trainer arguments, read from its source, not imported."""
    spec = find_spec("lightning")
    if spec is None or not spec.submodule_search_locations:
        raise InvalidSetting("lightning is not installed; pip install lightning")
    source = Path(spec.submodule_search_locations[0]) / "pytorch" / "trainer" / "trainer.py"
    tree = ast.parse(source.read_text(encoding="utf-8"))
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    trainer = next(node for node in classes if node.name == "Trainer")
    init = next(
        node
        for node in trainer.body
        if isinstance(node, ast.FunctionDef) and node.name == "__init__"
    )
    kinds = [(arg.arg, _plain_type(arg)) for arg in init.args.kwonlyargs]
    return make_dataclass("Trainer", [(n, kind, field(default=None)) for n, kind in kinds])


def _plain_type(argument: ast.arg) -> Any:
    """Return an argument's type where it is made of plain ones, else ``Any``."""
    if argument.arg == "precision":
        return Precision | None
    if argument.annotation is None:
        return Any
    plain = {"int": int, "float": float, "bool": bool, "str": str, "list": list, "dict": dict}
    names = {"Optional": Optional, "Union": Union, "Literal": Literal, **plain}
    try:
        text = ast.unparse(argument.annotation)
        # Lightning's own source, with nothing but these types in reach.
        return eval(f"Optional[{text}]", {"__builtins__": {}}, names)  # noqa: S307
    except (NameError, TypeError):
        return Any


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
        raise InvalidSetting(_refusal(str(error), layer)) from error
    if parsed.seed is None:
        raise InvalidSetting(f"{layer.place(('seed',))}: seed: needs a number")
    given = layer.values.get("trainer", {})
    options = {n: v for n, v in vars(parsed.trainer or object()).items() if n in given}
    for name, least in LEAST.items():
        if (value := options.get(name)) is not None and value < least:
            place = layer.place(("trainer", name))
            raise InvalidSetting(f"{place}: trainer.{name}: {value} is below {least}")
    sections: dict[str, Any] = {}
    for name, kind in SECTIONS.items():
        values = vars(getattr(parsed, name))
        _refuse_nulls(name, values, kind, layer)
        try:
            sections[name] = kind(**values)
        except ResNetHubError as error:
            key = tuple(str(error).partition(":")[0].split("."))
            raise InvalidSetting(f"{layer.place(key)}: {error}") from error
    if (net := sections["net"].name) is not None:
        try:
            find_row(net)
        except ResNetHubError as error:
            raise InvalidSetting(f"{layer.place(('net', 'name'))}: net.name: {error}") from error
    return Recipe(seed=parsed.seed, trainer=options, **{**sections, **lists})


def _entries(name: str, layer: Layer) -> tuple[Any, ...]:
    value = layer.values.get(name) or []
    entries = value if isinstance(value, list) else [value]
    for entry in entries:
        known = isinstance(entry, Mapping) and set(entry) <= {"class_path", "init_args"}
        if not known and not isinstance(entry, str):
            raise InvalidSetting(
                f"{layer.place((name,))}: {name} is a list of class_path and init_args"
            )
    return tuple(entries)


def _refuse_nulls(name: str, values: Mapping[str, Any], kind: type, layer: Layer) -> None:
    """Refuse ``null`` where a value is needed: jsonargparse takes it for any type."""
    for key, wanted in get_type_hints(kind).items():
        if values[key] is None and type(None) not in get_args(wanted):
            raise InvalidSetting(f"{layer.place((name, key))}: {name}.{key}: needs a value")


def _known(key: Key, names: set[str], layer: Layer) -> None:
    if key[-1] not in names:
        dotted = ".".join(key)
        hint = did_you_mean(key[-1], names) or f"; known: {', '.join(sorted(names))}"
        raise InvalidSetting(f"{layer.place(key)}: unknown key {dotted!r}{hint}")


def _refusal(message: str, layer: Layer) -> str:
    """Say in our words what jsonargparse refused: where, which key, the nearest value."""
    found = re.search(r'key "([\w.]+)":\s*(.*)', message, re.DOTALL)
    if not found:
        return " ".join(message.split())
    key, reason = tuple(found[1].split(".")), " ".join(found[2].split())
    section = SECTIONS.get(key[0])
    value: Any = layer.values
    for part in key:
        value = value.get(part) if isinstance(value, Mapping) else None
    hint = ""
    if section is not None and len(key) > 1:
        hint = did_you_mean(str(value), _choices(get_type_hints(section).get(key[1])))
    elif key == ("trainer", "precision"):
        hint = did_you_mean(str(value), get_args(Precision))
    reason = re.sub(r"typing\.|<class '(\w+)'>", lambda m: m[1] or "", reason)
    if "Union subtypes" in reason:
        kinds = re.findall(r"- (Expected .*?)(?= - Expected| Given value)", reason)
        kinds = [kind for kind in kinds if "NoneType" not in kind]
        reason = f"{' or '.join(kinds)}. Got value: {value}"
    return f"{layer.place(key)}: {'.'.join(key)}: {reason}{hint}"


def _choices(kind: Any) -> list[str]:
    """Return the strings that a (possibly optional) Literal allows."""
    found = []
    for argument in get_args(kind):
        found += [argument] if isinstance(argument, str) else _choices(argument)
    return found
