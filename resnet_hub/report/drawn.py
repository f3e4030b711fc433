"""The charts of a page: curves and pace of a run, each with its caption."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

from markupsafe import Markup

from resnet_hub.curves import watched_split
from resnet_hub.errors import DataMissing
from resnet_hub.figures import PALETTE, Line, count_along, draw
from resnet_hub.report.inline import chart, inline, page_style
from resnet_hub.report.overlay import Abscissa, Ordinate, draw_lines, lines_of
from resnet_hub.report.runs import Trained, by_recipe
from resnet_hub.report.timing import Timing

_WATCHED = {"val": "validation", "test": "test"}


@dataclass(frozen=True)
class Named:
    """A kind of line in a chart: what it is, its colour's number in the palette, and its dash."""

    name: str
    colour: int = 0
    dashed: bool = False


@dataclass(frozen=True)
class Chart:
    """A chart with its caption.

    Attributes:
        title: What its ordinate is.
        note: The rest of the caption.
        lines: Which line is which.
        svg: The drawing.
    """

    title: str
    note: str
    lines: tuple[Named, ...]
    svg: Markup


def curve_charts(runs: Sequence[Trained], *, x: Abscissa = "iteration") -> list[Chart]:
    """Return error, loss and learning rate of runs, those of one recipe together."""
    titles: dict[Ordinate, str] = {
        "error": "Top-1 error, %",
        "loss": "Loss",
        "lr": "Learning rate",
    }
    charts = []
    for y, title in titles.items():
        try:
            charts.append(_curves(runs, x, y, title))
        except DataMissing:  # nothing of the kind was logged yet
            continue
    return charts


def _curves(runs: Sequence[Trained], x: Abscissa, y: Ordinate, title: str) -> Chart:
    groups = by_recipe(runs)
    drawn = [
        line
        for group, colour in zip(groups, cycle(PALETTE), strict=False)
        for line in lines_of(group, y=y, x=x, colour=colour)
    ]
    with page_style():
        figure, axes = chart()
        draw_lines(axes, drawn, whole=y == "lr")
        axes.set_xlabel(x)
        count_along(axes)
        svg = inline(figure, name=f"{y}-{x}", told=f"{title} by {x}")
    lines = (
        [] if len(groups) == 1 else [Named(g.label, n % len(PALETTE)) for n, g in enumerate(groups)]
    )
    if y != "lr":
        watched = {_WATCHED[watched_split(run.rows)] for run in runs}
        colour = 0 if len(groups) == 1 else 6
        lines += [Named(" or ".join(sorted(watched)), colour), Named("training", colour, True)]
    return Chart(title, "", tuple(lines), svg)


def pace_chart(found: Timing) -> Chart | None:
    """Return the images a second of a run, step by step; nothing where they were not logged."""
    steps, values = found.paces
    if not steps:
        return None
    with page_style():
        figure, axes = chart()
        draw(axes, Line(steps, values, width=1))
        axes.set_ylim(bottom=0)
        axes.set_xlim(left=0)
        axes.set_xlabel("iteration")
        svg = inline(figure, name="pace", told="Images a second by iteration")
    return Chart("Images a second", "in training, over all processes", (), svg)
