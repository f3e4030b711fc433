"""Learning curves of several runs in one picture."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from resnet_hub.curves import seconds_at, series, watched_split
from resnet_hub.errors import DataMissing, InvalidSetting
from resnet_hub.figures import PALETTE, Line, count_along, draw, panels, write_figure
from resnet_hub.report.runs import Seeds, Trained, by_recipe

Ordinate = Literal["error", "loss", "lr"]
Abscissa = Literal["iteration", "epoch", "time"]
Together = Literal["together", "apart"]

_TITLES = {"error": "top-1 error (%)", "loss": "loss", "lr": "learning rate"}
_UNITS = ((7200.0, 3600.0, "hours"), (180.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))
"""From how many seconds on, how many make one, and what it is called."""
_ROOM = 4.0  # times the largest last value is seen at least
_EARLY, _OVER = 4, 1.05  # and all but the first quarter, with some air


def overlay(
    runs: Sequence[Trained],
    *,
    y: Ordinate = "error",
    x: Abscissa = "epoch",
    seeds: Together = "together",
) -> Figure:
    """Draw runs over each other: training dashed, what they were watched on solid.

    Args:
        runs: One at least.
        y: Top-1 error in percent, the loss, or the learning rate.
        x: Optimizer steps, epochs, or time spent in training.
        seeds: Runs of one recipe as their mean with a band of one standard deviation on either
            side, at the steps that all of them have; or each as a line of its own.

    Raises:
        DataMissing: A run has none of these values yet.
        InvalidSetting: More recipes than there are colours to tell them apart.
    """
    groups = by_recipe(runs)
    if len(groups) > len(PALETTE):
        raise InvalidSetting(
            f"{len(groups)} recipes are more than the {len(PALETTE)} colours that can be told "
            "apart; draw fewer"
        )
    lines = [
        line
        for group, colour in zip(groups, PALETTE, strict=False)
        for line in lines_of(group, y=y, x=x, seeds=seeds, colour=colour)
    ]
    title: str = x
    if x == "time":
        lines, unit = _in_unit(lines)
        title = f"time in training ({unit})"
    figure, (axes,) = panels()
    draw_lines(axes, lines, whole=y == "lr")
    axes.set(xlabel=title, ylabel=_TITLES[y])
    if x != "time":
        count_along(axes)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if y != "lr":
        _explain(axes, runs)
    # Beside the chart: within, some line would run through it.
    figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize="small")
    return figure


def draw_overlay(
    runs: Sequence[Trained],
    picture: Path,
    *,
    y: Ordinate = "error",
    x: Abscissa = "epoch",
    seeds: Together = "together",
) -> None:
    """Write what :func:`overlay` draws, as PNG or SVG by the file's ending.

    Raises:
        ResNetHubError: See :func:`overlay`, and the disk may refuse.
    """
    write_figure(overlay(runs, y=y, x=x, seeds=seeds), picture)


def draw_lines(axes: Axes, lines: Sequence[Line], *, whole: bool = False) -> None:
    """Draw curves from zero on; what is high above the later part is cut off, if not ``whole``."""
    for line in lines:
        draw(axes, line)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    if whole:
        return
    later = [value for line in lines for value in line.y[len(line.y) // _EARLY :]]
    top = max(_ROOM * max(line.y[-1] for line in lines), _OVER * max(later, default=0.0))
    axes.set_ylim(top=min(axes.get_ylim()[1], top) or None)


def points(run: Trained, name: str, x: Abscissa) -> dict[float, tuple[float, float]]:
    """Return one column of a run: place and value, by the step or epoch that it belongs to.

    Raises:
        DataMissing: The run knows no times, and they are asked for.
    """
    at, values = series(run.rows, name, by="epoch" if x == "epoch" else "step")
    places = at
    if at and x == "time" and not (places := seconds_at(run.rows, at)):
        raise DataMissing(
            f"{run.folder}: its metrics.csv has no column of seconds (it is of an earlier version)"
        )
    return dict(zip(at, zip(places, values, strict=True), strict=True))


def lines_of(
    group: Seeds, *, y: Ordinate, x: Abscissa, seeds: Together = "together", colour: str
) -> list[Line]:
    """Return the lines of one recipe; the first solid one is named.

    Raises:
        DataMissing: See :func:`overlay`.
    """
    parts = [group.runs] if seeds == "together" else [(run,) for run in group.runs]
    found, named = [], False
    for runs in parts:
        for names, dashed in _columns(runs[0], y):
            label = None if dashed or named else _named(group, seeds)
            line = _line(runs, names, x, Line([], [], label, colour, dashed=dashed))
            if line is not None:
                found.append(_in_percent(line) if y == "error" else line)
                named = named or not dashed
    if not found:
        raise DataMissing(f"{group.runs[0].folder}: no {_TITLES[y]} was logged yet")
    return found


def _columns(run: Trained, y: Ordinate) -> list[tuple[tuple[str, ...], bool]]:
    """Return the columns that say the same thing, one of which a run has, and which are dashed."""
    split = watched_split(run.rows)
    if y == "lr":
        return [(("lr",), False)]
    if y == "loss":
        return [(("train/epoch_loss",), True), ((f"{split}/loss",), False)]
    return [(("train/top1", "train/soft_top1"), True), ((f"{split}/top1",), False)]


def _line(runs: Sequence[Trained], names: Sequence[str], x: Abscissa, style: Line) -> Line | None:
    """Return the mean of some runs' curves, with a band where there are several."""
    own = [next((p for name in names if (p := points(run, name, x))), {}) for run in runs]
    common = sorted(set.intersection(*map(set, own)))
    if not common:
        return None
    places = [fmean(curve[at][0] for curve in own) for at in common]
    values = [[curve[at][1] for curve in own] for at in common]
    means, band = [fmean(v) for v in values], None
    if len(runs) > 1:
        spread = [stdev(v) for v in values]
        pairs = list(zip(means, spread, strict=True))
        band = ([m - s for m, s in pairs], [m + s for m, s in pairs])
    return replace(style, x=places, y=means, band=band)


def _in_percent(line: Line) -> Line:
    """Turn a share of right answers into an error in percent."""

    def wrong(values: Sequence[float]) -> list[float]:
        return [100 * (1 - value) for value in values]

    band = line.band and (wrong(line.band[1]), wrong(line.band[0]))
    return replace(line, y=wrong(line.y), band=band)


def _named(group: Seeds, seeds: Together) -> str:
    n = len(group.runs)
    if n == 1:
        return group.label
    return f"{group.label}, {n} runs" + (", mean ± std" if seeds == "together" else "")


def _explain(axes: Axes, runs: Sequence[Trained]) -> None:
    """Put into the legend what dashed and solid mean."""
    splits = sorted({watched_split(run.rows) for run in runs})
    watched = " or ".join({"test": "test", "val": "validation"}[split] for split in splits)
    for label, dashed in ((watched, False), ("training", True)):
        draw(axes, Line([float("nan")] * 2, [float("nan")] * 2, label, "0.45", dashed=dashed))


def _in_unit(lines: list[Line]) -> tuple[list[Line], str]:
    """Return lines over seconds in a unit that a person counts in, and its name."""
    most = max(line.x[-1] for line in lines)
    _, size, name = next(unit for unit in _UNITS if most >= unit[0])
    return [replace(line, x=[value / size for value in line.x]) for line in lines], name
