"""What runs say: intervals, verdicts, sentences and their limits."""

from pathlib import Path

import pytest

from resnet_hub.cli.study_runs import plan
from resnet_hub.studies.designs import DESIGNS, plain, residual
from resnet_hub.studies.findings import differences, limits, newcombe, sentences
from resnet_hub.studies.members import Member
from resnet_hub.studies.outcomes import Error, Outcome, deviation
from resnet_hub.weights.provenance import Score

DESIGN = DESIGNS["degradation"]


def outcome(member: Member, share: float | None, *, seed: int = 0, n: int = 10_000) -> Outcome:
    (run,) = plan([member], {"seeds": str(seed), "steps": "4000"}, [], Path("nowhere"))
    if share is None:
        return Outcome(run, ([390.0], [0.5]), ([390.0], [0.5]))
    score = Score(data="CIFAR-10 test", top1=1 - share, top5=1.0, n=n)
    error = Error(share, n)
    return Outcome(run, ([], []), ([], []), error, error, score)


def test_the_interval_of_a_difference_is_newcombes():
    """56 of 70 against 48 of 80, method 10 of Newcombe 1998, Table II."""
    assert newcombe(Error(56 / 70, 70), Error(48 / 80, 80)) == pytest.approx(
        (0.0524, 0.3339), abs=5e-5
    )


@pytest.mark.parametrize(
    ("deep", "shallow", "verdict"),
    [(0.30, 0.25, "higher"), (0.25, 0.30, "lower"), (0.251, 0.25, "undecided")],
)
def test_the_deeper_net_is_judged_by_the_interval_of_the_difference(deep, shallow, verdict):
    outcomes = [outcome(plain(20), shallow), outcome(plain(56), deep)]
    found = differences(DESIGN, outcomes + [outcome(residual(n), 0.2) for n in (20, 56)])
    (train,) = [
        d for d in found if d.split == "train" and d.one == plain(56) and d.other.depth == 20
    ]
    assert train.verdict == verdict
    assert train.value == pytest.approx(deep - shallow)
    opening, residual_opening, *_ = sentences(DESIGN, found, 4000)
    said = {"higher": "degradation and no", "lower": "no degradation", "undecided": "cannot tell"}
    assert said[verdict] in opening
    assert "After 4,000 steps the plain net of 56 layers, against 20" in opening
    assert "cannot tell" in residual_opening


def test_seeds_that_overlap_decide_nothing_whatever_their_means():
    seeds = [(0, 0.30), (1, 0.24)]
    outcomes = [outcome(plain(56), share, seed=seed) for seed, share in seeds]
    outcomes += [outcome(plain(20), 0.25), outcome(residual(20), 0.2), outcome(residual(56), 0.2)]
    found = differences(DESIGN, outcomes)[0]
    assert found.interval[0] > 0
    assert (found.verdict, found.seeds) == ("undecided", (2, 1))


def test_a_run_that_is_not_finished_counts_nowhere_and_is_named():
    outcomes = [outcome(plain(20), 0.25), outcome(plain(56), None)]
    outcomes += [outcome(residual(n), 0.2) for n in (20, 56)]
    told = limits(outcomes)
    assert told[0] == "cifar_plain56-seed0 is not finished (step 390 of 4,000) and counts nowhere."
    assert any("One seed" in line for line in told)
    assert any("4,000 of the paper's 64,000 steps (6.25%)" in line for line in told)
    assert not any(
        "plain-56" in line for line in sentences(DESIGN, differences(DESIGN, outcomes), 1)
    )


def test_the_spread_is_that_of_a_sample():
    assert deviation([1.0]) is None
    assert deviation([1.0, 3.0]) == pytest.approx(2**0.5)
