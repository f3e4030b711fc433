"""``resnet-hub mistakes``: the images that a net is wrong about and most sure of."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from resnet_hub.cli.answers import tempered
from resnet_hub.cli.measuring import net_of, opened, read_arguments, recipe_of
from resnet_hub.errors import InvalidSetting
from resnet_hub.figures import check_format
from resnet_hub.learning.settings import Recipe
from resnet_hub.paths import expanded

HELP = """usage: resnet-hub mistakes MODEL|RUN|CHECKPOINT --out FILE.png|FILE.svg [--count 16]
                           [--gradcam] [--data NAME] [--data.KEY X] [--trainer.KEY X] [--json]

Draws the images that a net is wrong about and most sure of, as it sees them: above each the class
that it gives with its probability, and the class that the data says. --gradcam draws beside each
where the net finds what speaks for the class that it gives.

The images are of the test split, or of val where there is none. Runs and checkpoints are asked
about the data of their own recipe unless --data names another. Some mistakes may be the data's.

  resnet-hub mistakes runs/cifar10_resnet20/1 --out mistakes.png
  resnet-hub mistakes ./model --data Cifar10 --data.root ~/data --out mistakes.svg --gradcam
"""

_SWITCHES = ("--json", "--gradcam")
_MOST = 100  # images in a picture; more are no picture


def mistakes_command(arguments: list[str]) -> int:
    """Run ``resnet-hub mistakes``."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(HELP)
        return 0
    as_json, explains = (switch in arguments for switch in _SWITCHES)
    rest = [argument for argument in arguments if argument not in _SWITCHES]
    name, flags = read_arguments("mistakes", rest, own=("out", "count"))
    out, count = _taken(flags.values)
    recipe, model = recipe_of(name, flags, command="mistakes")
    facts = _drawn(recipe, model, out, count=count, explains=explains)

    from resnet_hub.cli.console import say

    for line in [json.dumps(facts, allow_nan=False)] if as_json else _lines(facts):
        say(line)
    return 0


def _drawn(
    recipe: Recipe, model: str | Path, out: Path, *, count: int, explains: bool
) -> dict[str, Any]:
    """Draw, and return what was drawn as JSON types."""
    from resnet_hub.cli import stdout
    from resnet_hub.evaluation.cached import logits
    from resnet_hub.evaluation.mistakes import draw_mistakes, mistakes_of
    from resnet_hub.evaluation.restricted import answering
    from resnet_hub.figures import write_figure

    net = net_of(model)
    data = opened(recipe, net.preprocess)
    with stdout.clear():
        answered = logits(net, data, trainer=recipe.trainer)
        found = mistakes_of(answered, net.temperature)
        if shown := found[:count]:
            explained_by = answering(net, data) if explains else None
            figure = draw_mistakes(shown, data, explained_by=explained_by)
            write_figure(figure, out)
    return {
        "model": str(model),
        "data": data.measured,
        "n": len(answered.labels),
        "wrong": len(found),
        "temperature": net.temperature,
        "picture": str(out) if found else None,
        "mistakes": [
            {
                **asdict(mistake),
                "label_name": data.labels[mistake.label],
                "given_name": data.labels[mistake.given],
            }
            for mistake in shown
        ],
    }


def _lines(facts: dict[str, Any]) -> list[str]:
    lines = [f"{facts['data']}: {facts['wrong']:,} of {facts['n']:,} images are answered wrong"]
    lines += tempered(facts["temperature"])
    lines += [
        f"{mistake['probability']:7.2%}  {mistake['given_name']}, is {mistake['label_name']}  "
        f"(image {mistake['index']:,}, {mistake['own']:.2%} of its own class)"
        for mistake in facts["mistakes"]
    ]
    return [*lines, f"picture: {facts['picture']}" if facts["picture"] else "nothing to be drawn"]


def _taken(values: dict[str, Any]) -> tuple[Path, int]:
    """Take the command's own flags out of all, and check them."""
    out, count = values.pop("out", None), values.pop("count", "16")
    if out is None:
        raise InvalidSetting("mistakes: --out FILE.png or FILE.svg says where the picture goes")
    path = expanded(str(out))
    check_format(path)
    if not str(count).isdecimal() or not 1 <= int(count) <= _MOST:
        raise InvalidSetting(f"--count: {count!r} is not 1 to {_MOST} images")
    return path, int(count)
