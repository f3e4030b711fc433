"""``resnet-hub recipe``: what recipes say, how two differ, and what is wrong with one. No torch."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from resnet_hub.cli.layers import Layer, find_recipe, packaged_recipes, read_file, read_flags
from resnet_hub.cli.lint import lint, opening
from resnet_hub.cli.plain_yaml import read_text
from resnet_hub.cli.recipes import whole
from resnet_hub.errors import InvalidSetting, UnknownName, did_you_mean, printable
from resnet_hub.learning.settings import Recipe
from resnet_hub.paths import expanded

HELP = """usage: resnet-hub recipe
       resnet-hub recipe show RECIPE... [--key value ...]
       resnet-hub recipe diff A B [--key value ...]
       resnet-hub recipe lint RECIPE... [--key value ...]

Without more, lists the recipes of this package. RECIPE, A and B are files, names of these, or
folders of runs. Nothing is trained, and neither data nor devices are looked at.

show   print the recipe that `fit` would go by, complete, as YAML that it takes again; of several,
       and of the flags behind them, the later one wins
diff   print the keys in which two resolved recipes differ, one a line, with both values
lint   check each recipe by itself: keys, types, bounds, the schedule against the run's length,
       what a CPU cannot do, the opening comment. The exit code is 1 if `fit` would refuse one;
       warnings leave it 0

  resnet-hub recipe show cifar10_resnet56 --optimizer.lr 0.05 > mine.yaml
  resnet-hub recipe diff cifar10_resnet56 runs/cifar10_resnet56/1
  resnet-hub recipe lint recipes/*.yaml
"""


def recipe_command(arguments: list[str]) -> int:
    """Run ``resnet-hub recipe``."""
    if {"-h", "--help"} & set(arguments):
        print(HELP)
        return 0
    if not arguments:
        return _list()
    actions = {"show": _show, "diff": _diff, "lint": _lint}
    action, *rest = arguments
    if action not in actions:
        hint = did_you_mean(action, actions) or " (see `resnet-hub recipe --help`)"
        raise UnknownName(f"recipe: {action!r} is nothing to do with recipes{hint}")
    flags, names = read_flags(rest)
    if not names or (action == "diff" and len(names) != 2):
        wanted = "two recipes" if action == "diff" else "a recipe"
        raise InvalidSetting(f"recipe {action}: needs {wanted} (see `resnet-hub recipe --help`)")
    return actions[action]([_file(name) for name in names], flags)


def _list() -> int:
    titles = {path.stem: _title(path) for path in sorted(packaged_recipes().glob("*.yaml"))}
    width = max(map(len, titles))
    for name, title in titles.items():
        print(f"{name:{width}}  {title}")
    return 0


def _title(path: Path) -> str:
    lines = opening(read_text(path))
    return lines[0].lstrip("# ") if lines else ""


def _show(paths: list[Path], flags: Layer) -> int:
    layer = Layer()
    for path in paths:
        layer = read_file(path).over(layer)
    recipe = whole(flags.over(layer))
    lines = opening(read_text(paths[-1]))
    if len(paths) > 1:
        lines.append(f"# Over      {printable(', '.join(path.name for path in paths[:-1]))}")
    for key, value in _flat(flags.values):
        lines.append(f"# Changed   {printable(f'{key}: {_shown(value)}')}")
    print("\n".join([*lines, yaml.safe_dump(recipe.to_dict(), sort_keys=False)]), end="")
    return 0


def _diff(paths: list[Path], flags: Layer) -> int:
    one, other = (dict(_flat(_resolved(path, flags).to_dict())) for path in paths)
    keys = [key for key in {**one, **other} if one.get(key, _NONE) != other.get(key, _NONE)]
    for key in keys:
        values = " -> ".join(_shown(side.get(key, _NONE)) for side in (one, other))
        print(printable(f"{key}: {values}"))
    return 0


def _lint(paths: list[Path], flags: Layer) -> int:
    failed = False
    for path in paths:
        found = lint(path, flags)
        failed |= any(finding.error for finding in found)
        for finding in found:
            place, colon, text = finding.text.partition(": ")
            print(printable(finding.text if finding.error else f"{place}{colon}warning: {text}"))
        if not found:
            print(printable(f"{path}: nothing to say"))
    return 1 if failed else 0


def _file(name: str) -> Path:
    of_run = expanded(name) / "recipe.yaml"
    return of_run if of_run.is_file() else find_recipe(name)


def _resolved(path: Path, flags: Layer) -> Recipe:
    return whole(flags.over(read_file(path)))


_NONE = object()  # what a recipe says of a key that it leaves to Lightning


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _shown(value: Any) -> str:
    return "not given" if value is _NONE else json.dumps(value, ensure_ascii=False, default=str)
