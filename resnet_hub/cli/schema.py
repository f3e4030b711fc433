"""What a recipe may say: its keys and their types, read from the settings and from Lightning."""

import ast
from collections.abc import Mapping
from dataclasses import field, fields, is_dataclass, make_dataclass
from functools import cache, reduce
from importlib.util import find_spec
from operator import or_
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from resnet_hub.errors import InvalidSetting
from resnet_hub.learning.settings import Recipe

Key = tuple[str, ...]

SECTIONS: dict[str, type] = {
    f.name: cast(type, f.default_factory) for f in fields(Recipe) if is_dataclass(f.default_factory)
}
NAMED = ("net", "data", "optimizer", "schedule")
"""Sections whose bare value is their name: ``--data Cifar10`` is ``--data.name Cifar10``."""

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


class _InOrder:
    """Joins types as ``typing.Union`` does, in the order that is written.

    Typing keeps one object for equal unions, so that another library's ``Union[float, int]`` would
    come back for ``Union[int, float]``, and 6 be read as 6.0.
    """

    def __init__(self, *more: Any) -> None:
        self._more = more

    def __getitem__(self, kinds: Any) -> Any:
        return reduce(or_, (*(kinds if isinstance(kinds, tuple) else (kinds,)), *self._more))


_PLAIN: Mapping[str, Any] = {
    **{kind.__name__: kind for kind in (int, float, bool, str, list, dict)},
    **{"Optional": _InOrder(None), "Union": _InOrder(), "Literal": Literal},
    "_LITERAL_WARN": Literal["warn"],
    **dict.fromkeys(("Accelerator", "Profiler", "Strategy", "timedelta"), str),
}
"""What Lightning's annotations are made of; a recipe writes objects out as text."""


@cache
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


def has_key(key: Key) -> bool:
    """Whether a recipe has this key, or the value around it (``seed.x``), whose say it then is."""
    return kind_of(key) is not None


def takes_text(key: Key) -> bool:
    """Whether a key's value may be a string, any one."""
    return str in _alternatives(kind_of(key))


def is_string(key: Key) -> bool:
    """Whether a key's value is one string: ``str | None``, a Literal of strings."""
    kinds = _alternatives(kind_of(key))
    return all(kind is str or get_origin(kind) is Literal for kind in kinds) and is_text(key)


def is_text(key: Key) -> bool:
    """Whether a key's bare values are strings, in a list or alone: also ``tuple[str, ...]``."""
    named = len(key) == 1 and key[0] in NAMED
    bare = _bare(kind_of((*key, "name") if named else key))
    return bool(bare) and bare <= {str}


@cache
def kind_of(key: Key) -> Any:
    """Return the type of a recipe's key: ``Any`` inside a value, ``None`` for an unknown key."""
    kind: Any = Recipe
    for part in key:
        if not is_dataclass(kind):
            return Any
        kinds = get_type_hints(kind)
        if kind is Recipe:
            kinds["trainer"] = trainer_options()
        kind = kinds.get(part)
    return kind


def choices(kind: Any) -> list[str]:
    """Return the strings that a (possibly optional) Literal allows."""
    found = []
    for argument in get_args(kind):
        found += [argument] if isinstance(argument, str) else choices(argument)
    return found


def _alternatives(kind: Any) -> list[Any]:
    """Return what a type is a union of, ``None`` left out."""
    if get_origin(kind) not in (Union, UnionType):
        return [] if kind is NoneType else [kind]
    return [inner for argument in get_args(kind) for inner in _alternatives(argument)]


def _bare(kind: Any) -> set[Any]:
    """Return the types that a type's values have when they are no list and no mapping."""
    found: set[Any] = set()
    for inner in _alternatives(kind):
        if get_origin(inner) is Literal:
            found |= {type(value) for value in get_args(inner)}
        elif get_origin(inner) in (tuple, list):
            found = found.union(*map(_bare, get_args(inner)))
        elif get_origin(inner) is not dict and inner is not Ellipsis:
            found.add(inner)
    return found


def _plain_type(argument: ast.arg) -> Any:
    """Return an argument's type where it is made of plain ones, else ``Any``."""
    if argument.arg == "precision":
        return Precision | None
    if argument.annotation is None:
        return Any
    try:
        text = ast.unparse(argument.annotation)
        # Lightning's own source, with nothing but these types in reach: hence the noqa.
        return eval(text, {"__builtins__": {}}, dict(_PLAIN))  # noqa: S307
    except (NameError, TypeError):
        return Any
