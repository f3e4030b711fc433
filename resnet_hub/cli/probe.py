"""``resnet-hub probe``: how good a net's features are for a data set, without training it."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_hub.cli.layers import Layer
from resnet_hub.cli.measuring import net_of, opened, read_arguments, recipe_of
from resnet_hub.errors import InvalidSetting
from resnet_hub.learning.settings import Recipe

if TYPE_CHECKING:
    from resnet_hub.evaluation.probe import Accuracy, Probe

HELP = """usage: resnet-hub probe MODEL|RUN|CHECKPOINT [--data NAME] [--data.KEY X] [--k 20]
                        [--temperature 0.07] [--seed N] [--trainer.KEY X] [--json]

Tells how good a net's features are for a data set, without training the net. MODEL is whatever
loads: a folder, a published name, a repository. Its head is not used, so its classes may be others.
Runs and checkpoints are probed on the data of their own recipe unless --data names another.

Features are what the head is given, of training images without augmentation; the test split, or val
where there is none, is answered by
  a linear probe   logistic regression; its penalty is chosen on a fifth of the training images,
                   which --seed tells; it moves no image into or out of the tested ones
  k-NN             the --k most similar training images by cosine; one of similarity s has
                   exp(s / --temperature) votes, or one vote each (plain)

Features are kept (`resnet-hub cache list`), and a second probe takes no forward pass. Of the
trainer's options accelerator, devices (one) and precision count.

  resnet-hub probe resnet50 --data Folder --data.root pictures
  resnet-hub probe ./model --data Cifar10 --data.root ~/data --json
"""

_OWN: dict[str, float] = {"k": 20, "temperature": 0.07, "seed": 0}
_LISTED = 12  # classes that a person is shown


def probe_command(arguments: list[str]) -> int:
    """Run ``resnet-hub probe``."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(HELP)
        return 0
    as_json = "--json" in arguments
    rest = [argument for argument in arguments if argument != "--json"]
    name, flags = read_arguments("probe", rest, own=("k", "temperature", "seed"))
    own = {name: _number(flags, name, usual) for name, usual in _OWN.items()}
    recipe, model = recipe_of(name, flags, command="probe")
    found = _probed(recipe, model, own)

    from resnet_hub.cli.console import say

    facts = {"model": str(model), **asdict(found)}
    for line in [json.dumps(facts, allow_nan=False)] if as_json else _lines(found):
        say(line)
    return 0


def _probed(recipe: Recipe, model: str | Path, own: dict[str, Any]) -> "Probe":
    from resnet_hub.cli import stdout
    from resnet_hub.evaluation.probe import probe

    net = net_of(model)
    data = opened(recipe, net.preprocess)
    with stdout.clear():
        return probe(net, data, trainer=recipe.trainer, **own)


def _lines(found: "Probe") -> list[str]:
    made = "kept from before" if found.from_cache else "computed, and kept"
    names = ", ".join(found.classes[:_LISTED])
    more = f", … ({len(found.classes):,})" if len(found.classes) > _LISTED else ""
    chosen = f"L2 {found.l2.l2:g}, chosen on {found.l2.n:,} held-out training images"
    weighted = f"k = {found.k}, temperature {found.temperature:g}"
    return [
        f"{found.data}, n = {found.n:,}: {found.features:,} features an image ({made}), of "
        f"{found.training_n:,} training images",
        f"linear probe  {_line(found.linear)}  {chosen}",
        f"k-NN          {_line(found.knn)}  {weighted}",
        f"k-NN, plain   {_line(found.knn_plain)}  k = {found.k}",
        f"intervals: Wilson's, 95%; classes: {names}{more}",
    ]


def _line(accuracy: "Accuracy") -> str:
    (low, high), (low5, high5) = accuracy.top1_interval, accuracy.top5_interval
    return (
        f"top-1 {accuracy.top1:.2%} ({low:.2%} to {high:.2%}), "
        f"top-5 {accuracy.top5:.2%} ({low5:.2%} to {high5:.2%})"
    )


def _number(flags: Layer, name: str, own: float) -> float:
    """Return a flag's number, of the type of the default."""
    text = flags.values.pop(name, None)
    if text is None:
        return own
    try:
        return type(own)(text)
    except (TypeError, ValueError) as error:
        kind = "whole number" if isinstance(own, int) else "number"
        raise InvalidSetting(f"--{name}: {text!r} is no {kind}") from error
