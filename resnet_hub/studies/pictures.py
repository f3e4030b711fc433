"""A study's figure: errors by iteration, and the final ones side by side."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from resnet_hub.curves import Points
from resnet_hub.figures import PALETTE, Line, count_along, draw, panels
from resnet_hub.studies.designs import Study
from resnet_hub.studies.findings import finals
from resnet_hub.studies.members import Member
from resnet_hub.studies.outcomes import Outcome, mean_error

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BEGINNING = 0.1  # of the iterations; what lies higher than all that follows needs no room
_APART = 0.1  # of a row: training and test errors may be the same


def draw_study(design: Study, outcomes: Sequence[Outcome]) -> "Figure":
    """Draw a panel of curves for each kind of net and, but of degradation, the final errors.

    Training errors are dashed and test errors solid, as in 1512.03385 Fig. 6; seeds are a band
    around their mean. Where there are more nets than colours, the final errors alone are drawn.
    """
    members = list(dict.fromkeys(outcome.run.member for outcome in outcomes))
    kinds = {m.panel: [n for n in members if n.panel == m.panel] for m in members}
    curves = [own for own in kinds.values() if len(own) <= len(PALETTE)]
    dots = [] if design.name == "degradation" else list(kinds.values())
    figure, charts = panels(len(curves) + len(dots))
    depths = sorted({member.depth for member in members})
    for axes, own in zip(charts, curves, strict=False):
        # One depth has one colour in every panel.
        places = depths if len({m.depth for m in own}) == len(own) else [own.index(m) for m in own]
        for number, member in enumerate(own):
            place = depths.index(member.depth) if places is depths else number
            _draw_member(axes, member, outcomes, PALETTE[place % len(PALETTE)])
        _label_curves(axes, own[0].panel)
    for axes in charts[: len(curves)]:
        axes.set_ylim(0, _top(charts[: len(curves)]))
    for axes, own in zip(charts[len(curves) :], dots, strict=True):
        _draw_finals(axes, own, outcomes)
    return figure


def _draw_member(axes: "Axes", member: Member, outcomes: Sequence[Outcome], colour: str) -> None:
    own = [outcome for outcome in outcomes if outcome.run.member == member]
    unfinished = max((o.step for o in own if o.score is None), default=None)
    label = member.label if unfinished is None else f"{member.label} (to step {unfinished:,})"
    for points, dashed in (([o.train for o in own], True), ([o.test for o in own], False)):
        line = _over_seeds([p for p in points if p[0]])
        if line is not None:
            (steps, mean), band = line
            draw(axes, Line(steps, mean, None if dashed else label, colour, dashed, band))


def _over_seeds(
    runs: Sequence[Points],
) -> tuple[Points, tuple[list[float], list[float]] | None] | None:
    """Return the mean over seeds where all have a value, and their range, in percent."""
    if not runs:
        return None
    by_step = [dict(zip(*run, strict=True)) for run in runs]
    steps = [step for step in runs[0][0] if all(step in values for values in by_step)]
    columns = [[100 * values[step] for values in by_step] for step in steps]
    means = [sum(column) / len(column) for column in columns]
    band = ([min(c) for c in columns], [max(c) for c in columns]) if len(runs) > 1 else None
    return (steps, means), band


def _label_curves(axes: "Axes", title: str) -> None:
    axes.set(title=title, xlabel="iterations", ylabel="top-1 error (%)")
    count_along(axes)
    axes.grid(alpha=0.3)
    axes.plot([], [], color="0.4", label="test")
    axes.plot([], [], color="0.4", linestyle="--", label="training")
    axes.legend()


def _top(charts: Sequence["Axes"]) -> float:
    """Return the highest error after the beginning, with some room."""
    drawn: list[tuple[float, float]] = []
    for axes in charts:
        for line in axes.lines:
            drawn += zip(cast(Any, line.get_xdata()), cast(Any, line.get_ydata()), strict=True)
    end = max((x for x, _ in drawn), default=0.0)
    later = [y for x, y in drawn if x > _BEGINNING * end]
    return min(100.0, 1.1 * max(later, default=100.0))


def _draw_finals(axes: "Axes", members: Sequence[Member], outcomes: Sequence[Outcome]) -> None:
    """Draw each net's final errors: test with the interval of its images, training, and seeds."""
    for row, member in enumerate(members):
        for split, colour, place in (
            ("train", PALETTE[1], row + _APART),
            ("test", PALETTE[0], row - _APART),
        ):
            errors = finals("train" if split == "train" else "test", member, outcomes)
            if not errors:
                continue
            mean = mean_error(errors)
            low, high = mean.interval
            axes.plot([100 * low, 100 * high], [place, place], color=colour, linewidth=1.5)
            axes.plot([100 * e.share for e in errors], [place] * len(errors), "|", color=colour)
            filled = colour if split == "test" else "white"
            axes.plot(100 * mean.share, place, "o", color=colour, markerfacecolor=filled)
    for name, colour, filled in (
        ("test", PALETTE[0], PALETTE[0]),
        ("training", PALETTE[1], "white"),
    ):
        axes.plot([], [], "o", color=colour, markerfacecolor=filled, label=name)
    axes.set_yticks(range(len(members)), [member.label for member in members])
    title = f"{members[0].panel}, after the last step"
    axes.set(title=title, xlabel="top-1 error (%)")
    axes.set_ylim(len(members) + 0.7, -0.5)  # room for the legend below
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", ncols=2)
