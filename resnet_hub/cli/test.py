"""``resnet-hub test``: score a model folder or a run."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from resnet_hub.cli.layers import Layer, read_file, read_flags
from resnet_hub.cli.recipes import check
from resnet_hub.errors import DataMissing, InvalidSetting
from resnet_hub.learning.settings import Recipe
from resnet_hub.paths import expanded

HELP = """usage: resnet-hub test FOLDER|RUN [--data NAME] [--data.KEY X] [--trainer.KEY X] [--json]

Scores a model folder, or a run's exported model, on a data set's test split: top-1, top-5, n.
A run is scored on the data of its own recipe unless --data names another. --seed tells which
images a folder of pictures without splits holds out (a run's own are known).

  resnet-hub test runs/cifar10_resnet20/1
  resnet-hub test ./model --data Cifar10 --data.root ~/data --json
  resnet-hub test ./model --data Cifar10 --trainer.devices 2 --trainer.strategy ddp
"""


def test_command(arguments: list[str]) -> int:
    """Run ``resnet-hub test``."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(HELP)
        return 0
    as_json = "--json" in arguments
    flags, names = read_flags([a for a in arguments if a != "--json"])
    if len(names) != 1:
        raise InvalidSetting("test: needs one model folder or run (see `resnet-hub test --help`)")
    for section in flags.values:
        if section not in ("data", "trainer", "seed"):
            raise InvalidSetting(f"--{section}: test takes --data…, --trainer…, --seed and --json")
    recipe, model = _recipe(names[0], flags)
    return _score(recipe, model, as_json)


def _recipe(name: str, flags: Layer) -> tuple[Recipe, str | Path]:
    """Return what to score on, and the model folder (a run's own, where a run was named)."""
    folder = expanded(name)
    if (folder / "recipe.yaml").is_file():
        if not (folder / "model").is_dir():
            raise DataMissing(
                f"{folder}: the run has no model/ yet; finish it by `resnet-hub fit --resume`, or "
                "`resnet-hub export` what it has and test that"
            )
        layer = read_file(folder / "recipe.yaml")
        if _data_name(flags) not in (None, _data_name(layer)):
            del layer.values["data"]  # its settings are for its own data set
        recipe = check(flags.over(layer))
        own = {k: v for k, v in recipe.trainer.items() if k in flags.values.get("trainer", {})}
        return replace(recipe, trainer=own), folder / "model"
    if "data" not in flags.values:
        if not folder.is_dir():
            from resnet_hub.weights.hub import resolve

            resolve(name)  # says why it is none
        raise InvalidSetting("test: a model folder needs --data NAME and its --data.root DIR")
    return check(flags), name


def _data_name(layer: Layer) -> Any:
    data = layer.values.get("data")
    return data.get("name") if isinstance(data, dict) else None


def _score(recipe: Recipe, model: str | Path, as_json: bool) -> int:
    from resnet_hub.cli import stdout
    from resnet_hub.cli.console import group, quiet, say
    from resnet_hub.data.module import open_data
    from resnet_hub.evaluation.scoring import score
    from resnet_hub.nets.resnet import ResNet

    quiet()
    net = ResNet.from_pretrained(model)
    data = open_data(recipe.data, seed=recipe.seed, preprocess=net.preprocess)
    data.prepare_data()
    data.open()
    with stdout.clear(), group():
        result = score(net, data, trainer=recipe.trainer)
    if as_json:
        say(json.dumps(asdict(result), allow_nan=False))
    else:
        say(f"{result.data}: top-1 {result.top1:.2%}, top-5 {result.top5:.2%}, n = {result.n:,}")
    return 0
