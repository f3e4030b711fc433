"""Models side by side: what each costs, and how often it is wrong."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from resnet_hub.counting import multiply_adds, parameters
from resnet_hub.errors import DataMissing
from resnet_hub.evaluation.summary import Summary
from resnet_hub.figures import PALETTE, panels, plain, write_figure
from resnet_hub.metrics import wilson
from resnet_hub.weights.card import WEIGHTS_NAME, Card


@dataclass(frozen=True)
class Result:
    """How often a model is wrong, as fractions.

    Attributes:
        data: Data set and split.
        n: Images.
        error: Top-1.
        interval: Its 95% interval: bootstrapped where it was measured now, else Wilson's.
        top5_error: The right class is not among the first five.
        recorded: Whether it is the card's.
    """

    data: str
    n: int
    error: float
    interval: tuple[float, float]
    top5_error: float
    recorded: bool


@dataclass(frozen=True)
class Compared:
    """A row of the comparison.

    Attributes:
        name: What it was called: a folder or a name.
        net: Its net.
        parameters: Learnable numbers.
        multiply_adds: Of one image of its own size.
        pixels: Side of that image.
        file_bytes: Of its weights' file.
        result: ``None`` where it was not measured on the data that are compared.
        images_per_s: As measured now; ``None`` where it was not.
        hardware: What that was measured on.
    """

    name: str
    net: str
    parameters: int
    multiply_adds: int
    pixels: int
    file_bytes: int
    result: Result | None
    images_per_s: float | None = None
    hardware: str | None = None


def compared(
    name: str,
    folder: Path,
    card: Card,
    result: Result | None,
    pace: float | None = None,
    hardware: str | None = None,
) -> Compared:
    """Return a model's row.

    Args:
        name: What it was called.
        folder: Where it lies.
        card: Its card.
        result: How often it is wrong, where that is known.
        pace: Images a second, where that was measured.
        hardware: What that was measured on.
    """
    net, size = card.architecture, card.preprocess.size
    weights = (folder / WEIGHTS_NAME).stat().st_size
    costs = parameters(net), multiply_adds(net, size), size, weights
    return Compared(name, card.name, *costs, result, pace, hardware)


def measured_result(data: str, summary: Summary) -> Result:
    """Return what was measured now."""
    rate = summary.top1_error
    ends = (rate.low, rate.high)
    return Result(data, summary.n, rate.value, ends, summary.top5_error.value, recorded=False)


def recorded_result(card: Card, data: str | None) -> Result | None:
    """Return the first score of a card on some data; ``None`` where there is none."""
    score = next((s for s in card.provenance.scores if s.data == data), None)
    if score is None:
        return None
    wrong = score.n - round(score.top1 * score.n)
    ends = wilson(wrong, score.n)
    return Result(score.data, score.n, 1 - score.top1, ends, 1 - score.top5, recorded=True)


def shared_data(cards: Sequence[Card]) -> str | None:
    """Return the data that most of some models have a score on; of several the first one named."""
    names = [
        name for card in cards for name in dict.fromkeys(s.data for s in card.provenance.scores)
    ]
    return max(dict.fromkeys(names), key=names.count, default=None)


def draw_comparison(rows: Sequence[Compared], picture: Path) -> None:
    """Draw top-1 error against parameters and multiply-adds, as PNG or SVG by the file's ending.

    Raises:
        DataMissing: None of the models was measured.
        ResNetHubError: The ending is another, or the disk refused.
    """
    write_figure(comparison(rows), picture)


def comparison(rows: Sequence[Compared]) -> Figure:
    """Return the figure that :func:`draw_comparison` writes.

    Raises:
        DataMissing: None of the models was measured.
    """
    shown = [(row, row.result) for row in rows if row.result is not None]
    if not shown:
        raise DataMissing(
            "no model has a score to draw; measure them by --data, or record one by "
            "`resnet-hub test`"
        )
    figure, (left, right) = panels(2)
    labels = _labels([row for row, _ in shown])
    for axes, title, costs in (
        (left, "parameters (millions)", [row.parameters for row, _ in shown]),
        (right, "multiply-adds of an image (millions)", [row.multiply_adds for row, _ in shown]),
    ):
        for cost, (_, result), label in zip(costs, shown, labels, strict=True):
            inward = cost**2 > min(costs) * max(costs)  # right of the middle: within the chart
            _point(axes, cost / 1e6, result, label, inward=inward)
        axes.set(xscale="log", xlabel=title, ylabel="top-1 error (%)")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())  # its powers of ten would crowd the axis
        axes.margins(x=0.25, y=0.15)
        axes.grid(alpha=0.25, linewidth=0.6, which="both")
        axes.spines[["top", "right"]].set_visible(False)
    (_, first), *_ = shown
    title = f"{plain(first.data)}, n = {first.n:,}; bars are 95% intervals"
    figure.suptitle(title, fontsize="medium")
    return figure


def _point(axes: Axes, cost: float, result: Result, label: str, *, inward: bool) -> None:
    error, (low, high) = 100 * result.error, (100 * end for end in result.interval)
    bars = [[max(0.0, error - low)], [max(0.0, high - error)]]
    axes.errorbar([cost], [error], yerr=bars, fmt="o", color=PALETTE[0], markersize=5, capsize=3)
    axes.annotate(
        plain(label),
        (cost, error),
        xytext=(-7 if inward else 7, 5),
        ha="right" if inward else "left",
        textcoords="offset points",
        fontsize="small",
    )


def _labels(rows: Sequence[Compared]) -> list[str]:
    """Return the nets' names, or what the models were called where nets are alike."""
    nets = [row.net for row in rows]
    return [row.net if nets.count(row.net) == 1 else row.name for row in rows]
