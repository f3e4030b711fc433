"""What a study's runs say: errors, differences with intervals, and what cannot be said."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

from resnet_hub.studies.designs import Pair, Study
from resnet_hub.studies.members import Member
from resnet_hub.studies.outcomes import Error, Outcome, mean_error

Split = Literal["train", "test"]
Verdict = Literal["higher", "lower", "undecided"]


@dataclass(frozen=True)
class Difference:
    """One net's error minus another's, fractions.

    Attributes:
        split: Whose error.
        one: The net.
        other: Which it is compared with.
        errors: Both, means over seeds.
        interval: Newcombe's 95% interval: what other images would give. The nets saw the same ones,
            which it does not use: it is rather too wide.
        seeds: Runs of each.
        verdict: ``higher`` or ``lower`` where the interval leaves out 0 and every run of the one
            lies on the same side of every run of the other.
    """

    split: Split
    one: Member
    other: Member
    errors: tuple[Error, Error]
    interval: tuple[float, float]
    seeds: tuple[int, int]
    verdict: Verdict

    @property
    def value(self) -> float:
        """The difference."""
        return self.errors[0].share - self.errors[1].share


def newcombe(one: Error, other: Error) -> tuple[float, float]:
    """Return the 95% interval of a difference of two shares, from Wilson's of each.

    R. G. Newcombe 1998, Statistics in Medicine 17, method 10.
    """
    (low, high), (other_low, other_high) = one.interval, other.interval
    value = one.share - other.share
    return (
        value - math.hypot(one.share - low, other_high - other.share),
        value + math.hypot(high - one.share, other.share - other_low),
    )


def differences(design: Study, outcomes: Sequence[Outcome]) -> list[Difference]:
    """Compare the finished runs of the nets that a study compares."""
    members = list(dict.fromkeys(outcome.run.member for outcome in outcomes))
    compared = (
        _difference(split, pair, outcomes)
        for pair in design.pairs(members)
        for split in ("train", "test")
    )
    return [difference for difference in compared if difference is not None]


def finals(split: Split, member: Member, outcomes: Sequence[Outcome]) -> list[Error]:
    """Return the final errors of a net's finished runs."""
    own = [outcome for outcome in outcomes if outcome.run.member == member]
    found = [o.final_train if split == "train" else o.final_test for o in own]
    return [error for error in found if error is not None]


def _difference(split: Split, pair: Pair, outcomes: Sequence[Outcome]) -> Difference | None:
    one, other = (finals(split, member, outcomes) for member in pair)
    if not one or not other:
        return None
    means = mean_error(one), mean_error(other)
    low, high = interval = newcombe(*means)
    verdict: Verdict = "undecided"
    if low > 0 and all(a.share > b.share for a, b in product(one, other)):
        verdict = "higher"
    elif high < 0 and all(a.share < b.share for a, b in product(one, other)):
        verdict = "lower"
    return Difference(split, *pair, means, interval, (len(one), len(other)), verdict)


def sentences(design: Study, found: Sequence[Difference], steps: int) -> list[str]:
    """Return what the differences say, a sentence each; the first sums up where one can."""
    opening = _degradation(found, steps) if design.name == "degradation" else ()
    return [*opening, *map(_sentence, found)]


_VERDICTS = {
    "higher": "which is higher",
    "lower": "which is lower",
    "undecided": "which decides nothing",
}
_NAMES = {"train": "Training", "test": "Test"}


def _sentence(found: Difference) -> str:
    (one, other), (low, high) = found.errors, found.interval
    runs = "one seed each" if found.seeds == (1, 1) else "{} and {} seeds".format(*found.seeds)
    return (
        f"{_NAMES[found.split]} error of {found.one.label}: {one.share:.2%}, against "
        f"{other.share:.2%} of {found.other.label}: {points(found.value)} points (95% interval "
        f"{points(low)} to {points(high)}, {runs}), {_VERDICTS[found.verdict]}."
    )


def points(share: float) -> str:
    """Return a difference of shares in percentage points, with its sign."""
    return f"{100 * share:+.2f}".replace("-", "−")


def _degradation(found: Sequence[Difference], steps: int) -> Iterator[str]:
    """Say of each kind whether the deeper net is worse at what it was trained on."""
    deeper = [d for d in found if d.split == "train" and d.one.panel == d.other.panel]
    for own in deeper:
        kind = own.one.panel.removesuffix("s")
        said = {
            "higher": "has the higher training error: it is worse at what it was trained on, which "
            "is degradation and no overfitting",
            "lower": "has the lower training error: no degradation",
            "undecided": "has a training error that these runs cannot tell from the other's",
        }[own.verdict]
        depths = f"of {own.one.depth} layers, against {own.other.depth}"
        yield f"After {steps:,} steps the {kind} {depths}, {said}."


def limits(outcomes: Sequence[Outcome]) -> list[str]:
    """Return what these runs cannot say, and why."""
    finished = [outcome for outcome in outcomes if outcome.score is not None]
    found = [
        f"{o.run.name} is not finished ({_reached(o)}) and counts nowhere."
        for o in outcomes
        if o.score is None
    ]
    if not finished:
        return [*found, "No run is finished: there is no finding."]
    if len({outcome.run.seed for outcome in finished}) == 1:
        found.append(
            "One seed: how much another seed would change is unknown; the intervals are of the "
            "images alone."
        )
    run = finished[0].run
    if (steps := run.recipe.trainer["max_steps"]) != run.steps:
        found.append(
            f"{steps:,} of the paper's {run.steps:,} steps ({steps / run.steps:.2%}): what the "
            "nets come to at full length is not said; one that learns more slowly may catch up."
        )
    for data in sorted({outcome.score.data for outcome in finished if outcome.score}):
        if data != "CIFAR-10 test":
            found.append(f"Measured on {data}: these are no CIFAR-10 figures, nor the paper's.")
    found.append(
        "Training error is that of augmented images over the last epoch, while the weights moved; "
        "after the last step it would be lower."
    )
    return found


def _reached(outcome: Outcome) -> str:
    steps = outcome.run.recipe.trainer["max_steps"]
    if not outcome.step:
        return f"nothing is measured yet of its {steps:,} steps"
    return f"step {outcome.step:,} of {steps:,}"
