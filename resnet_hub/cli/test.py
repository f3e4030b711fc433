"""``resnet-hub test``: score a model folder or a run."""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_hub.cli.answers import FILES, Wanted, facts, lines, write_files
from resnet_hub.cli.layers import Layer, read_file, read_flags
from resnet_hub.cli.recipes import check
from resnet_hub.cli.recording import calibrate, check_calibrated, is_checkpoint, record
from resnet_hub.errors import DataMissing, InvalidSetting
from resnet_hub.learning.settings import Recipe
from resnet_hub.paths import expanded
from resnet_hub.weights.catalog import find_weights, packaged
from resnet_hub.weights.sources import LocalFolder, Published, parse

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback

    from resnet_hub.data.module import DataModule
    from resnet_hub.evaluation.collected import Logits
    from resnet_hub.nets.resnet import ResNet
    from resnet_hub.preprocess import Preprocess
    from resnet_hub.weights.provenance import Score

SWITCHES = ("--json", "--no-record", "--per-class", "--calibrate")

HELP = """usage: resnet-hub test FOLDER|RUN|CHECKPOINT [--data NAME] [--data.KEY X]
                       [--trainer.KEY X] [--per-class] [--confusion FILE.png|svg]
                       [--predictions FILE.csv] [--real real.json] [--calibrate]
                       [--no-record] [--json]

Scores a model folder, a run's exported model or one of its checkpoints on a data set's test split:
top-1, top-5, n; errors with bootstrap intervals, calibration, images/s. Runs and checkpoints are
scored on the data of their own recipe unless --data names another. --seed tells which images a
folder of pictures without splits holds out (a run's own are known).

  --per-class    a line a class: errors, precision, what it is most taken for
  --confusion    draws which classes are answered for which
  --predictions  writes a line an image: class, answer, probability
  --real         also counts by the reassessed labels of ImageNet's validation images
  --calibrate    writes the fitted temperature into the folder's config.json, for `predict`; a run's
                 is fitted on its own validation split, if it has one, else on the tested images

A score of the whole split is written into the folder's config.json and README.md, with what it
takes to measure it again: `resnet-hub verify` does. --no-record leaves the folder as it is.

  resnet-hub test runs/cifar10_resnet20/1
  resnet-hub test ./model --data Cifar10 --data.root ~/data --json
  resnet-hub test resnet50 --data ImageNetA --data.root /data/imagenet-a
  resnet-hub test ./model --data Cifar10 --trainer.devices 2 --trainer.strategy ddp
"""


