"""How the package's pictures look, and how they are written: colours, lines, bands, files."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_hub.errors import InvalidSetting, did_you_mean, printable
from resnet_hub.paths import check_place
from resnet_hub.weights.store import write_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's set, which colour-blind readers tell apart."""

FORMATS = (".png", ".svg")
"""What a picture can be written as, by its file's ending."""

_WIDTH, _HEIGHT, _DPI = 5.0, 4.0, 150  # inches a panel; at 8 points readable at a page's width


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        x: Where its points lie.
        y: Their values.
        label: What the legend calls it; ``None`` leaves it out.
        colour: As matplotlib takes it.
        dashed: Draw it dashed: training, where the other is test.
        band: Lower and upper values at each point, such as the spread over seeds.
        width: Of the line, in points.
    """

    x: Sequence[float]
    y: Sequence[float]
    label: str | None = None
    colour: str = PALETTE[0]
    dashed: bool = False
    band: tuple[Sequence[float], Sequence[float]] | None = None
    width: float = 1.5


def panels(
    columns: int = 1, rows: int = 1, *, width: float = _WIDTH, height: float = _HEIGHT
) -> tuple["Figure", list["Axes"]]:
    """Return an empty figure and its charts, row by row.

    The object interface leaves matplotlib's global state and any window system alone.

    Args:
        columns: Charts beside each other.
        rows: Charts below each other.
        width: Of a chart, in inches.
        height: Likewise.
    """
    from matplotlib.figure import Figure

    size = (width * columns, height * rows)
    figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def draw(axes: "Axes", line: Line) -> None:
    """Draw one line, and its band behind it.

    A single point becomes a dot, to be seen at all: a hollow one where the line would be dashed.
    """
    axes.plot(
        line.x,
        line.y,
        color=line.colour,
        label=line.label and plain(line.label),
        linestyle="--" if line.dashed else "-",
        linewidth=line.width,
        marker="." if len(line.x) == 1 else None,
        markersize=10,
        markerfacecolor="white" if line.dashed else line.colour,
    )
    if line.band is not None:
        low, high = line.band
        axes.fill_between(line.x, low, high, color=line.colour, alpha=0.2, linewidth=0)


def count_along(axes: "Axes") -> None:
    """Put ticks at whole numbers alone along the x axis, of epochs, steps or layers."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def plain(text: str) -> str:
    """Return other people's words as matplotlib draws them letter by letter.

    Between two ``$`` it would see a formula, or raise an error where there is none; and what turns
    the direction of writing, or is no letter, is spelt out. A label that began with ``_`` would be
    left out of the legend.
    """
    shown = printable(text).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def check_format(picture: Path) -> None:
    """Check that a picture can be written under a name.

    Raises:
        InvalidSetting: It ends in neither of :data:`FORMATS`, or there is no place for it.
    """
    if (ending := picture.suffix.lower()) not in FORMATS:
        hint = did_you_mean(ending, FORMATS)
        raise InvalidSetting(f"{picture}: ends in neither {' nor '.join(FORMATS)}{hint}")
    check_place(picture)


def write_figure(figure: "Figure", picture: Path) -> None:
    """Write a figure, whole or not at all, as its file's ending says; the same figure, same bytes.

    Raises:
        InvalidSetting: See :func:`check_format`.
        ResNetHubError: The disk refused.
    """
    import matplotlib as mpl

    check_format(picture)
    kind, stream = picture.suffix.lower()[1:], BytesIO()
    options: dict[str, Any] = {"metadata": {"Date": None}} if kind == "svg" else {}
    # Letters stay letters, which the reader's fonts draw; without a salt, ids would be random.
    style = mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "resnet_hub"})
    with style, warnings.catch_warnings():
        # A letter that the font lacks is a box in a PNG, and a letter in an SVG.
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from")
        figure.savefig(stream, format=kind, **options)
    write_file(picture, lambda file: file.write(stream.getvalue()))
