"""What a net answered for the images of a split, as the sections of a page."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from resnet_hub.data.batches import Selection
from resnet_hub.data.module import DataModule
from resnet_hub.evaluation.calibration import Calibration
from resnet_hub.evaluation.collected import Logits
from resnet_hub.evaluation.summary import Summary, summarise
from resnet_hub.figures import PALETTE
from resnet_hub.randomness import permutation
from resnet_hub.report.drawn import Chart, Named
from resnet_hub.report.inline import chart, inline, page_style
from resnet_hub.report.page import Section
from resnet_hub.report.words import count

_MATRIX = 20  # classes whose confusion is a table; of more the pairs alone are listed
_SHORT = 3  # letters of a name that fits over a column
_PAIRS = 10
_CLASSES = 20  # classes that are listed; of more those with the largest error
_EXAMPLES = 12  # pictures of a kind
_FEW = 10  # images below which a bar says little, and is pale
_AIR = 0.004  # between two bars
_SIDE = 128  # pixels of a picture at most; smaller ones are shown as they are


@dataclass(frozen=True)
class Example:
    """A picture that was answered.

    Attributes:
        image: As a ``data:`` address.
        small: Whether its pixels are to be seen as squares.
        true: Its class.
        given: What it was answered as.
        probability: Of that answer.
    """

    image: str
    small: bool
    true: str
    given: str
    probability: float


@dataclass(frozen=True, eq=False)
class Measured:
    """A net's answers on a data set's tested split.

    Attributes:
        data: Data set and split, as cards name them.
        summary: All that is said of them.
        wrong: The most confident mistakes.
        right: Some of the right answers, drawn by lot.
        temperature: The net's own, by which the examples' logits are divided, if it has one.
    """

    data: str
    summary: Summary
    wrong: tuple[Example, ...]
    right: tuple[Example, ...]
    temperature: float | None = None


def measured(
    found: Logits,
    data: DataModule,
    *,
    validation: Logits | None = None,
    temperature: float | None = None,
) -> Measured:
    """Return what a page shows of a net's logits for ``data.tested``.

    Args:
        found: The logits.
        data: What they are of.
        validation: Logits for images that the net chose its weights by, to fit a temperature on.
        temperature: The net's own, which the examples' probabilities are told at.

    Raises:
        ResNetHubError: Pictures that cannot be read.
    """
    summary = summarise(found, data.labels, validation=validation)
    tempered = found.values.double() / (temperature or 1)
    probabilities, answers = tempered.softmax(1).max(1)
    right = answers == found.labels
    surest = torch.argsort(probabilities, descending=True, stable=True)
    drawn = permutation(len(right), "examples of right answers", 0)
    kinds = (surest[~right[surest]], drawn[right[drawn]])
    wrong, correct = (
        _examples(places[:_EXAMPLES], found, answers, probabilities, data) for places in kinds
    )
    return Measured(data.measured, summary, wrong, correct, temperature)


def _examples(
    places: Tensor, found: Logits, answers: Tensor, probabilities: Tensor, data: DataModule
) -> tuple[Example, ...]:
    if not len(places):
        return ()
    images = data.split(data.tested).as_evaluated(data.preprocess)
    order = found.indices[places]
    batch = images[Selection(0, order)]
    pictures = dict(zip(batch.indices.tolist(), batch.images, strict=True))
    return tuple(
        Example(
            *_address(pictures[number]),
            true=data.labels[int(found.labels[place])],
            given=data.labels[int(answers[place])],
            probability=float(probabilities[place]),
        )
        for place, number in zip(places.tolist(), order.tolist(), strict=True)
        if number in pictures
    )


def _address(pixels: Tensor) -> tuple[str, bool]:
    """Return uint8 ``(C, H, W)`` as a ``data:`` address, and whether it is small."""
    shown = pixels[0] if len(pixels) != 3 else pixels.permute(1, 2, 0)
    picture = Image.fromarray(shown.numpy())
    small, stream = max(picture.size) <= _SIDE // 2, BytesIO()
    if small:
        picture.save(stream, "PNG", optimize=True)
    else:
        picture.thumbnail((_SIDE, _SIDE))
        picture.save(stream, "JPEG", quality=85)
    kind = "png" if small else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}", small


def confusion_section(found: Measured) -> Section:
    """Return which classes were taken for which: all of them, or of many the worst pairs."""
    summary = found.summary
    names = [score.name for score in summary.per_class]
    facts: dict[str, Any] = {"names": names, "rows": [], "pairs": _pairs(summary, names)}
    facts["upright"] = any(len(name) > _SHORT for name in names)
    if len(names) <= _MATRIX:
        facts["rows"] = [
            {"name": name, "cells": _cells(row, number)}
            for number, (name, row) in enumerate(
                zip(names, summary.confusion.tolist(), strict=True)
            )
        ]
    worst = sorted(summary.per_class, key=lambda score: -(score.top1_error or 0))
    facts["classes"] = worst[:_CLASSES]
    facts["left_out"] = max(0, len(worst) - _CLASSES)
    facts["error"] = summary.top1_error.value
    note = "A row is what a class's images were answered as." if facts["rows"] else ""
    return Section("confusion", "Classes", "confusion.html", facts, note=note)


def _cells(row: Sequence[int], own: int) -> list[dict[str, Any]]:
    total = sum(row) or 1
    return [
        {
            "count": value,
            "share": 100 * value / total,
            "kind": ("right" if column == own else "wrong") if value else "",
        }
        for column, value in enumerate(row)
    ]


def _pairs(summary: Summary, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the most frequent mistakes: class, answer, how often, of how many."""
    wrong = summary.confusion.clone().fill_diagonal_(0)
    totals = summary.confusion.sum(1).tolist()
    counts, places = wrong.flatten().topk(min(_PAIRS, wrong.numel()))
    found = []
    for value, place in zip(counts.tolist(), places.tolist(), strict=True):
        if value:
            true, given = divmod(place, len(names))
            found.append(
                {"true": names[true], "given": names[given], "count": value, "of": totals[true]}
            )
    return found


