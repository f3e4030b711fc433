"""Charts as part of a page: SVG whose letters and lines take the page's colours, light or dark."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from io import StringIO
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from resnet_hub.figures import PALETTE

SIZE = (3.5, 2.5)  # inches; shown at about its own size, so that letters stay letters on a phone
_INK = "#010203"  # stands for the colour of the page's text; nothing else is drawn in it
_STYLE: dict[Any, Any] = {
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _INK
    ),
    "grid.color": _INK,
    "font.size": 8.5,
    "axes.labelsize": 8.5,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",
    "savefig.transparent": True,
}


@contextmanager
def page_style() -> Iterator[None]:
    """Let charts that are made inside the block be of a page: small, and in its colours."""
    with mpl.rc_context(_STYLE):
        yield


def chart() -> tuple[Figure, Axes]:
    """Return an empty figure of a page's size, and its chart; see :func:`page_style`."""
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    axes.grid(alpha=0.15, linewidth=0.6)
    return figure, axes


def inline(figure: Figure, *, name: str, told: str) -> Markup:
    """Return a figure as an SVG element; call it within :func:`page_style`.

    Args:
        figure: The figure; its size becomes that of a page's chart.
        name: One word, another one for each chart of a page: ids begin with it.
        told: What is seen, for those who do not see it.
    """
    figure.set_size_inches(*SIZE)
    stream = StringIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    box = re.search(r'viewBox="[^"]*"', svg)
    body = svg[svg.index(">") + 1 : svg.rindex("</svg>")]
    for pattern, text in (
        (r"<metadata>.*?</metadata>", ""),
        (r"<style.*?</style>", ""),  # would be the whole page's
        (r"font-family: [^;\"]*(; )?", ""),
        (r'(id="|href="#|url\(#)', rf"\g<1>{name}-"),
        (r"\s*\n\s*", "\n"),
    ):
        body = re.sub(pattern, text, body, flags=re.DOTALL)
    body = body.replace(_INK, "currentColor")
    for number, colour in enumerate(PALETTE):
        body = re.sub(colour, f"var(--c{number})", body, flags=re.IGNORECASE)
    opening = f'<svg role="img" aria-label="{escape(told)}" {box[0] if box else ""}>'
    return Markup(f"{opening}{body.strip()}</svg>")  # noqa: S704 - drawn here; texts are escaped
