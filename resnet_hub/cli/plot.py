"""``resnet-hub plot``: learning curves of several runs in one picture."""

from pathlib import Path
from typing import TYPE_CHECKING

from resnet_hub.cli.arguments import Arguments
from resnet_hub.cli.layers import read_file
from resnet_hub.errors import CorruptFile, DataMissing, InvalidSetting, printable
from resnet_hub.paths import expanded

if TYPE_CHECKING:
    from resnet_hub.report.runs import Trained

EPILOG = """Dashed is training, solid what was watched: the test split, or validation where images
were held out. A folder stands for the runs in it.

  resnet-hub plot runs/cifar10_resnet20 runs/cifar10_plain20
  resnet-hub plot runs/*/1 --y loss --x time --out loss.svg
"""


def plot_command(arguments: list[str]) -> int:
    """Run ``resnet-hub plot``."""
    parser = Arguments("plot", "Draws learning curves of runs over each other.", epilog=EPILOG)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run's folder, or one of runs")
    parser.add_argument("--y", choices=("error", "loss", "lr"), default="error")
    parser.add_argument("--x", choices=("iteration", "epoch", "time"), default="epoch")
    parser.add_argument(
        "--seeds",
        choices=("together", "apart"),
        default="together",
        help="runs that differ in their seed alone: as mean and band, or a line each",
    )
    parser.add_argument("--out", default="plot.png", help="a .png or .svg (plot.png)")
    chosen = parser.parse_args(arguments)
    out = expanded(chosen.out)

    from resnet_hub.figures import check_format
    from resnet_hub.report.overlay import draw_overlay
    from resnet_hub.report.runs import by_recipe

    check_format(out)
    runs = read_runs(chosen.runs)
    draw_overlay(runs, out, y=chosen.y, x=chosen.x, seeds=chosen.seeds)
    for group in by_recipe(runs):
        folders = ", ".join(str(run.folder) for run in group.runs)
        print(printable(f"{group.label}: {folders}"))
    print(printable(f"drawn: {out}"))
    return 0


def read_runs(names: list[str]) -> "list[Trained]":
    """Return the runs that are named, or that lie in the folders that are, each once.

    Raises:
        DataMissing: There is none, or one that logged nothing yet was named itself.
        CorruptFile: A recipe or rows that cannot be read.
    """
    found: dict[Path, Trained] = {}
    for name in names:
        folder = expanded(name)
        if (folder / "recipe.yaml").is_file():
            found.setdefault(folder.resolve(), read_run(folder))
            continue
        inside = [path.parent for path in sorted(folder.glob("*/recipe.yaml"))]
        begun = [run for run in inside if (run / "metrics.csv").is_file()]
        if not begun:
            why = "none of its runs has logged anything yet" if inside else "no run, and none in it"
            raise DataMissing(f"{folder}: {why}")
        for run in begun:
            found.setdefault(run.resolve(), read_run(run))
    return list(found.values())


def read_run(folder: Path) -> "Trained":
    """Return a run as its folder tells it.

    Raises:
        DataMissing: It logged nothing yet.
        CorruptFile: Its recipe or rows cannot be read.
    """
    from resnet_hub.curves import read_metrics
    from resnet_hub.learning.settings import Recipe
    from resnet_hub.report.runs import Trained

    path, metrics = folder / "recipe.yaml", folder / "metrics.csv"
    try:
        recipe = Recipe.from_dict(read_file(path).values)
    except InvalidSetting as error:
        raise CorruptFile(f"{path}: not a run's recipe ({error})") from error
    if not metrics.is_file():
        raise DataMissing(f"{folder}: the run has logged nothing yet (it holds no metrics.csv)")
    return Trained(folder, recipe, read_metrics(metrics))
