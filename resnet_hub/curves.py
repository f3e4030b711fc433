"""Learning curves drawn from a run's metrics.csv, and the loss over a rising learning rate."""

import csv
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_hub.errors import CorruptFile
from resnet_hub.weights.store import write_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Points = tuple[list[float], list[float]]

_TRAIN, _WATCHED, _LIVE = "#0072B2", "#D55E00", "#009E73"  # Okabe and Ito's colour-blind-safe set


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


def series(rows: list[dict[str, float]], name: str) -> Points:
    """Return the epochs (1 is the first) and values of one column, last value an epoch."""
    values = {int(row["epoch"]) + 1: row[name] for row in rows if name in row}
    return [float(epoch) for epoch in values], list(values.values())


def draw_curves(metrics: Path, picture: Path) -> None:
    """Draw error and loss over the epochs, training against the watched split, as PNG.

    Args:
        metrics: A run's metrics.csv.
        picture: Written whole or not at all.
    """
    # The object interface leaves matplotlib's global state and any window system alone.
    from matplotlib.figure import Figure

    rows = read_metrics(metrics)
    split = next((s for s in ("val", "test") if any(f"{s}/loss" in row for row in rows)), "val")
    figure = Figure(figsize=(10, 4), layout="constrained")
    error, loss = figure.subplots(1, 2)
    for name, colour, label in (
        ("train/top1", _TRAIN, "training"),
        ("train/soft_top1", _TRAIN, "training, of mixed targets"),
        (f"{split}/top1", _WATCHED, "validation" if split == "val" else "test"),
        (f"{split}/live_top1", _LIVE, "without averaging"),
    ):
        epochs, values = series(rows, name)
        if epochs:
            values = [100 * (1 - value) for value in values]
            error.plot(epochs, values, color=colour, label=label, marker=_marker(epochs))
    for name, colour, label in (
        ("train/epoch_loss", _TRAIN, "training"),
        (f"{split}/loss", _WATCHED, "validation" if split == "val" else "test"),
    ):
        epochs, values = series(rows, name)
        if epochs:
            loss.plot(epochs, values, color=colour, label=label, marker=_marker(epochs))
    for axes, title in ((error, "top-1 error (%)"), (loss, "loss")):
        axes.set(xlabel="epoch", title=title)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    _write(figure, picture)


def draw_rates(
    rates: Sequence[float],
    losses: Sequence[float],
    smoothed: Sequence[float],
    picture: Path,
    *,
    suggestion: float | None,
) -> None:
    """Draw the loss over a rising learning rate, on a logarithmic scale, as PNG.

    Args:
        rates: Learning rates.
        losses: The loss of each step.
        smoothed: The same, averaged over its neighbours.
        picture: Written whole or not at all.
        suggestion: The rate to be marked, if any.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), dpi=150, layout="constrained")
    axes = figure.subplots()
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
    _write(figure, picture)


def _write(figure: "Figure", picture: Path) -> None:
    stream = BytesIO()
    figure.savefig(stream, format="png")
    write_file(picture, lambda file: file.write(stream.getvalue()))


def _marker(epochs: list[float]) -> str | None:
    return "." if len(epochs) == 1 else None  # a line through one point is not seen
