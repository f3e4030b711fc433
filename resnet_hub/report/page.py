"""A page: its parts, and how they become one HTML file that needs nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from resnet_hub import __version__
from resnet_hub.errors import InvalidSetting, printable
from resnet_hub.paths import check_place
from resnet_hub.report.words import amount, count, interval, percent
from resnet_hub.weights.store import write_text


@dataclass(frozen=True)
class Figure:
    """One of the numbers that a page opens with."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        id: What links to it end in.
        title: Its heading.
        template: Name of its template.
        facts: What the template shows, as ``facts``.
        note: Small print under the heading.
        missing: Why there is nothing to show; the template is left out then.
    """

    id: str
    title: str
    template: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    missing: str = ""


@dataclass(frozen=True)
class Page:
    """A whole page.

    Attributes:
        kind: What it is of: a run, a study, a model.
        title: Its name.
        lead: What there is to say, in a sentence or two.
        key: The numbers that it opens with.
        sections: Its parts.
        source: The folder or name that it was made of.
    """

    kind: str
    title: str
    lead: str
    key: Sequence[Figure]
    sections: Sequence[Section]
    source: str


def write_page(page: Page, out: Path) -> None:
    """Write a page as one HTML file, whole or not at all; the same page, same bytes.

    Raises:
        InvalidSetting: See :func:`check_name`.
        ResNetHubError: The disk refused.
    """
    check_name(out)
    write_text(out, rendered(page))


def check_name(out: Path) -> None:
    """Check that a page can be written under a name.

    Raises:
        InvalidSetting: It does not end in ``.html``, or there is no place for it.
    """
    if out.suffix.lower() not in (".html", ".htm"):
        raise InvalidSetting(f"{out}: a page's name ends in .html")
    check_place(out)


def rendered(page: Page) -> str:
    """Return a page's HTML: every text in it escaped, style and pictures within."""
    style = (files(__package__) / "templates" / "page.css").read_text("utf-8")
    css = Markup(style)  # noqa: S704 - ours; escaped, its quotes would be none
    return _environment().get_template("page.html").render(page=page, css=css, version=__version__)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(__package__ or "resnet_hub.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(amount=amount, count=count, interval=interval, percent=percent)
    return environment


def _shown(value: Any) -> Any:
    """Return a value as it is shown: what would turn writing round or be no letter is spelt out."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return "\n".join(map(printable, value.split("\n")))
    return value
