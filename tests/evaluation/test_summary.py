import json
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_confusion_matrix,
)

from resnet_hub.errors import InvalidSetting
from resnet_hub.evaluation import calibration as module
from resnet_hub.evaluation.calibration import (
    COLDEST,
    HOTTEST,
    calibration,
    cross_fitted,
    fit_temperature,
)
from resnet_hub.evaluation.summary import Summary, summarise

CLASSES = [f"class {number}" for number in range(10)]


def answered(n: int, *, seed: int = 0, sharpness: float = 3.0) -> tuple[Tensor, Tensor]:
    """Logits that are too sure of themselves, and labels; both as a real net's are spread."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (n,), generator=generator)
    values = torch.randn(n, 10, generator=generator) + 1.5 * F.one_hot(labels, 10)
    return values * sharpness, labels


def logits_of(values: Tensor, labels: Tensor) -> Any:
    return SimpleNamespace(values=values, labels=labels, images_per_s=12.5, hardware="2 × cpu")


@pytest.fixture(scope="module")
def whole() -> tuple[Tensor, Tensor]:
    return answered(3000)


@pytest.fixture(scope="module")
def summary(whole: tuple[Tensor, Tensor]) -> Summary:
    return summarise(logits_of(*whole), CLASSES)


def test_errors_and_their_intervals_are_what_resampling_the_images_gives(whole, summary):
    scipy_stats = pytest.importorskip("scipy.stats")
    values, labels = whole
    for k, rate in ((1, summary.top1_error), (5, summary.top5_error)):
        accuracy = multiclass_accuracy(values, labels, 10, average="micro", top_k=k)
        assert rate.value == pytest.approx(1 - float(accuracy), abs=1e-6)
        wrong = (values.topk(k).indices != labels[:, None]).all(1).double().numpy()
        resampled = scipy_stats.bootstrap(
            (wrong,),
            np.mean,
            n_resamples=4000,
            vectorized=True,
            method="percentile",
            rng=np.random.default_rng(0),
        )
        found = resampled.confidence_interval
        spread = math.sqrt(rate.value * (1 - rate.value) / len(labels))
        assert rate.low == pytest.approx(found.low, abs=0.1 * spread)
        assert rate.high == pytest.approx(found.high, abs=0.1 * spread)
        assert rate.low < rate.value < rate.high


def test_the_confusion_matrix_and_the_classes_agree_with_torchmetrics_and_scikit_learn(
    whole, summary
):
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    values, labels = whole
    given = values.argmax(1)
    assert torch.equal(summary.confusion, multiclass_confusion_matrix(given, labels, 10))
    assert summary.confusion.dtype == torch.int64
    precision, recall, _, support = sklearn_metrics.precision_recall_fscore_support(labels, given)
    assert [row.precision for row in summary.per_class] == pytest.approx(precision.tolist())
    errors = [1 - x for x in recall.tolist()]
    assert [row.top1_error for row in summary.per_class] == pytest.approx(errors)
    assert [row.n for row in summary.per_class] == support.tolist()
    assert [row.name for row in summary.per_class] == CLASSES
    missed = (values.topk(5).indices != labels[:, None]).all(1)
    lost = [float(missed[labels == k].double().mean()) for k in range(10)]
    assert [row.top5_error for row in summary.per_class] == pytest.approx(lost)


def test_a_class_tells_what_it_is_taken_for():
    values = F.one_hot(torch.tensor([0, 1, 1, 2, 1]), 4).float()
    found = summarise(
        logits_of(values, torch.tensor([0, 0, 0, 0, 1])), ["ant", "bee", "cow", "dog"]
    )
    ant, bee, cow, dog = found.per_class
    assert (ant.confused_with, ant.confused, ant.top1_error) == ("bee", 2, 0.75)
    assert (bee.confused_with, bee.confused, bee.precision) == (None, 0, 1 / 3)
    assert (cow.n, cow.top1_error, cow.top5_error, cow.precision) == (0, None, None, 0.0)
    assert dog.precision is None
    assert found.top5_error.value == 0  # four classes: all are among the first five
    assert found.confusion.tolist() == [[1, 2, 1, 0], [0, 1, 0, 0], [0] * 4, [0] * 4]


def test_calibration_is_what_libraries_measure(whole, monkeypatch):
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    monkeypatch.setattr(module, "_ROWS", 700)  # several parts, the last of them short
    values, labels = whole
    found, p = calibration(values, labels), values.double().softmax(1)
    expected = float(multiclass_calibration_error(p, labels, 10, n_bins=15, norm="l1"))
    assert found.ece == pytest.approx(expected, abs=1e-6)
    assert found.ece > 0.1  # these answers are too sure
    assert found.nll == pytest.approx(sklearn_metrics.log_loss(labels, p), abs=1e-12)
    squared = ((p - F.one_hot(labels, 10)) ** 2).sum(1).mean()
    assert found.brier == pytest.approx(float(squared), abs=1e-12)


def test_the_bins_are_kept_for_a_diagram(whole):
    values, labels = whole
    bins = calibration(values, labels).bins
    confidences, given = values.double().softmax(1).max(1)
    assert (bins[0].low, bins[-1].high, len(bins)) == (0, 1, 15)
    assert sum(b.n for b in bins) == len(labels)
    for b in bins:
        inside = (confidences > b.low) & (confidences <= b.high)
        assert b.n == int(inside.sum())
        if b.n:
            assert b.confidence == pytest.approx(float(confidences[inside].mean()))
            right = (given == labels)[inside].double().mean()
            assert b.accuracy == pytest.approx(float(right))
        else:
            assert (b.confidence, b.accuracy) == (None, None)
    assert bins[0].n == 0  # of ten classes the likeliest has a tenth at least


def test_the_temperature_is_the_minimum_of_the_likelihood():
    optimize = pytest.importorskip("scipy.optimize")
    for sharpness in (0.2, 1.0, 8.0):
        values, labels = answered(2000, sharpness=sharpness)
        exact = values.double()

        def nll(t: float, z: Tensor = exact, y: Tensor = labels) -> float:
            return float(F.cross_entropy(z / t, y))

        best = optimize.minimize_scalar(nll, bounds=(0.01, 100), method="bounded")
        found = fit_temperature(values, labels)
        assert found == pytest.approx(best.x, rel=1e-3)
        assert nll(found) <= best.fun + 1e-12


def test_answers_that_are_all_right_or_worse_than_none_take_the_outermost_temperature():
    labels = torch.arange(10)
    sure = F.one_hot(labels, 10).float()
    assert fit_temperature(sure, labels) == pytest.approx(COLDEST)
    assert fit_temperature(-sure, labels) == pytest.approx(HOTTEST)
    assert COLDEST <= fit_temperature(torch.zeros(4, 10), labels[:4]) <= HOTTEST


def test_no_image_has_a_part_in_its_own_temperature(whole):
    values, labels = whole
    found = cross_fitted(values, labels, seed=0)
    first, second = found.unique().tolist()
    own = found == first
    assert int(own.sum()) == len(labels) // 2
    assert first == fit_temperature(values[~own], labels[~own])
    assert second == fit_temperature(values[own], labels[own])
    assert torch.equal(found, cross_fitted(values, labels, seed=0))
    assert not torch.equal(found, cross_fitted(values, labels, seed=1))


def test_a_temperature_mends_the_probabilities_of_images_it_was_not_fitted_on(whole, summary):
    values, labels = whole
    tested = summary.temperature
    assert tested is not None
    assert (tested.fitted_on, tested.n) == ("tested", 3000)
    assert tested.value == fit_temperature(values, labels)
    assert tested.after == calibration(values, labels, cross_fitted(values, labels, seed=0))
    others = answered(1000, seed=1)
    found = summarise(logits_of(values, labels), CLASSES, validation=logits_of(*others)).temperature
    assert found is not None
    assert (found.fitted_on, found.n) == ("validation", 1000)
    assert found.value == fit_temperature(*others)
    assert found.after == calibration(values, labels, found.value)
    for after in (tested.after, found.after):
        assert after.ece < 0.3 * summary.calibration.ece
        assert after.nll < summary.calibration.nll
        assert after.brier < summary.calibration.brier


def test_a_summary_is_plain_values_for_json(summary):
    plain = json.loads(json.dumps(summary.to_dict(), allow_nan=False))
    assert plain["top1_error"]["value"] == summary.top1_error.value
    assert plain["per_class"][3]["name"] == "class 3"
    assert plain["confusion"] == summary.confusion.tolist()
    assert len(plain["calibration"]["bins"]) == 15
    assert plain["temperature"]["after"]["ece"] == summary.temperature.after.ece
    assert (plain["n"], plain["images_per_s"], plain["hardware"]) == (3000, 12.5, "2 × cpu")


def test_one_image_has_a_score_and_no_temperature():
    found = summarise(logits_of(torch.eye(10)[:1], torch.tensor([1])), CLASSES)
    assert (found.top1_error.value, found.temperature) == (1.0, None)
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize("shape", [(0, 10), (3, 9)])
def test_what_is_no_answer_to_the_classes_is_refused(shape: tuple[int, int]):
    values = torch.zeros(shape)
    with pytest.raises(InvalidSetting, match=rf"{shape[0]} images by {shape[1]} classes"):
        summarise(logits_of(values, torch.zeros(shape[0], dtype=torch.int64)), CLASSES)