def test_command(arguments: list[str]) -> int:
    """Run ``resnet-hub test``."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(HELP)
        return 0
    on = set(SWITCHES) & set(arguments)
    rest = [argument for argument in arguments if argument not in SWITCHES]
    name, flags = read_arguments("test", rest, own=FILES)
    wanted = Wanted.of(flags, per_class="--per-class" in on)
    recipe, model = recipe_of(name, flags, command="test")
    if "--calibrate" in on:
        check_calibrated(model, keep="--no-record" not in on)
    own_split = str(model) != name or is_checkpoint(expanded(name))
    return _score(recipe, model, wanted, on, own_split=own_split)


def read_arguments(
    command: str, arguments: list[str], *, own: Collection[str] = ()
) -> tuple[str, Layer]:
    """Return the one thing that a measuring command names, and its flags.

    Args:
        command: The command, for messages.
        arguments: Without switches.
        own: Flags that this command alone takes, their values as text.

    Raises:
        InvalidSetting: Not one thing, or flags of other sections.
    """
    flags, names = read_flags(arguments)
    if len(names) != 1:
        raise InvalidSetting(
            f"{command}: needs one model folder or run (see `resnet-hub {command} --help`)"
        )
    taken = dict.fromkeys(("data", "trainer", *own, "seed"))
    for section in flags.values:
        if section not in taken:
            told = "--data…, --trainer…, " + ", ".join(f"--{name}" for name in list(taken)[2:])
            raise InvalidSetting(f"--{section}: {command} takes {told} and --json")
    return names[0], flags


def recipe_of(name: str, flags: Layer, *, command: str) -> tuple[Recipe, str | Path]:
    """Return what to score on, and the model folder (a run's own, where a run was named).

    Args:
        name: A model folder, run, checkpoint, or a name of weights.
        flags: What the command line says.
        command: The command, for messages.

    Raises:
        DataMissing: No such folder, or a run without a model yet.
        InvalidSetting: A model folder without a data set to score it on, or flags that cannot be.
    """
    folder = expanded(name)
    if (folder / "recipe.yaml").is_file():
        if not (folder / "model").is_dir():
            raise DataMissing(
                f"{folder}: the run has no model/ yet; finish it by `resnet-hub fit --resume`, or "
                f"`resnet-hub export` what it has and {command} that"
            )
        return _own_recipe(read_file(folder / "recipe.yaml"), flags), folder / "model"
    if is_checkpoint(folder):
        from resnet_hub.learning.saving.checkpoints import read_training_checkpoint

        recipe = read_training_checkpoint(folder).get("recipe")
        return _own_recipe(Layer(recipe if isinstance(recipe, dict) else {}), flags), name
    if "data" not in flags.values:
        _check_named(name)
        raise InvalidSetting(f"{command}: a model needs --data NAME and its --data.root DIR")
    return check(flags), name


def _own_recipe(layer: Layer, flags: Layer) -> Recipe:
    """Return a run's recipe under the flags, but with no trainer options of its own."""
    if "data" in layer.values and _data_name(flags) not in (None, _data_name(layer)):
        del layer.values["data"]  # its settings are for its own data set
    recipe = check(flags.over(layer))
    if "data" in layer.values and recipe.seed != check(layer).seed:
        raise InvalidSetting(
            "--seed: the run's own says which images it held out; with another one it would be "
            "measured on images that it was trained on"
        )
    own = {k: v for k, v in recipe.trainer.items() if k in flags.values.get("trainer", {})}
    return replace(recipe, trainer=own)


def _check_named(name: str) -> None:
    """Refuse what names no model, without fetching one."""
    source = parse(name)
    if isinstance(source, Published) and packaged(source.name) is None:
        find_weights(source.name)
    elif isinstance(source, LocalFolder) and not source.path.is_dir():
        raise DataMissing(f"{name}: no such folder")


def _data_name(layer: Layer) -> Any:
    data = layer.values.get("data")
    return data.get("name") if isinstance(data, dict) else None


def opened(recipe: Recipe, preprocess: "Preprocess") -> "DataModule":
    """Return a recipe's data, opened, as weights with this preprocessing see it.

    Raises:
        ResNetHubError: The data cannot be read.
    """
    from resnet_hub.cli.console import quiet
    from resnet_hub.data.module import open_data

    quiet()
    data = open_data(recipe.data, seed=recipe.seed, preprocess=preprocess)
    data.prepare_data()
    return data.open()


def net_of(model: str | Path) -> "ResNet":
    """Return the net of what :func:`recipe_of` returned.

    Raises:
        ResNetHubError: It cannot be loaded.
    """
    from resnet_hub.learning.export import read_net
    from resnet_hub.nets.resnet import ResNet

    if is_checkpoint(expanded(model)):
        return read_net(model)[0]
    return ResNet.from_pretrained(model)


def measured(
    net: "ResNet",
    data: "DataModule",
    options: Mapping[str, Any],
    *,
    witness: "Callback | None" = None,
) -> "Score":
    """Return a net's score, with nothing but the result left for standard output.

    Raises:
        ResNetHubError: Net, data and trainer options do not go together.
    """
    from resnet_hub.cli import stdout
    from resnet_hub.cli.console import group
    from resnet_hub.evaluation.scoring import score

    with stdout.clear(), group():
        return score(net, data, trainer=options, witness=witness)


def _score(
    recipe: Recipe, model: str | Path, wanted: Wanted, on: Collection[str], *, own_split: bool
) -> int:
    from resnet_hub.cli.console import is_first, say
    from resnet_hub.evaluation.collected import Collector
    from resnet_hub.evaluation.summary import summarise

    net = net_of(model)
    data, collector = opened(recipe, net.preprocess), Collector()
    result = measured(net, data, recipe.trainer, witness=collector)
    if not is_first():
        return 0
    logits = collector.logits
    validation = None
    if "--calibrate" in on and own_split and data.tested == "test" and "val" in data.splits:
        validation = validated(net, data, recipe.trainer)
    summary = summarise(logits, data.labels, validation=validation)
    real = None
    if wanted.real is not None:
        from resnet_hub.evaluation.real import real_score

        given = logits.values.topk(1).indices.flatten()
        real = real_score(given, logits.indices, data, wanted.real)
    write_files(wanted, summary, logits, data)
    obstacle = "--no-record" if "--no-record" in on else record(model, result)
    if "--calibrate" in on:
        calibrate(model, summary.temperature)
    if "--json" in on:
        told = {**asdict(result), "recorded": obstacle is None, **facts(wanted, summary, real)}
        say(json.dumps(told, allow_nan=False))
        return 0
    say(f"{result.data}: top-1 {result.top1:.2%}, top-5 {result.top5:.2%}, n = {result.n:,}")
    for line in lines(wanted, summary, real):
        say(line)
    say(f"not recorded: {obstacle}" if obstacle else f"recorded in {model}")
    if "--calibrate" in on:
        say(f"temperature written into {model}")
    return 0


def validated(net: "ResNet", data: "DataModule", options: Mapping[str, Any]) -> "Logits":
    """Return a net's logits for its validation split, on one device: this process alone is left."""
    from resnet_hub.cli import stdout
    from resnet_hub.evaluation.cached import logits

    kept = {name: options[name] for name in ("accelerator", "precision") if name in options}
    with stdout.clear():
        return logits(net, data, split="val", trainer=kept)