def calibration_section(found: Measured) -> Section:
    """Return how far the probabilities can be believed, before and after a temperature."""
    summary = found.summary
    rows = [("as they are", summary.calibration)]
    charts = [_reliability(summary.calibration, "before", "As they are")]
    note = f"A perfect net's bars end on the diagonal. Pale bars are of fewer than {_FEW} images."
    if (temperature := summary.temperature) is not None:
        rows.append((f"divided by {temperature.value:.3f}", temperature.after))
        charts.append(_reliability(temperature.after, "after", "With the temperature"))
        on = (
            f"{count(temperature.n)} validation images"
            if temperature.fitted_on == "validation"
            else "the tested images themselves, each half judged by the other's"
        )
        note += f" The temperature was fitted on {on}."
    facts = {"rows": rows, "charts": charts, "legend": ()}
    return Section("calibration", "Calibration", "calibration.html", facts, note=note)


def _reliability(found: Calibration, name: str, title: str) -> Chart:
    """Return how often answers of a probability are right; a perfect net is on the diagonal."""
    ticks = [0, 0.25, 0.5, 0.75, 1]
    with page_style():
        figure, axes = chart()
        axes.plot([0, 1], [0, 1], color=PALETTE[6], linewidth=0.8, linestyle=":")
        for part in found.bins:
            if part.accuracy is None or part.confidence is None:
                continue
            low, high = part.low + _AIR, part.high - _AIR
            alpha = 0.3 if part.n < _FEW else 0.85
            how: dict[str, Any] = {"align": "edge", "linewidth": 0, "alpha": alpha}
            axes.bar(low, part.accuracy, high - low, color=PALETTE[0], **how)
            axes.hlines(part.confidence, low, high, color=PALETTE[1], linewidth=2)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="probability of the answer, %")
        for ticked in (axes.xaxis, axes.yaxis):
            ticked.set_ticks(ticks, [f"{100 * tick:g}" for tick in ticks])
        told = f"Share of right answers by their probability, {title.lower()}"
        svg = inline(figure, name=f"reliability-{name}", told=told)
    lines = (Named("right answers, %", 0), Named("mean probability", 1))
    return Chart(title, "", lines, svg)


def examples_section(found: Measured) -> Section:
    """Return pictures that were answered wrong with most confidence, and some answered right."""
    facts = {"wrong": found.wrong, "right": found.right}
    note = "Mistakes are the most confident ones; right answers are drawn by lot."
    if found.temperature is not None:
        note += f" Probabilities at the card's temperature, {found.temperature:.4g}."
    return Section("examples", "Examples", "examples.html", facts, note=note)
