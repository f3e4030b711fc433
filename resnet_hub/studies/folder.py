"""The files of a study that measures nets: what was asked, figure, finding, numbers, page."""

import csv
import json
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_hub.errors import InvalidSetting
from resnet_hub.figures import write_figure
from resnet_hub.studies.plan import to_json
from resnet_hub.weights.provenance import software
from resnet_hub.weights.store import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def check_folder(out: Path, study: str) -> None:
    """Check that a folder is free, or holds this study: nothing else is overwritten.

    Raises:
        InvalidSetting: It holds another study or files of other hands, or is a file.
    """
    if out.exists() and not out.is_dir():
        raise InvalidSetting(f"--out {out}: is a file; choose another folder")
    for name in ("study.json", "finding.json"):
        try:
            held = json.loads((out / name).read_text("utf-8")).get("study")
        except (OSError, ValueError, AttributeError):  # none there, or nobody's study
            continue
        if held != study:
            raise InvalidSetting(f"--out {out}: holds a study of {held}; choose another folder")
    if (out / "study.json").exists():
        return
    for name in ("figure.png", "figure.svg", f"{study}.csv", "finding.json", "README.md"):
        if (out / name).exists():
            raise InvalidSetting(f"--out {out}: {name} there is of no study; choose another folder")


def write_asked(out: Path, finding: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Write ``study.json``: what was asked for, and of which software.

    Args:
        out: The folder, which is made.
        finding: Says which study it is.
        asked: What else was asked for.
    """
    named = {name: finding[name] for name in ("format", "study", "title", "paper")}
    write_text(out / "study.json", to_json({**named, **asked, "versions": software()}))


def write_study(
    out: Path, finding: Mapping[str, Any], figure: "Figure", *, table: str, page: str
) -> None:
    """Write ``figure.png``, ``figure.svg``, a study's numbers, ``finding.json`` and ``README.md``.

    Args:
        out: The folder, which is made.
        finding: What was found; its ``study`` names the table.
        figure: What was drawn.
        table: The numbers, as CSV.
        page: The page, in Markdown.

    Raises:
        ResNetHubError: The disk refused.
    """
    for ending in ("png", "svg"):
        write_figure(figure, out / f"figure.{ending}")
    write_text(out / f"{finding['study']}.csv", table)
    write_text(out / "finding.json", to_json(finding))
    write_text(out / "README.md", page)


def csv_text(names: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table as CSV."""
    stream = StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)
    return stream.getvalue()
