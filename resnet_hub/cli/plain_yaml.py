"""YAML as recipes and flags are written: plain values in mappings and lists, nothing that grows."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from resnet_hub.cli.schema import Key, is_text
from resnet_hub.errors import InvalidSetting

LARGEST = 512 * 1024
"""Bytes of the largest recipe; reading must end before a person wonders."""
_DEEPEST, _MOST = 50, 20_000
_TAG = "tag:yaml.org,2002:"
_NUMBERS = (f"{_TAG}int", f"{_TAG}float")
_WORDS = (*_NUMBERS, *(_TAG + kind for kind in ("str", "bool", "timestamp", "value")))
"""What YAML makes of a plain word, ``null`` apart."""
NULL = f"{_TAG}null"


def read_text(path: Path) -> str:
    """Return a recipe's text.

    Raises:
        InvalidSetting: It is too large for one, or not UTF-8.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise InvalidSetting(f"{path}: over {LARGEST // 1024} KiB; no recipe is that large")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidSetting(f"{path}:{line}: not YAML (not UTF-8: {error.reason})") from error


def compose(text: str, where: str) -> yaml.Node | None:
    """Parse YAML and build nothing yet; what can grow without bound is refused.

    Args:
        text: The YAML.
        where: The file, or the flag.

    Raises:
        InvalidSetting: Not YAML, with anchors or aliases, nested too deep, or too long.
    """
    try:
        _refuse_growth(text, where)
        node: yaml.Node | None = yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark, position = getattr(error, "problem_mark", None), getattr(error, "position", None)
        line = mark.line if mark else None if position is None else text.count("\n", 0, position)
        reason = getattr(error, "problem", None) or getattr(error, "reason", None) or error
        raise InvalidSetting(f"{_at(where, line)}: not YAML ({reason})") from error
    return node


def build(
    node: yaml.Node, key: Key, places: dict[Key, str], *, where: Callable[[yaml.Node], str]
) -> Any:
    """Return a node's value, and fill in where each key stands.

    Args:
        node: From :func:`compose`.
        key: Whose value it is.
        places: Filled in.
        where: Tells a node's place.

    Raises:
        InvalidSetting: A key twice or none, a number that is none, or a value of YAML's other
            kinds.
    """
    if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
        values: dict[str, Any] = {}
        for name_node, value_node in node.value:
            inner = (*key, _name(name_node, key, where(name_node)))
            if inner[-1] in values:
                raise InvalidSetting(f"{where(name_node)}: {'.'.join(inner)} stands there twice")
            places[inner] = where(name_node)
            values[inner[-1]] = build(value_node, inner, places, where=where)
        return values
    if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
        return [build(item, key, {}, where=where) for item in node.value]
    place = f"{where(node)}: {'.'.join(key)}"
    if not isinstance(node, yaml.ScalarNode) or node.tag not in (*_WORDS, NULL):
        raise InvalidSetting(f"{place}: no value that can be read ({node.tag.replace(_TAG, '!!')})")
    base_60 = node.tag in _NUMBERS and ":" in node.value  # so YAML takes 1:30:00
    if base_60 or (node.tag in _WORDS and is_text(key)):
        return str(node.value)
    try:
        value = yaml.SafeLoader("").construct_object(node, deep=True)
    except (yaml.YAMLError, ValueError, KeyError) as error:  # ValueError: the 99th of a month
        reason = getattr(error, "problem", None) or error
        raise InvalidSetting(f"{place}: no value that can be read ({reason})") from error
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidSetting(f"{place}: {value} is no finite number")
    return value


def _refuse_growth(text: str, where: str) -> None:
    depth = 0
    for count, event in enumerate(yaml.parse(text, yaml.SafeLoader)):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        reason = None
        if getattr(event, "anchor", None) is not None:
            reason = "YAML anchors and aliases are not read; write the value out"
        elif depth > _DEEPEST:
            reason = f"nested over {_DEEPEST} deep; no recipe is"
        elif count > _MOST:
            reason = f"over {_MOST:,} values; no recipe has as many"
        if reason:
            mark = event.start_mark
            raise InvalidSetting(f"{_at(where, mark.line if mark else None)}: {reason}")


def _at(where: str, line: int | None) -> str:
    return where if line is None or where.startswith("--") else f"{where}:{line + 1}"


def _name(node: yaml.Node, key: Key, place: str) -> str:
    inside = f" in {'.'.join(key)}" if key else ""
    if node.tag == f"{_TAG}merge":
        raise InvalidSetting(f"{place}: YAML merge keys (<<) are not read{inside}; write them out")
    if not isinstance(node, yaml.ScalarNode):
        raise InvalidSetting(f"{place}: a key{inside} is one word")
    return str(node.value)
