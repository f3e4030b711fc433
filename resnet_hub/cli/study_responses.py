"""``resnet-hub study responses``: how strongly the layers of any nets answer."""

import json
import shlex
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from resnet_hub.cli.layers import Layer, read_flags
from resnet_hub.cli.measuring import net_of, opened, recipe_of
from resnet_hub.errors import InvalidSetting
from resnet_hub.paths import expanded
from resnet_hub.zoo import name_of

if TYPE_CHECKING:
    from resnet_hub.learning.settings import Recipe
    from resnet_hub.nets.resnet import ResNet

HELP = """usage: resnet-hub study responses MODEL|RUN|CHECKPOINT... [--data NAME] [--data.KEY X]
                        [--images 1000] [--out studies/responses] [--trainer.KEY X] [--json]

How strongly the 3×3 layers of nets answer: the standard deviation of what each gives after
BatchNorm and before activation or addition, as 1512.03385 §4.2 shows in Fig. 7: in the layers'
order, and sorted. Plain nets are drawn dashed.

Runs and checkpoints are measured on the data of their own recipe unless --data names another, and
all nets on the same images: --images of the test split (val where there is none), drawn by a fixed
key. Writes figure.png, figure.svg, responses.csv, finding.json and README.md.

  resnet-hub study responses studies/degradation/cifar_* --data.root data
  resnet-hub study responses ./resnet20 ./resnet44 --data Cifar10 --data.root data
"""


def study(name: str, arguments: list[str]) -> int:
    """Run ``resnet-hub study responses`` and return its exit code."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(HELP)
        return 0
    as_json = "--json" in arguments
    flags, models = read_flags([argument for argument in arguments if argument != "--json"])
    out = expanded(str(flags.values.pop("out", f"studies/{name}")))
    images = _count(flags)
    for section in flags.values:
        if section not in ("data", "trainer", "seed"):
            raise InvalidSetting(
                f"--{section}: study {name} takes --data…, --trainer…, --seed, --images, --out and "
                "--json"
            )
    if not models:
        raise InvalidSetting(f"study {name}: of which models? (see `resnet-hub study {name} -h`)")
    asked = [(model, *recipe_of(model, flags, command=f"study {name}")) for model in models]

    from resnet_hub.cli import stdout
    from resnet_hub.cli.console import say
    from resnet_hub.studies.folder import check_folder
    from resnet_hub.studies.response_pages import conclude
    from resnet_hub.studies.responses import measure

    check_folder(out, name)
    nets = [(model, recipe, net_of(place)) for model, recipe, place in asked]
    with stdout.clear():
        found = [
            measure(
                net,
                opened(recipe, net.preprocess),
                label=label,
                model=model,
                images=images,
                trainer=recipe.trainer,
            )
            for (model, recipe, net), label in zip(nets, _labels(nets), strict=True)
        ]
    finding = conclude(found, out, command=shlex.join(["resnet-hub", "study", name, *arguments]))
    if as_json:
        say(json.dumps(finding, allow_nan=False))
        return 0
    for line in (*finding["sentences"], *finding["limits"], f"figure and finding: {out}"):
        say(line)
    return 0


def _labels(nets: "Sequence[tuple[str, Recipe, ResNet]]") -> list[str]:
    """Return what pictures call the nets: by their rows, and by their places where these agree."""
    names = [name_of(net.architecture) or "a net of no row" for _, _, net in nets]
    count = Counter(names)
    return [
        name if count[name] == 1 else f"{name} ({model})"
        for name, (model, _, _) in zip(names, nets, strict=True)
    ]


def _count(flags: Layer) -> int:
    text = flags.values.pop("images", 1000)
    try:
        return int(str(text))
    except ValueError as error:
        raise InvalidSetting(f"--images: {text!r} is no whole number") from error
