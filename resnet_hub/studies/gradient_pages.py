"""The study of gradients on paper: its figure, its finding, its page."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from statistics import geometric_mean
from typing import TYPE_CHECKING, Any

from resnet_hub.errors import DataMissing
from resnet_hub.figures import Line, count_along, draw, panels
from resnet_hub.studies.folder import csv_text, write_asked, write_study
from resnet_hub.studies.gradients import FILE, NAMES, Norms, by_step, growth, profile, read_norms
from resnet_hub.studies.members import Member
from resnet_hub.studies.page import framed
from resnet_hub.studies.plan import PlannedRun, describe
from resnet_hub.weights.card import read_card
from resnet_hub.weights.provenance import software

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE, PAPER = "How strong gradients and activations are, layer by layer", "1512.03385 §4.1"
ORDERS = 2
"""Orders of magnitude from the last layer's gradient, beyond which any layer's is called vanishing
or exploding. A convention of this study."""
_DRAWN = 6  # steps in a picture: more cannot be told apart


@dataclass(frozen=True)
class Trace:
    """A run's numbers, as far as it came.

    Attributes:
        run: Which.
        rows: Its layers, by step.
    """

    run: PlannedRun
    rows: dict[int, list[Norms]]


def read_trace(run: PlannedRun) -> Trace:
    """Read a run's numbers; there may be none yet.

    Raises:
        DataMissing: The run is finished, and nothing was measured in it.
        CorruptFile: They cannot be read.
    """
    path = run.folder / FILE
    if path.is_file():
        return Trace(run, by_step(read_norms(path)))
    if run.state() == "finished":
        raise DataMissing(f"{run.folder}: was trained without {FILE}; give another --out")
    return Trace(run, {})


def conclude(runs: Sequence[PlannedRun], out: Path, asked: Sequence[str]) -> dict[str, Any]:
    """Draw the figure and write the finding from the runs that are there.

    Args:
        runs: All of the study's.
        out: Its folder.
        asked: What was typed after ``resnet-hub study gradients``.

    Returns:
        What ``finding.json`` holds.

    Raises:
        ResNetHubError: A run's numbers cannot be read, or the disk refused.
    """
    command = shlex.join(["resnet-hub", "study", "gradients", *asked])
    traces = [read_trace(run) for run in runs]
    facts = list(_facts(traces))
    finding = {
        "format": 1,
        "study": "gradients",
        "title": TITLE,
        "paper": PAPER,
        "sentences": [*map(_sentence, facts), *_compared(facts)],
        "limits": _limits(traces),
        "gradients": facts,
        "provenance": _provenance(traces, command),
    }
    rows = [
        (trace.run.member.net, trace.run.seed, *astuple(row))
        for trace in traces
        for layers in trace.rows.values()
        for row in layers
    ]
    table = csv_text(("net", "seed", *NAMES), rows)
    write_asked(out, finding, {"arguments": list(asked), "runs": describe(runs)})
    write_study(out, finding, draw_gradients(traces), table=table, page=_page(finding))
    return finding


def draw_gradients(traces: Sequence[Trace]) -> "Figure":
    """Draw gradients above and activations below, a column a net, a colour a step."""
    from matplotlib import colormaps

    members = _members(traces)
    steps = _picked(sorted({step for trace in traces for step in trace.rows}))
    figure, charts = panels(max(1, len(members)), 2)
    for column, member in enumerate(members):
        own = [trace for trace in traces if trace.run.member == member]
        for number, step in enumerate(steps):
            colour = colormaps["viridis"](0.9 * number / max(1, len(steps) - 1))
            layers = [trace.rows[step] for trace in own if step in trace.rows]
            for row, name in enumerate(("response_gradient", "activation")):
                if layers:
                    axes = charts[row * len(members) + column]
                    draw(axes, _line(layers, name, f"step {step:,}", colour))
        charts[column].set_title(member.label)
    for row, label in enumerate(
        ("gradient by the response (norm)", "activation given to the layer (RMS)")
    ):
        own_charts = charts[row * len(members) : (row + 1) * len(members)]
        for axes in own_charts:
            axes.set(
                xlabel="layer, from the image", ylabel=label, yscale="linear" if row else "log"
            )
            count_along(axes)
            axes.grid(alpha=0.3)
        extents = [axes.dataLim for axes in own_charts if axes.lines]
        if extents:  # one scale for all columns
            low, high = min(extent.y0 for extent in extents), max(extent.y1 for extent in extents)
            for axes in own_charts:
                axes.set_ylim(0 if row else low / 1.5, high * (1.1 if row else 1.5))
    if charts[0].lines:
        charts[0].legend()
    return figure


def _line(runs: Sequence[Sequence[Norms]], name: str, label: str, colour: Any) -> Line:
    """Return a step's line: the geometric mean over seeds, and a band from lowest to highest."""
    columns = [
        [max(float(getattr(row, name)), 1e-30) for row in layer]
        for layer in zip(*runs, strict=True)
        if layer[0].name != "fc"
    ]
    x = [float(number) for number in range(1, len(columns) + 1)]
    band = ([min(c) for c in columns], [max(c) for c in columns]) if len(runs) > 1 else None
    return Line(x, [geometric_mean(c) for c in columns], label, colour, band=band)


def _picked(steps: list[int]) -> list[int]:
    if len(steps) <= _DRAWN:
        return steps
    places = {round(n * (len(steps) - 1) / (_DRAWN - 1)) for n in range(_DRAWN)}
    return [steps[place] for place in sorted(places)]


