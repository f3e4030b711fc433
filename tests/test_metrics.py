"""The one metric against scikit-learn, torchmetrics' own and sums by hand."""

import pytest
import torch
from scipy.stats import binom, binomtest
from sklearn.metrics import accuracy_score, top_k_accuracy_score
from torch.nn import functional as F
from torchmetrics.functional.classification import multiclass_accuracy

from resnet_hub.metrics import Scores, SoftScores, bootstrap, wilson


def answers(count: int, classes: int, *, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (count,), generator=generator)
    logits = torch.randn(count, classes, generator=generator)
    # Some answers right, and classes of very different sizes, where macro and micro differ.
    labels[: count // 2] = 0
    logits[torch.arange(0, count, 3), labels[::3]] += 3
    return logits, labels


def updated(scores: Scores, logits: torch.Tensor, labels: torch.Tensor) -> Scores:
    scores.update(logits, labels, F.cross_entropy(logits, labels, reduction="sum"))
    return scores


# scikit-learn wonders at more classes than samples.
@pytest.mark.filterwarnings("ignore:The number of unique classes")
@pytest.mark.parametrize("classes", [6, 10, 1000])
def test_the_scores_are_scikit_learns_and_torchmetrics_micro_ones(classes: int):
    logits, labels = answers(400, classes)
    scores = Scores()
    for part in range(0, 400, 64):  # the last batch is smaller
        updated(scores, logits[part : part + 64], labels[part : part + 64])
    found = {name: float(value) for name, value in scores.compute().items()}
    top1 = accuracy_score(labels, logits.argmax(1))
    top5 = top_k_accuracy_score(labels, logits, k=5, labels=range(classes))
    assert found["top1"] == pytest.approx(top1)
    assert found["top5"] == pytest.approx(top5)
    micro = {"num_classes": classes, "average": "micro"}
    assert found["top1"] == pytest.approx(float(multiclass_accuracy(logits, labels, **micro)))
    assert found["top5"] == pytest.approx(
        float(multiclass_accuracy(logits, labels, top_k=5, **micro))
    )
    assert found["loss"] == pytest.approx(float(F.cross_entropy(logits, labels)), rel=1e-6)
    assert found["n"] == 400


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_top_5_of_fewer_classes_is_the_top_of_all(classes: int):
    logits, labels = answers(30, classes)
    values = updated(Scores(), logits, labels).compute()
    assert values["top5"] == 1
    assert values["top1"] == pytest.approx(accuracy_score(labels, logits.argmax(1)))


def test_top_5_is_not_the_top_of_all_from_six_classes_on():
    logits = torch.arange(6.0).repeat(2, 1)
    values = updated(Scores(), logits, torch.tensor([0, 1])).compute()  # the last two of six
    assert (values["top1"], values["top5"]) == (0, 0.5)


def test_an_empty_batch_counts_nothing():
    logits, labels = answers(20, 10)
    one, two = updated(Scores(), logits, labels), Scores()
    updated(two, logits[:0], labels[:0])
    updated(two, logits, labels)
    updated(two, logits[:0], labels[:0])
    assert one.compute() == two.compute()


def test_nothing_but_an_empty_batch_is_zero_of_zero_and_no_nan():
    values = updated(Scores(), torch.zeros(0, 10), torch.zeros(0, dtype=torch.int64)).compute()
    assert {name: float(value) for name, value in values.items()} == {
        "loss": 0,
        "top1": 0,
        "top5": 0,
        "n": 0,
        "skipped": 0,
    }


@pytest.mark.parametrize("sizes", [(20, 13), (1, 32), (33, 0)])
def test_ranks_of_any_sizes_sum_to_the_scores_of_one(sizes: tuple[int, int]):
    # As over ranks: torchmetrics merges states by their reduction.
    logits, labels = answers(33, 10)
    whole = updated(Scores(), logits, labels)
    first = updated(Scores(), logits[: sizes[0]], labels[: sizes[0]])
    second = updated(Scores(), logits[sizes[0] :], labels[sizes[0] :])
    first.merge_state(second)
    merged, expected = first.compute(), whole.compute()
    assert merged.pop("loss") == pytest.approx(float(expected.pop("loss")))
    assert merged == expected


def test_skipped_images_are_told_and_count_for_nothing():
    logits, labels = answers(20, 10)
    scores, loss = Scores(), torch.tensor(3.0)
    scores.update(logits, labels, loss, skipped=2)
    scores.update(logits, labels, loss, skipped=1)
    whole = updated(updated(Scores(), logits, labels), logits, labels).compute()
    values = scores.compute()
    assert (values["n"], values["skipped"]) == (40, 3)
    assert values["top1"] == whole["top1"]


def test_many_small_losses_are_not_lost_in_a_large_sum():
    scores, labels = Scores(), torch.zeros(1, dtype=torch.int64)
    scores.update(torch.zeros(1, 2), labels, torch.tensor(2.0**24))
    for _ in range(100):
        scores.update(torch.zeros(1, 2), labels, torch.tensor(1.0))  # below float32's spacing
    assert scores.loss == 2.0**24 + 100


def test_reset_begins_anew():
    logits, labels = answers(20, 10)
    scores = updated(Scores(), logits, labels)
    scores.reset()
    assert updated(scores, logits[:5], labels[:5]).compute()["n"] == 5


def softened(count: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    logits, labels = answers(count, classes)
    targets = F.one_hot(labels, classes) * 0.7 + F.one_hot(labels.flip(0), classes) * 0.3
    return logits, targets


def added(scores: SoftScores, logits: torch.Tensor, targets: torch.Tensor) -> SoftScores:
    scores.update(logits, targets, F.cross_entropy(logits, targets, reduction="sum"))
    return scores


def test_the_soft_score_is_the_mean_target_of_the_first_answers():
    logits, targets = softened(100, 6)
    scores = SoftScores()
    for part in range(0, 100, 32):  # the last batch is smaller
        added(scores, logits[part : part + 32], targets[part : part + 32])
    values = scores.compute()
    by_hand = [float(target[logit.argmax()]) for logit, target in zip(logits, targets, strict=True)]
    assert float(values["soft_top1"]) == pytest.approx(sum(by_hand) / 100)
    assert 0.1 < float(values["soft_top1"]) < 0.7
    assert float(values["loss"]) == pytest.approx(float(F.cross_entropy(logits, targets)))
    assert values["n"] == 100


def test_the_soft_score_of_one_label_each_is_top_1():
    logits, labels = answers(50, 10)
    values = added(SoftScores(), logits, F.one_hot(labels, 10).float()).compute()
    assert values["soft_top1"] == updated(Scores(), logits, labels).compute()["top1"].float()


@pytest.mark.parametrize("sizes", [(20, 13), (33, 0)])
def test_soft_scores_of_ranks_sum_to_those_of_one(sizes: tuple[int, int]):
    logits, targets = softened(33, 10)
    whole = added(SoftScores(), logits, targets).compute()
    first = added(SoftScores(), logits[: sizes[0]], targets[: sizes[0]])
    first.merge_state(added(SoftScores(), logits[sizes[0] :], targets[sizes[0] :]))
    for name, value in first.compute().items():
        assert float(value) == pytest.approx(float(whole[name]))


@pytest.mark.parametrize(("kind", "other"), [(Scores, SoftScores), (SoftScores, Scores)])
def test_sums_of_the_other_metric_are_not_taken_for_own_ones(kind: type, other: type):
    def module(own: type) -> torch.nn.Module:
        parent = torch.nn.Module()
        parent.scores = own()
        parent.scores.persistent(True)
        parent.scores.loss += 3
        return parent

    found = module(kind)
    found.load_state_dict(module(kind).state_dict())
    assert found.scores.loss == 3
    found.scores.reset()
    found.load_state_dict(module(other).state_dict())
    assert found.scores.loss == 0


@pytest.mark.parametrize("n", [1, 7, 1017, 50_000])
@pytest.mark.parametrize("share", [0, 0.3, 0.9164, 1])
def test_wilsons_interval_is_scipys(n: int, share: float):
    hits = round(share * n)
    expected = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    assert wilson(hits, n) == pytest.approx((expected.low, expected.high), abs=1e-12)
    low, high = wilson(hits, n)
    assert 0 <= low <= hits / n <= high <= 1


@pytest.mark.parametrize(("hits", "n"), [(1, 2), (3, 10), (9, 10), (91, 1017), (49_999, 50_000)])
def test_the_bootstrap_interval_is_of_the_resamples_binomial_percentiles(hits: int, n: int):
    low, high = bootstrap(hits, n)
    assert (low, high) == tuple(binom.ppf([0.025, 0.975], n, hits / n) / n)


def test_the_bootstrap_interval_has_no_width_where_all_images_are_alike():
    assert bootstrap(0, 7) == (0, 0)
    assert bootstrap(7, 7) == (1, 1)
