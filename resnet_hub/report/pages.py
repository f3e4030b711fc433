"""The page of a run, and that of a model."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from resnet_hub.architecture import Architecture
from resnet_hub.counting import multiply_adds, parameters
from resnet_hub.curves import series, watched_split
from resnet_hub.errors import InvalidSetting
from resnet_hub.learning.settings import Recipe
from resnet_hub.preprocess import Preprocess
from resnet_hub.report.drawn import curve_charts, pace_chart
from resnet_hub.report.measured import (
    Measured,
    calibration_section,
    confusion_section,
    examples_section,
)
from resnet_hub.report.page import Figure, Page, Section
from resnet_hub.report.runs import Trained
from resnet_hub.report.sections import architecture_section, origin_section, scores_section
from resnet_hub.report.timing import Timing, timing
from resnet_hub.report.words import amount, count, interval, percent, span
from resnet_hub.weights.card import Card

_FORMS = {
    "residual": "residual net",
    "plain": "plain net",
    "preact": "pre-activation residual net",
    "bn_after_addition": "residual net, normalised after the additions,",
    "relu_before_addition": "residual net, activated before the additions,",
    "relu_only_preact": "residual net with ReLU alone before the convolutions",
}
_SPLITS = {"val": "validation", "test": "test"}


@dataclass(frozen=True)
class Net:
    """What a page needs to know of a net: its architecture, and the images that it takes."""

    architecture: Architecture
    preprocess: Preprocess


def run_page(
    run: Trained,
    net: Net | None,
    *,
    card: Card | None = None,
    found: Measured | None = None,
    missing: str = "",
) -> Page:
    """Return the page of a run, finished or not.

    Args:
        run: The run.
        net: Its net; ``None`` before there is a checkpoint.
        card: Of the model that it exported; ``None`` before its end.
        found: What the model answered, where that was measured.
        missing: Why it was not.
    """
    times, charts = timing(run.rows), curve_charts([run])
    curves = Section(
        "curves",
        "Learning curves",
        "charts.html",
        {"charts": charts, "legend": ()},
        note="Training's values are means over an epoch, in which the net changes.",
        missing="" if charts else "Nothing was logged yet.",
    )
    sections = [curves, *_answers(card, found, missing), *_architecture(net), _time(times)]
    command = shlex.join(["resnet-hub", "fit", str(run.folder / "recipe.yaml")])
    sections.append(origin_section(card, run.recipe, command=command))
    return Page(
        kind="Training run",
        title=card.name if card else run.net,
        lead=_run_lead(run, card, net, found, times),
        key=[*_errors(card, found), *_last(run, card), *_costs(net), *_training(run, times)],
        sections=sections,
        source=str(run.folder),
    )


def model_page(card: Card, source: str, *, found: Measured | None, missing: str = "") -> Page:
    """Return the page of a model.

    Args:
        card: Its card.
        source: Its folder, or what it is called.
        found: What it answered, where that was measured.
        missing: Why it was not.
    """
    net = Net(card.architecture, card.preprocess)
    lead = f"{_in_words(net.architecture)} for {count(net.architecture.classes)} classes."
    return Page(
        kind="Model",
        title=card.name,
        lead=" ".join([lead, _score_in_words(card, found)]),
        key=[*_errors(card, found), *_costs(net)],
        sections=[
            *_answers(card, found, missing),
            *_architecture(net),
            origin_section(card, _recipe(card)),
        ],
        source=source,
    )


def _recipe(card: Card) -> Recipe | None:
    """Return what a model says that it was trained by, where this version can read that."""
    if card.provenance.recipe is None:
        return None
    try:
        return Recipe.from_dict(card.provenance.recipe)
    except InvalidSetting:
        return None


def _answers(card: Card | None, found: Measured | None, missing: str) -> list[Section]:
    """Return what a net answered: scores, classes, calibration, examples, or why they are not."""
    scores = card.provenance.scores if card else ()
    sections = [scores_section(scores, found, missing=missing)]
    if found is not None:
        return [
            *sections,
            confusion_section(found),
            calibration_section(found),
            examples_section(found),
        ]
    title = "Classes, calibration, examples"
    return [*sections, Section("confusion", title, missing=f"Not measured. {missing}")]


def _architecture(net: Net | None) -> list[Section]:
    if net is None:
        missing = "Not known before the first checkpoint."
        return [Section("architecture", "Architecture", missing=missing)]
    return [architecture_section(net.architecture, net.preprocess.size)]


def _run_lead(
    run: Trained, card: Card | None, net: Net | None, found: Measured | None, times: Timing
) -> str:
    what = f"{_in_words(net.architecture)}," if net else run.net
    data = card.provenance.scores[0].data.rpartition(" ")[0] if card else run.recipe.data.name
    lead = f"{what} trained for {count(times.steps)} steps on {data}."
    if card is None:
        return f"{lead} The run has not ended."
    return f"{lead} {_score_in_words(card, found)}"


def _in_words(net: Architecture) -> str:
    size = f"{net.layers} layers and {amount(parameters(net))} parameters"
    return f"A {_FORMS.get(net.form, 'net')} of {size}"


def _score_in_words(card: Card, found: Measured | None) -> str:
    if found is not None:
        rate, n, data = found.summary.top1_error, found.summary.n, found.data
        ends = f" (95% interval {interval((rate.low, rate.high))})"
        return f"It is wrong on {percent(rate.value)}{ends} of the {count(n)} images of {data}."
    if not card.provenance.scores:
        return "No score of it is recorded."
    score = card.provenance.scores[0]
    return (
        f"It is wrong on {percent(1 - score.top1)} of the {count(score.n)} images of {score.data}."
    )


def _errors(card: Card | None, found: Measured | None) -> list[Figure]:
    if found is not None:
        rate = found.summary.top1_error
        note = f"{interval((rate.low, rate.high))}, {found.data}"
        return [Figure("top-1 error", percent(rate.value), note)]
    scores = card.provenance.scores if card else ()
    return [
        Figure("top-1 error", percent(1 - s.top1), f"{s.data}, n = {s.n:,}") for s in scores[:1]
    ]


def _last(run: Trained, card: Card | None) -> list[Figure]:
    """Return how an unfinished run stands."""
    if card is not None:
        return []
    split = watched_split(run.rows)
    found = []
    for name, title in ((f"{split}/top1", _SPLITS[split]), ("train/top1", "training")):
        epochs, values = series(run.rows, name)
        if values:
            found.append(
                Figure(f"{title} error", percent(1 - values[-1]), f"after epoch {epochs[-1]:g}")
            )
    return found


def _costs(net: Net | None) -> list[Figure]:
    if net is None:
        return []
    size = net.preprocess.size
    return [
        Figure("parameters", amount(parameters(net.architecture))),
        Figure("multiply-adds", amount(multiply_adds(net.architecture, size)), f"at {size} pixels"),
    ]


def _training(run: Trained, times: Timing) -> Sequence[Figure]:
    epochs, whole = max((row["epoch"] for row in run.rows), default=0) + 1, times.seconds
    figures = [Figure("steps", count(times.steps), f"in {epochs:,.0f} epochs")]
    pace = times.images_per_s
    note = "" if pace is None else f"{pace:,.0f} images a second"
    if whole is not None:
        figures.append(Figure("in training", span(whole), note))
    elif pace is not None:
        figures.append(Figure("images a second", f"{pace:,.0f}", "in training"))
    return figures


def _time(times: Timing) -> Section:
    waited, seconds = times.waited, times.seconds
    lost = "" if seconds is None or waited is None else f" ({span(seconds * waited)})"
    facts = [
        ("steps", count(times.steps)),
        ("training", None if seconds is None else span(seconds)),
        ("waiting for data", None if waited is None else f"{waited:.1%} of it{lost}"),
        (
            "images a second",
            None if times.images_per_s is None else f"{times.images_per_s:,.0f}, the median",
        ),
        ("validation and test", None),
    ]
    charts = [chart for chart in (pace_chart(times),) if chart]
    note = "Of training: stops, validation and test are left out."
    content = {"facts": facts, "charts": charts, "legend": ()}
    return Section("time", "Where the time went", "time.html", content, note=note)
