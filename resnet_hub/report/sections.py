"""The sections that pages share: scores, architecture, where weights come from."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from resnet_hub.architecture import Architecture
from resnet_hub.counting import multiply_adds, parameters
from resnet_hub.learning.settings import Recipe
from resnet_hub.metrics import wilson
from resnet_hub.preprocess import Preprocess
from resnet_hub.report.measured import Measured
from resnet_hub.report.page import Section
from resnet_hub.report.runs import flattened
from resnet_hub.report.stages import stages
from resnet_hub.report.words import count
from resnet_hub.weights.card import Card
from resnet_hub.weights.provenance import Score

_SHOWN_PARTS = ("form", "block", "stem", "shortcut", "stride_in")
"""Of the architecture: shown whatever they are; the others only where they differ."""


def scores_section(
    scores: Sequence[Score], found: Measured | None = None, *, missing: str = ""
) -> Section:
    """Return what was measured now, and what a card holds, each with intervals.

    Args:
        scores: The card's.
        found: What was measured for the page.
        missing: Why there is neither.
    """
    rows = [*([_measured(found)] if found else []), *map(_score, scores)]
    if not rows:
        return Section("scores", "Scores", missing=missing or "No score is recorded.")
    notes = []
    if scores:
        own = ", that of this page's is bootstrapped" if found else ""
        notes.append(f"Intervals of recorded scores are Wilson's{own}.")
    if found and (pace := found.summary.images_per_s):
        where = found.summary.hardware
        notes.append(f"For this page {pace:,.0f} images a second were answered on {where}.")
    return Section("scores", "Scores", "scores.html", {"scores": rows}, note=" ".join(notes))


def architecture_section(net: Architecture, size: int) -> Section:
    """Return a net part by part, with what it costs at images of a size."""
    usual = Architecture(depths=net.depths, block=net.block)
    own = [
        (name.replace("_", " "), _worded(value))
        for name, value in net.to_dict().items()
        if name in _SHOWN_PARTS or (name != "depths" and value != getattr(usual, name))
    ]
    facts = {
        "stages": stages(net, size),
        "layers": net.layers,
        "parameters": parameters(net),
        "multiply_adds": multiply_adds(net, size),
        "own": own,
    }
    note = f"Multiply-adds of one image of {size} × {size} pixels."
    return Section("architecture", "Architecture", "stages.html", facts, note=note)


def origin_section(card: Card | None, recipe: Recipe | None, *, command: str = "") -> Section:
    """Return what was run, on what and by which versions; what is not known says so.

    Args:
        card: Of the model, where there is one.
        recipe: What it was trained by, where that is known.
        command: What trains it again.
    """
    groups: list[dict[str, Any]] = []
    if recipe is not None:
        groups.append({"title": "Recipe", "settings": list(_settings(recipe))})
    if card is not None:
        groups.append({"title": "Provenance", "facts": _provenance(card)})
        groups.append({"title": "Images", "facts": _images(card.preprocess)})
    texts = []
    if command:
        texts.append(("Train it again", command))
    if recipe is not None:
        whole = yaml.safe_dump(recipe.to_dict(), sort_keys=False, allow_unicode=True)
        texts.append(("The whole recipe", whole))
    return Section(
        "origin",
        "What was run",
        "facts.html",
        {"groups": groups, "texts": texts},
        note="Settings that are not listed are the package's own." if recipe else "",
    )


def _measured(found: Measured) -> dict[str, Any]:
    first, fifth = found.summary.top1_error, found.summary.top5_error
    return {
        "data": found.data,
        "n": found.summary.n,
        "error1": first.value,
        "interval1": (first.low, first.high),
        "error5": fifth.value,
        "interval5": (fifth.low, fifth.high),
        "how": "for this page",
    }


def _score(score: Score) -> dict[str, Any]:
    right = [round(share * score.n) for share in (score.top1, score.top5)]
    first, fifth = (wilson(score.n - hits, score.n) for hits in right)
    return {
        "data": score.data,
        "n": score.n,
        "error1": 1 - score.top1,
        "interval1": first,
        "error5": 1 - score.top5,
        "interval5": fifth,
        "how": f"recorded, {score.receipt}" if score.receipt else "published by others",
    }


def _settings(recipe: Recipe) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield a recipe's settings, section by section, where they are not the package's own."""
    usual = Recipe().to_dict()
    for name, section in recipe.to_dict().items():
        if not isinstance(section, Mapping):
            if section not in ([], None):
                yield name, [("", _worded(section))]
            continue
        own = dict(flattened(usual.get(name) or {}))
        told = [
            ("" if key == "name" else key, _worded(value))
            for key, value in flattened(section)
            if key not in own or own[key] != value
        ]
        if told:
            yield name, told


def _provenance(card: Card) -> list[tuple[str, str | None]]:
    origin = card.provenance
    devices = dict.fromkeys(str(s.receipt) for s in origin.scores if s.receipt)
    versions = ", ".join(f"{k} {v}" for k, v in (origin.versions or {}).items())
    facts: list[tuple[str, str | None]] = [
        ("source", origin.source),
        ("commit", origin.commit),
        ("versions", versions or None),
        ("trained on", origin.hardware),
        ("measured at", ", ".join(devices) or None),
        ("licence of the weights", origin.licence),
        ("weights' SHA-256", origin.sha256 or None),
    ]
    cooled = card.temperature and f"{card.temperature:g}, which `predict` divides logits by"
    more = (
        ("temperature", cooled),
        ("parent", origin.parent),
        ("parity", origin.parity and str(origin.parity)),
    )
    return facts + [(name, value) for name, value in more if value]


def _images(preprocess: Preprocess) -> list[tuple[str, str | None]]:
    whole = f"{preprocess.size} × {preprocess.size} pixels"
    cut = (
        f"shorter side to {preprocess.resize}, {preprocess.interpolation}, then the centre"
        if preprocess.resize
        else "both sides brought to it where they are others"
    )
    a_pixel = len(preprocess.mean) != preprocess.channels
    mean = "one a pixel" if a_pixel else ", ".join(f"{m:g}" for m in preprocess.mean)
    return [
        ("size", f"{whole}; {cut}"),
        ("mean", mean),
        ("standard deviation", ", ".join(f"{s:g}" for s in preprocess.std)),
    ]


def _worded(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_worded, value))}]"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "none"}[value]
    if isinstance(value, float):
        return f"{value:g}"
    return count(value) if isinstance(value, int) else str(value)
