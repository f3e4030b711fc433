"""``resnet-hub test``: score a model folder or a run, or several as an ensemble."""

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_hub.cli.answers import FILES, Wanted, facts, lines, write_files
from resnet_hub.cli.layers import Layer
from resnet_hub.cli.measuring import measured, net_of, opened, read_models, recipe_of, validated
from resnet_hub.cli.recording import calibrate, check_calibrated, is_checkpoint, record
from resnet_hub.errors import InvalidSetting
from resnet_hub.learning.settings import Recipe
from resnet_hub.paths import expanded

if TYPE_CHECKING:
    from resnet_hub.data.module import DataModule
    from resnet_hub.evaluation.collected import Logits
    from resnet_hub.evaluation.real import Real
    from resnet_hub.evaluation.summary import Summary
    from resnet_hub.evaluation.views import Views

SWITCHES = ("--json", "--no-record", "--per-class", "--calibrate")
LOOKS = ("views", "sizes", "average")

HELP = """usage: resnet-hub test FOLDER|RUN|CHECKPOINT... [--data NAME] [--data.KEY X]
                       [--views center|flip|ten_crop|dense] [--sizes 224,256,…]
                       [--average probabilities|logits] [--trainer.KEY X]
                       [--per-class] [--confusion FILE.png|svg] [--predictions FILE.csv]
                       [--real real.json] [--calibrate] [--no-record] [--json]

Scores a model folder, a run's exported model or one of its checkpoints on a data set's test split:
top-1, top-5, n; errors with bootstrap intervals, calibration, images/s. Runs and checkpoints are
scored on the data of their own recipe unless --data names another. --seed tells which images a
folder of pictures without splits holds out (a run's own are known).

Several models are an ensemble. What each answers is kept (`resnet-hub cache list`), and another
ensemble of the same takes no pass over the data; so are the views of one model:

  --views        how many looks at a picture are averaged: flip, its mirror too; ten_crop, corners,
                 centre and mirrors; dense, the whole picture at several sizes, mirrored too
  --sizes        the shorter sides of dense; the paper's 224 to 640, in the net's proportion
  --average      whether probabilities are averaged, or logits

  --per-class    a line a class: errors, precision, what it is most taken for
  --confusion    draws which classes are answered for which
  --predictions  writes a line an image: class, answer, probability
  --real         also counts by the reassessed labels of ImageNet's validation images
  --calibrate    writes the fitted temperature into the folder's config.json, for `predict`; a run's
                 is fitted on its own validation split, if it has one, else on the tested images

One model's score of the whole split, by central crops, is written into its config.json and
README.md, with what it takes to measure it again: `resnet-hub verify` does. --no-record leaves the
folder as it is.

  resnet-hub test runs/cifar10_resnet20/1
  resnet-hub test ./model --data Cifar10 --data.root ~/data --json
  resnet-hub test resnet50 resnet101 --data ImageNet --data.root /data/imagenet --views ten_crop
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
    names, flags = read_models("test", rest, own=(*FILES, *LOOKS))
    wanted = Wanted.of(flags, per_class="--per-class" in on)
    looks = {name: flags.values.pop(name) for name in LOOKS if name in flags.values}
    central = looks.get("views", "center") == "center" and "sizes" not in looks
    if central and len(names) == 1:
        return _test_one(names[0], flags, wanted, on)
    if "--calibrate" in on:
        raise InvalidSetting("--calibrate: is for the central crop and one model")
    asked = [recipe_of(name, flags, command="test") for name in names]
    return _test_averaged(names, asked, looks, wanted, as_json="--json" in on)


def _test_one(name: str, flags: Layer, wanted: Wanted, on: Collection[str]) -> int:
    """Score one model on central crops, and record that."""
    recipe, model = recipe_of(name, flags, command="test")
    if "--calibrate" in on:
        check_calibrated(model, keep="--no-record" not in on)
    own_split = str(model) != name or is_checkpoint(expanded(name))

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
    real = _real(wanted, logits, data)
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


def _test_averaged(
    names: Sequence[str],
    asked: Sequence[tuple[Recipe, str | Path]],
    looks: dict[str, Any],
    wanted: Wanted,
    *,
    as_json: bool,
) -> int:
    """Score several looks at each picture, several models, or both."""
    from resnet_hub.cli import stdout
    from resnet_hub.cli.console import group, is_first, say
    from resnet_hub.evaluation.cached import logits
    from resnet_hub.evaluation.ensemble import ensemble
    from resnet_hub.evaluation.summary import summarise

    views, parts, sets = _views(looks), [], []
    with stdout.clear(), group():
        for recipe, model in asked:
            net = net_of(model)
            sets.append(opened(recipe, net.preprocess))
            _check_same(sets[0], sets[-1])
            parts.append(logits(net, sets[-1], views, trainer=recipe.trainer))
    if not is_first():
        return 0
    together, data = ensemble(parts, average=views.average), sets[0]
    views = views.resolved(data.preprocess)
    summary, real = summarise(together, data.labels), _real(wanted, together, data)
    write_files(wanted, summary, together, data)
    if as_json:
        told = {
            "models": list(names),
            "views": views.to_dict(),
            "average": views.average,
            "data": data.measured,
            "top1": 1 - summary.top1_error.value,
            "top5": 1 - summary.top5_error.value,
            "recorded": False,
            "from_cache": together.from_cache,
        }
        say(json.dumps({**told, **facts(wanted, summary, real)}, allow_nan=False))
        return 0
    who = names[0] if len(names) == 1 else f"ensemble of {len(names)}, {views.average} averaged"
    say(f"{who}; {views}" + ("; answers kept from before" if together.from_cache else ""))
    say(_headline(data, summary))
    for line in lines(wanted, summary, real):
        say(line)
    say("not recorded: a card holds what one model answers to central crops")
    return 0


def _views(looks: dict[str, Any]) -> "Views":
    """Return the views that the command line asks for.

    Raises:
        InvalidSetting: There are no such.
    """
    from resnet_hub.evaluation.views import Views

    sizes = None
    if "sizes" in looks:
        parts = str(looks["sizes"]).split(",")
        if not all(part.strip().isdecimal() for part in parts):
            raise InvalidSetting(f"--sizes: {looks['sizes']!r} are no pixels, such as 224,256,384")
        sizes = tuple(map(int, parts))
    kind, average = looks.get("views", "center"), looks.get("average", "probabilities")
    return Views(kind=kind, sizes=sizes, average=average)


def _check_same(first: "DataModule", other: "DataModule") -> None:
    """Refuse to average answers about different things."""
    if first.measured != other.measured or first.labels != other.labels:
        raise InvalidSetting(
            f"test: {first.measured} and {other.measured} are not the same images and classes; "
            "--data names one data set for all models"
        )


def _real(wanted: Wanted, logits: "Logits", data: "DataModule") -> "Real | None":
    if wanted.real is None:
        return None
    from resnet_hub.evaluation.real import real_score

    given = logits.values.topk(1).indices.flatten()
    return real_score(given, logits.indices, data, wanted.real)


def _headline(data: "DataModule", summary: "Summary") -> str:
    top1, top5 = 1 - summary.top1_error.value, 1 - summary.top5_error.value
    return f"{data.measured}: top-1 {top1:.2%}, top-5 {top5:.2%}, n = {summary.n:,}"
