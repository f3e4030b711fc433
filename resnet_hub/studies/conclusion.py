"""A study's folder: what was asked, the figure, the finding, and the page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resnet_hub.figures import write_figure
from resnet_hub.studies.designs import Study
from resnet_hub.studies.findings import (
    Difference,
    differences,
    finals,
    limits,
    sentences,
)
from resnet_hub.studies.members import Member
from resnet_hub.studies.outcomes import Outcome, deviation, mean_error, read_outcome, to_dict
from resnet_hub.studies.page import page
from resnet_hub.studies.pictures import draw_study
from resnet_hub.studies.plan import ASKED, PlannedRun, describe, to_json
from resnet_hub.weights.provenance import software
from resnet_hub.weights.store import write_text

FORMAT = 1
"""Format number of study.json and finding.json."""


def write_asked(
    design: Study, runs: Sequence[PlannedRun], out: Path, arguments: Sequence[str]
) -> None:
    """Write ``study.json``: what was asked for, and of which software.

    Args:
        design: The study.
        runs: All of its runs.
        out: Its folder, which is made.
        arguments: What asks for it again, after ``resnet-hub study NAME``.
    """
    out.mkdir(parents=True, exist_ok=True)
    content = {
        "format": FORMAT,
        "study": design.name,
        "title": design.title,
        "paper": design.paper,
        "arguments": list(arguments),
        "runs": describe(runs),
        "versions": software(),
    }
    write_text(out / ASKED, to_json(content))


def conclude(
    design: Study, runs: Sequence[PlannedRun], out: Path, *, command: str
) -> dict[str, Any]:
    """Draw the figure and write the finding from the runs that are there.

    Writes ``figure.png``, ``figure.svg``, ``finding.json`` and ``README.md``.

    Args:
        design: The study.
        runs: All of its runs, finished or not.
        out: Its folder.
        command: What was typed, for the page.

    Returns:
        What ``finding.json`` holds.

    Raises:
        CorruptFile: A run's numbers cannot be read.
        ResNetHubError: The disk refused.
    """
    outcomes = [read_outcome(run) for run in runs]
    found = differences(design, outcomes)
    finding = {
        "format": FORMAT,
        "study": design.name,
        "title": design.title,
        "paper": design.paper,
        "sentences": sentences(design, found, runs[0].recipe.trainer["max_steps"]),
        "limits": limits(outcomes),
        "nets": _nets(outcomes, out),
        "differences": [_difference(difference) for difference in found],
        "provenance": _provenance(outcomes, command),
    }
    figure = draw_study(design, outcomes)
    for ending in ("png", "svg"):
        write_figure(figure, out / f"figure.{ending}")
    write_text(out / "finding.json", to_json(finding))
    write_text(out / "README.md", page(finding))
    return finding


def _nets(outcomes: Sequence[Outcome], out: Path) -> list[dict[str, Any]]:
    members = list(dict.fromkeys(outcome.run.member for outcome in outcomes))
    return [_net(member, outcomes, out) for member in members]


def _net(member: Member, outcomes: Sequence[Outcome], out: Path) -> dict[str, Any]:
    own = [outcome for outcome in outcomes if outcome.run.member == member]
    found: dict[str, Any] = {"net": member.net, "label": member.label, "depth": member.depth}
    for split in ("train", "test"):
        errors = finals("train" if split == "train" else "test", member, outcomes)
        if errors:
            shares = [error.share for error in errors]
            mean = mean_error(errors)
            found[split] = {
                "error": mean.share,
                "std": deviation(shares),
                "n": mean.n,
                "interval": list(mean.interval),
                "seeds": len(errors),
            }
    return {**found, "runs": [to_dict(outcome, out) for outcome in own]}


def _difference(found: Difference) -> dict[str, Any]:
    return {
        "split": found.split,
        "of": found.one.label,
        "minus": found.other.label,
        "difference": found.value,
        "interval": list(found.interval),
        "seeds": list(found.seeds),
        "verdict": found.verdict,
    }


def _provenance(outcomes: Sequence[Outcome], command: str) -> dict[str, Any]:
    """Return what the finding rests on; what differs between runs is listed."""
    origins = [o.provenance for o in outcomes if o.provenance is not None]
    scores = [o.score for o in outcomes if o.score is not None]
    receipts = [score.receipt for score in scores if score.receipt is not None]
    runs = [outcome.run for outcome in outcomes]
    versions = [", ".join(f"{k} {v}" for k, v in (o.versions or {}).items()) for o in origins]
    return {
        "command": command,
        "recipes": _all(run.member.recipe for run in runs),
        "steps": _all(run.recipe.trainer["max_steps"] for run in runs),
        "paper_steps": _all(run.steps for run in runs),
        "data": _all(score.data for score in scores),
        "n": _all(score.n for score in scores),
        "data_sha256": _all(receipt.data_sha256 for receipt in receipts),
        "commits": _all(o.commit for o in origins if o.commit),
        "precision": _all(str(run.recipe.trainer.get("precision") or "32-true") for run in runs),
        "devices": _all(receipt.device for receipt in receipts),
        "versions": _all(versions),
    }


def _all(values: Any) -> list[Any]:
    return list(dict.fromkeys(values))