def _members(traces: Sequence[Trace]) -> list[Member]:
    return list(dict.fromkeys(trace.run.member for trace in traces))


def _facts(traces: Sequence[Trace]) -> Iterator[dict[str, Any]]:
    """Yield, of each net, its first and its last step: means over seeds, geometric ones."""
    for member in _members(traces):
        own = [trace for trace in traces if trace.run.member == member and trace.rows]
        shared = set.intersection(*(set(trace.rows) for trace in own)) if own else set()
        for step in sorted({min(shared), max(shared)}) if shared else ():
            fact: dict[str, Any] = {
                "net": member.net,
                "label": member.label,
                "depth": member.depth,
                "step": step,
                "seeds": len(own),
            }
            norms = profile([trace.rows[step] for trace in own])
            yield fact if norms is None else {**fact, **_described(norms)}


def _described(norms: Sequence[float]) -> dict[str, Any]:
    least, most, last = min(norms), max(norms), norms[-1]
    verdict = f"stay within {ORDERS} orders of magnitude"
    if most > last * 10**ORDERS:
        verdict = "explode"
    elif least < last / 10**ORDERS:
        verdict = "vanish"
    return {
        "verdict": verdict,
        "last_layer": last,
        "first_layer": norms[0],
        "factor_a_layer": growth(norms),
        "least": least,
        "least_layer": norms.index(least) + 1,
        "most": most,
        "most_layer": norms.index(most) + 1,
        "span": most / least,
    }


def _sentence(fact: Mapping[str, Any]) -> str:
    when = "Before training" if fact["step"] == 0 else f"After {fact['step']:,} steps"
    if "verdict" not in fact:
        return f"{when} gradients of {fact['label']} are 0 or not finite in some layer."
    return (
        f"{when} the gradients of {fact['label']} {fact['verdict']} on their way back to the image:"
        f" {fact['last_layer']:.2g} at the last layer, {fact['first_layer']:.2g} at the first, "
        f"least {fact['least']:.2g} at layer {fact['least_layer']}, most {fact['most']:.2g} at "
        f"layer {fact['most_layer']}; × {fact['factor_a_layer']:.3f} a layer."
    )


def _compared(facts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Set nets of one depth side by side at the same step."""
    whole = [fact for fact in facts if "verdict" in fact]
    for one in whole:
        for other in whole:
            same = (one["depth"], one["step"]) == (other["depth"], other["step"])
            if same and "plain" in one["net"] and other is not one:
                yield (
                    f"At step {one['step']:,} the largest of the layers' gradients is "
                    f"{one['span']:,.0f} times the smallest in {one['label']}, and "
                    f"{other['span']:,.0f} times in {other['label']}."
                )


def _limits(traces: Sequence[Trace]) -> list[str]:
    said = []
    for trace in traces:
        if trace.run.state() != "finished":
            step = max(trace.rows, default=None)
            where = "nothing was measured yet" if step is None else f"measured to step {step:,}"
            said.append(f"{trace.run.name} is not finished: {where}.")
    if len({trace.run.seed for trace in traces}) == 1:
        said.append("One seed: how much another one would change is unknown.")
    run = traces[0].run
    if (steps := run.recipe.trainer["max_steps"]) != run.steps:
        said.append(
            f"{steps:,} of the paper's {run.steps:,} steps ({steps / run.steps:.2%}): how "
            "gradients are later is not said."
        )
    said.append(
        f"Vanishing and exploding are said of a change beyond {ORDERS} orders of magnitude, a "
        "convention of this study. Nets with BatchNorm may train whatever these norms are; which "
        "one trains better is another question (`resnet-hub study degradation`)."
    )
    return said


def _provenance(traces: Sequence[Trace], command: str) -> dict[str, Any]:
    runs = [trace.run for trace in traces]
    models = [run.folder / "model" for run in runs if run.state() == "finished"]
    origins = [read_card(model).provenance for model in models]
    return {
        "command": command,
        "recipes": list(dict.fromkeys(run.member.recipe for run in runs)),
        "steps": runs[0].recipe.trainer["max_steps"],
        "paper_steps": runs[0].steps,
        "data": list(dict.fromkeys(o.scores[0].data.rpartition(" ")[0] for o in origins)),
        "commits": list(dict.fromkeys(o.commit for o in origins if o.commit)),
        "versions": [f"{name} {version}" for name, version in software().items()],
    }


def _page(finding: Mapping[str, Any]) -> str:
    origin = finding["provenance"]
    return framed(
        finding,
        numbers="All numbers are computed from the runs in this folder; "
        "those of every layer and step are in [gradients.csv](gradients.csv).",
        figure="Gradients and activations of each layer, by step",
        body=[
            "Above: Euclidean norm of the gradient of the batch's mean cross-entropy by a layer's "
            "whole response, a convolution's output after its BatchNorm, before activation or "
            "addition; below: root mean square of what the layer is given. Measured in training "
            "mode and float32 on the same training images without augmentation, before the first "
            "step, at steps that double, and after the last. Seeds are a band around their "
            "geometric mean."
        ],
        provenance=[
            f"Recipes: {', '.join(origin['recipes'])}; {origin['steps']:,} of the paper's "
            f"{origin['paper_steps']:,} steps, the schedule in proportion",
            f"Data: {', '.join(origin['data']) or 'none yet'}",
            f"Code: {', '.join(c[:12] for c in origin['commits']) or 'of no checkout'}; "
            + ", ".join(origin["versions"]),
        ],
    )
