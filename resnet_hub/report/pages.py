"""The page of a run, and that of a model."""

from collections.abc import Sequence

from resnet_hub.architecture import Architecture
from resnet_hub.counting import multiply_adds, parameters
from resnet_hub.learning.reporting.pace import duration
from resnet_hub.report.drawn import curve_charts, pace_chart
from resnet_hub.report.page import Figure, Page, Section
from resnet_hub.report.runs import Trained
from resnet_hub.report.sections import architecture_section, origin_section, scores_section
from resnet_hub.report.timing import Timing, timing
from resnet_hub.report.words import amount, count, percent
from resnet_hub.weights.card import Card

_FORMS = {"residual": "residual", "plain": "plain", "preact": "pre-activation residual"}


def run_page(run: Trained, card: Card | None, net: Architecture | None, size: int) -> Page:
    """Return the page of a run, finished or not.

    Args:
        run: The run.
        card: Of the model that it exported; ``None`` before its end.
        net: Its net, where that is known.
        size: Side of the net's images, in pixels.
    """
    found = timing(run.rows)
    charts = curve_charts([run])
    unfinished = "" if card else "The run has not ended yet: nothing was tested and exported."
    sections = [
        Section(
            "curves",
            "Learning curves",
            "charts.html",
            {"charts": charts},
            note="Training is measured on augmented images while the net still changes.",
            missing="" if charts else "No epoch has ended yet.",
        ),
        scores_section(card.provenance.scores if card else (), missing=unfinished),
        *([architecture_section(net, size)] if net else []),
        _time_section(found),
        origin_section(card, run.recipe, command=_command(run)),
    ]
    title = run.net if card is None else card.name
    return Page(
        "Training run", title, _run_lead(run, card, net, found), (), sections, str(run.folder)
    )


def _run_lead(run: Trained, card: Card | None, net: Architecture | None, found: Timing) -> str:
    what = _net_in_words(net) if net else f"{run.net},"
    steps = f"{what} trained for {count(found.steps)} steps on {run.recipe.data.name}."
    return steps


def _net_in_words(net: Architecture) -> str:
    form = _FORMS.get(net.form, net.form.replace("_", " "))
    return f"A {form} net of {net.layers} layers and {amount(parameters(net))} parameters,"


def _time_section(found: Timing) -> Section:
    seconds, waited = found.seconds, found.waited
    lost = "" if seconds is None or waited is None else f", {duration(seconds * waited)}"
    facts = [
        ("steps", count(found.steps)),
        ("training", None if seconds is None else duration(seconds)),
        ("waiting for data", None if waited is None else f"{waited:.1%} of it{lost}"),
        ("images a second", None if found.images_per_s is None else f"{found.images_per_s:,.0f}"),
        ("validation and test", None),
    ]
    charts = [chart for chart in (pace_chart(found),) if chart]
    return Section("time", "Where the time went", "time.html", {"facts": facts, "charts": charts})


def _command(run: Trained) -> str:
    return f"resnet-hub fit {run.folder / 'recipe.yaml'}"
