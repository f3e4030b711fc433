"""Learning curves drawn from a run's metrics.csv, and the loss over a rising learning rate."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from resnet_hub.errors import CorruptFile
from resnet_hub.figures import PALETTE, Line, count_along, draw, panels, write_figure

Points = tuple[list[float], list[float]]
Abscissa = Literal["epoch", "step"]

_TRAIN, _WATCHED, _LIVE = PALETTE[:3]


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Read a metrics.csv: one mapping a row, empty cells left out.

    Raises:
        CorruptFile: Not the rows of a run, each with its epoch and step.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            table = csv.DictReader(file)
            rows = [{name: float(cell) for name, cell in row.items() if cell} for row in table]
            if not {"epoch", "step"} <= set(table.fieldnames or ()):
                raise ValueError("no columns of epochs and steps")
        for row in rows:
            _ = int(row["epoch"]), int(row["step"])
    except (ValueError, OverflowError, TypeError, KeyError, csv.Error) as error:
        raise CorruptFile(
            f"{path}: not a run's rows of numbers ({error}); mend it, or move it away"
        ) from error
    return rows


def series(rows: list[dict[str, float]], name: str, *, by: Abscissa = "epoch") -> Points:
    """Return where one column has values, and these.

    Args:
        rows: See :func:`read_metrics`.
        name: The column.
        by: ``epoch``: the last value of each, 1 is the first; ``step``: every value, by the
            optimizer steps that were taken before it was logged.
    """
    numbered = ((int(row[by]) + 1, row[name]) for row in rows if name in row)
    values = dict(numbered)
    return [float(place) for place in values], list(values.values())


def seconds_at(rows: list[dict[str, float]], steps: Sequence[float]) -> list[float]:
    """Return the time in training after each of some optimizer steps, in seconds.

    Between two steps whose time was logged it is taken to pass evenly.

    Args:
        rows: See :func:`read_metrics`.
        steps: Numbers of steps taken, as :func:`series` has them.

    Returns:
        One time a step; nothing where the rows have no times.
    """
    known, times = series(rows, "seconds", by="step")
    if not known:
        return []
    return [float(time) for time in np.interp(steps, [0.0, *known], [0.0, *times])]


def watched_split(rows: list[dict[str, float]]) -> Literal["val", "test"]:
    """Return the split that a run watched: test where nothing was held out for validation."""
    return "test" if any("test/loss" in row for row in rows) else "val"


def draw_curves(metrics: Path, picture: Path) -> None:
    """Draw error and loss over the epochs, training against the watched split.

    Args:
        metrics: A run's metrics.csv.
        picture: A PNG or SVG, written whole or not at all.
    """
    rows = read_metrics(metrics)
    split = watched_split(rows)
    watched = "validation" if split == "val" else "test"
    figure, (error, loss) = panels(2)
    for name, colour, label in (
        ("train/top1", _TRAIN, "training"),
        ("train/soft_top1", _TRAIN, "training, of mixed targets"),
        (f"{split}/top1", _WATCHED, watched),
        (f"{split}/live_top1", _LIVE, "without averaging"),
    ):
        epochs, values = series(rows, name)
        if epochs:
            draw(error, Line(epochs, [100 * (1 - value) for value in values], label, colour))
    for name, colour, label in (
        ("train/epoch_loss", _TRAIN, "training"),
        (f"{split}/loss", _WATCHED, watched),
    ):
        epochs, values = series(rows, name)
        if epochs:
            draw(loss, Line(epochs, values, label, colour))
    for axes, title in ((error, "top-1 error (%)"), (loss, "loss")):
        axes.set(xlabel="epoch", title=title)
        axes.set_ylim(bottom=0)
        count_along(axes)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    write_figure(figure, picture)


def draw_rates(
    rates: Sequence[float],
    losses: Sequence[float],
    smoothed: Sequence[float],
    picture: Path,
    *,
    suggestion: float | None,
) -> None:
    """Draw the loss over a rising learning rate, on a logarithmic scale.

    Args:
        rates: Learning rates.
        losses: The loss of each step.
        smoothed: The same, averaged over its neighbours.
        picture: A PNG or SVG, written whole or not at all.
        suggestion: The rate to be marked, if any.
    """
    figure, (axes,) = panels(width=7.0)
    axes.plot(rates, losses, ".", color="0.6", label="a step's loss")
    axes.plot(rates, smoothed, color=_TRAIN, linewidth=2, label="smoothed")
    if suggestion is not None:
        label = f"steepest descent, {suggestion:.2g}"
        axes.axvline(suggestion, color=_WATCHED, linestyle="--", linewidth=2, label=label)
    low, first = min(smoothed), max(smoothed[: max(1, len(smoothed) // 2)])
    room = max(first - low, 0.1 * abs(first))
    axes.set_ylim(max(0.0, low - 0.5 * room), first + room)  # what diverges would flatten the rest
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss")
    axes.grid(alpha=0.3)
    axes.legend()
    write_figure(figure, picture)
