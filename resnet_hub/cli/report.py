"""``resnet-hub report``: one page of a run, a study or a model."""

from pathlib import Path
from typing import TYPE_CHECKING

from resnet_hub.cli.layers import Layer
from resnet_hub.cli.measuring import net_of, opened, read_arguments, recipe_of, validated
from resnet_hub.cli.plot import read_run
from resnet_hub.cli.recording import is_checkpoint
from resnet_hub.errors import DataMissing, ResNetHubError
from resnet_hub.paths import expanded

if TYPE_CHECKING:
    from resnet_hub.learning.settings import Recipe
    from resnet_hub.report.measured import Measured
    from resnet_hub.report.page import Page
    from resnet_hub.report.pages import Net

HELP = """usage: resnet-hub report RUN|STUDY|MODEL [--data NAME] [--data.KEY X] [--trainer.KEY X]
                         [--no-data] [--out report.html]

Writes one HTML file that needs nothing else, no network and no script: what was run, learning
curves, scores with intervals, confusion matrix, calibration, examples right and wrong, architecture
and where the time went. What was not measured says so.

The model of a run answers the tested split of its own recipe's data, that of a folder or name what
--data says; answers are kept (`resnet-hub cache list`), so a second page takes no forward pass.
Without the data, or with --no-data, the page has what is recorded.

  resnet-hub report runs/cifar10_resnet20/1
  resnet-hub report ./model --data Cifar10 --data.root ~/data --out model.html
  resnet-hub report studies/degradation
"""


def report_command(arguments: list[str]) -> int:
    """Run ``resnet-hub report``."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(HELP)
        return 0
    measuring = "--no-data" not in arguments
    rest = [argument for argument in arguments if argument != "--no-data"]
    name, flags = read_arguments("report", rest, own=("out",))
    out = expanded(flags.values.pop("out", None) or "report.html")

    from resnet_hub.report.page import check_name, write_page

    check_name(out)
    folder = expanded(name)
    if (folder / "study.json").is_file() or (folder / "finding.json").is_file():
        page = _study(folder)
    elif (folder / "recipe.yaml").is_file():
        page = _run(folder, flags, measuring=measuring)
    else:
        page = _model(name, flags, measuring=measuring)
    write_page(page, out)

    from resnet_hub.cli.console import say

    say(f"written: {out}")
    return 0


def _study(folder: Path) -> "Page":
    from resnet_hub.report.study_page import read_study, study_page

    return study_page(read_study(folder), [read_run(path) for path in begun(folder)])


def begun(folder: Path) -> list[Path]:
    """Return the runs in a folder that have logged something."""
    found = sorted(path.parent for path in folder.glob("*/recipe.yaml"))
    return [run for run in found if (run / "metrics.csv").is_file()]


def _run(folder: Path, flags: Layer, *, measuring: bool) -> "Page":
    from resnet_hub.report.pages import Net, run_page
    from resnet_hub.weights.card import read_card

    run = read_run(folder)
    if not (folder / "model").is_dir():
        return run_page(run, _saved_net(folder), missing="The run has not ended.")
    card = read_card(folder / "model")
    net, missing = Net(card.architecture, card.preprocess), "The page was asked for without data."
    found = None
    if measuring:
        try:
            asked = recipe_of(str(folder), flags, command="report")
            found = _measured(*asked, own_split="data" not in flags.values)
        except DataMissing as error:
            missing = f"The data are not here: {error}."
    return run_page(run, net, card=card, found=found, missing=missing)


def _model(name: str, flags: Layer, *, measuring: bool) -> "Page":
    from resnet_hub.report.pages import model_page
    from resnet_hub.weights.card import CARD_NAME, read_card
    from resnet_hub.weights.hub import resolve

    folder = resolve(name)
    if not (folder / CARD_NAME).is_file():
        raise DataMissing(f"{name}: {_other(folder)}")
    card = read_card(folder)
    found = None
    if measuring and "data" in flags.values:
        found = _measured(*recipe_of(name, flags, command="report"), own_split=False)
    missing = "Name a data set by --data to have it answered."
    return model_page(card, name, found=found, missing=missing)


def _other(folder: Path) -> str:
    """Return what a folder is that is neither run nor study nor model, and what to do."""
    if is_checkpoint(folder):
        return "a checkpoint; name its run, or `resnet-hub export` it and name that"
    if begun(folder):
        return "a folder of runs and no study; name one of them, or overlay them by `plot`"
    return "neither a run, a study nor a model"


def _measured(recipe: "Recipe", model: str | Path, *, own_split: bool) -> "Measured":
    from resnet_hub.cli import stdout
    from resnet_hub.evaluation.cached import logits
    from resnet_hub.report.measured import measured

    net = net_of(model)
    data = opened(recipe, net.preprocess)
    with stdout.clear():
        found = logits(net, data, trainer=recipe.trainer)
    # Images that a run held out of its own training say what temperature it needs.
    held_out = own_split and data.tested == "test" and "val" in data.splits
    validation = validated(net, data, recipe.trainer) if held_out else None
    return measured(found, data, validation=validation, temperature=net.temperature)


def _saved_net(folder: Path) -> "Net | None":
    """Return the net that a run's newest checkpoint tells of, if there is one."""
    from resnet_hub.learning.saving.description import described
    from resnet_hub.learning.saving.run import Run
    from resnet_hub.report.pages import Net

    try:
        net, *_ = described(Run(folder).newest())
    except ResNetHubError:  # none was saved yet, or it is being written just now
        return None
    return Net(net.architecture, net.preprocess)
