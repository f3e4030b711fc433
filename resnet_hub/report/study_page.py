"""The page of a study: its finding in words, the figure, the nets, what it rests on."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from resnet_hub.errors import CorruptFile, DataMissing
from resnet_hub.report.drawn import curve_charts
from resnet_hub.report.page import Figure, Page, Section
from resnet_hub.report.runs import Trained
from resnet_hub.report.timing import timing
from resnet_hub.report.words import count, interval, percent, span

_SPLITS = {"train": "training", "test": "test"}
_DRAWINGS = {"figure.svg": "image/svg+xml", "figure.png": "image/png"}


@dataclass(frozen=True)
class Studied:
    """A study's folder, as far as it is filled.

    Attributes:
        folder: The folder.
        asked: What ``study.json`` holds.
        finding: What ``finding.json`` holds; empty before anything was found.
        drawing: Its figure as a ``data:`` address; empty before one was drawn.
    """

    folder: Path
    asked: Mapping[str, Any]
    finding: Mapping[str, Any]
    drawing: str

    def says(self, name: str) -> Any:
        """Return what the finding says of something, or else what was asked; or ``None``."""
        return self.finding.get(name, self.asked.get(name))


def read_study(folder: Path) -> Studied:
    """Read a study's folder.

    Raises:
        DataMissing: No study there.
        CorruptFile: One of its files is none of a study's.
    """
    asked, finding = (_read(folder / name) for name in ("study.json", "finding.json"))
    if not (asked or finding):
        raise DataMissing(f"{folder}: no study (it holds neither study.json nor finding.json)")
    # As a picture and not as a part of the page: another's drawing runs nothing there.
    found = (
        f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
        for name, kind in _DRAWINGS.items()
        if (path := folder / name).is_file()
    )
    return Studied(folder, asked, finding, next(found, ""))


def study_page(study: Studied, runs: Sequence[Trained]) -> Page:
    """Return the page of a study.

    Args:
        study: What its folder holds.
        runs: Its runs, finished or not.

    Raises:
        CorruptFile: Its finding lacks what a study's has.
    """
    try:
        sections = _sections(study, runs)
        sentences = list(map(str, study.finding.get("sentences", ())))
        nets = study.finding.get("nets", ())
        key = [_figure(net) for net in nets if net.get("test")][:6]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CorruptFile(f"{study.folder / 'finding.json'}: not a study's ({error!r})") from error
    lead = sentences[0] if sentences else "Nothing was found yet."
    title = str(study.says("title") or study.folder.name)
    return Page("Study", title, lead, key, sections, str(study.folder))


def _read(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise CorruptFile(f"{path}: not JSON ({error})") from error
    if not isinstance(content, dict):
        raise CorruptFile(f"{path}: not a study's")
    return content


def _sections(study: Studied, runs: Sequence[Trained]) -> list[Section]:
    finding, paper = study.finding, str(study.says("paper") or "")
    told = {name: list(map(str, finding.get(name, ()))) for name in ("sentences", "limits")}
    sections = [
        Section(
            "finding",
            "Finding",
            "finding.html",
            told,
            note=f"Asked in {paper}; computed from the runs below." if paper else "",
            missing="" if finding else "Nothing was found yet; `resnet-hub study` goes on with it.",
        )
    ]
    if study.drawing:
        facts = {"drawing": study.drawing, "title": study.says("title")}
        sections.append(Section("figure", "Figure", "figure.html", facts))
    if runs and (charts := curve_charts(runs)):
        note = "Every run as its folder tells it; seeds of one recipe as mean ± standard deviation."
        # One legend for all of them: each names every net.
        facts = {
            "legend": charts[0].lines,
            "charts": [replace(chart, lines=()) for chart in charts],
        }
        sections.append(Section("curves", "Learning curves", "charts.html", facts, note=note))
    if finding.get("nets"):
        facts = {
            "nets": [_net(net) for net in finding["nets"]],
            "differences": [_difference(found) for found in finding.get("differences", ())],
        }
        note = "± is the standard deviation over seeds; 95% intervals are of the images."
        sections.append(Section("nets", "Nets side by side", "nets.html", facts, note=note))
    if runs:
        sections.append(_runs_section(runs))
    if origin := finding.get("provenance"):
        groups = [{"title": "", "facts": [(_spaced(n), _listed(v)) for n, v in origin.items()]}]
        facts = {"groups": groups, "texts": ()}
        sections.append(Section("origin", "What was run", "facts.html", facts))
    return sections


def _runs_section(runs: Sequence[Trained]) -> Section:
    rows = []
    for run in runs:
        times = timing(run.rows)
        rows.append(
            {
                "name": run.folder.name,
                "net": run.net,
                "seed": run.recipe.seed,
                "steps": count(times.steps),
                "state": "finished" if (run.folder / "model").is_dir() else "in training",
                "training": None if times.seconds is None else span(times.seconds),
                "pace": None if times.images_per_s is None else f"{times.images_per_s:,.0f}",
            }
        )
    return Section("runs", "Runs", "runs.html", {"runs": rows}, note="Each has a page of its own.")


def _net(net: Mapping[str, Any]) -> dict[str, Any]:
    """Return a net's row; a net without a finished run has no errors."""
    errors = {split: _error(net[split]) if net.get(split) else None for split in _SPLITS}
    seeds = sum(run["state"] == "finished" for run in net["runs"])
    return {"label": str(net["label"]), "seeds": seeds, **errors}


def _error(found: Mapping[str, Any]) -> dict[str, Any]:
    low, high = map(float, found["interval"])
    std = found["std"]
    spread = None if std is None else float(std)
    return {"error": float(found["error"]), "std": spread, "interval": (low, high)}


def _difference(found: Mapping[str, Any]) -> dict[str, str]:
    low, high = (100 * float(end) for end in found["interval"])
    return {
        "split": _SPLITS.get(found["split"], str(found["split"])),
        "of": str(found["of"]),
        "minus": str(found["minus"]),
        "points": f"{100 * float(found['difference']):+.2f}",
        "interval": f"{low:+.2f} to {high:+.2f}",
        "verdict": str(found["verdict"]),
    }


def _figure(net: Mapping[str, Any]) -> Figure:
    test = _error(net["test"])
    note = f"test error, {interval(test['interval'])}"
    return Figure(str(net["label"]), percent(test["error"]), note)


def _spaced(name: str) -> str:
    return name.replace("_", " ").replace("sha256", "SHA-256")


def _listed(value: Any) -> str | None:
    if isinstance(value, list):
        return "; ".join(count(v) if type(v) is int else str(v) for v in value) or None
    return None if value is None else str(value)
