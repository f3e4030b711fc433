"""The linear probe against scikit-learn's logistic regression."""

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from resnet_hub.data.arrays import hold_out
from resnet_hub.evaluation import linear
from resnet_hub.evaluation.linear import STRENGTHS, choose_l2, fit


def clouds(count: int, *, classes: int = 4, width: int = 10, spread: float = 2.0) -> tuple:
    """Rows around as many centres as there are classes, off zero and on scales of their own."""
    torch.manual_seed(0)
    labels = torch.arange(count) % classes
    rows = torch.randn(classes, width)[labels] + spread * torch.randn(count, width)
    return rows * torch.logspace(-2, 2, width) + 5, labels


def expected(features: Tensor, labels: Tensor, l2: float) -> tuple[LogisticRegression, Tensor]:
    rows = StandardScaler().fit_transform(features.double().numpy())
    model = LogisticRegression(C=1 / (l2 * len(labels)), tol=1e-10, max_iter=10_000)
    return model.fit(rows, labels.numpy()), torch.from_numpy(model.predict_proba(rows))


@pytest.mark.parametrize("rows", [8192, 64])
@pytest.mark.parametrize("l2", [1.0, 1e-2, 1e-4, 1e-6])
def test_the_optimum_is_scikit_learns_however_many_rows_are_taken_at_a_time(
    monkeypatch, l2: float, rows: int
):
    monkeypatch.setattr(linear, "_ROWS", rows)
    features, labels = clouds(300)
    found = fit(features, labels, l2=l2)
    model, shares = expected(features, labels, l2)
    torch.testing.assert_close(found.logits(features).softmax(1), shares, atol=2e-4, rtol=0)
    torch.testing.assert_close(found.weight.T, torch.from_numpy(model.coef_), atol=1e-3, rtol=1e-3)
    assert found.answers(features).shape == (300, 4)
    assert torch.equal(found.answers(features)[:, 0], shares.argmax(1))


def test_two_classes_are_fitted_as_scikit_learn_fits_them():
    features, labels = clouds(80, classes=2)
    found = fit(features, labels, l2=1e-2).logits(features)
    # Its two outputs share one penalty there: half of ours for the difference of the two.
    model, _ = expected(features, labels, 1e-2 / 2)
    rows = StandardScaler().fit_transform(features.double().numpy())
    margin = torch.from_numpy(model.decision_function(rows))
    torch.testing.assert_close(found[:, 1] - found[:, 0], margin, atol=1e-4, rtol=1e-4)


def test_another_start_leads_to_the_same_optimum():
    features, labels = clouds(300)
    far = fit(features, labels, l2=10.0)
    one, two = (fit(features, labels, l2=1e-3, start=start) for start in (None, far))
    torch.testing.assert_close(one.weight, two.weight, atol=1e-4, rtol=1e-4)
    assert float(far.weight.norm()) < float(one.weight.norm()) / 10  # and changed nothing of it


def test_a_feature_that_never_changes_counts_for_nothing():
    features, labels = clouds(60)
    with_constant = torch.cat((features, torch.full((60, 1), 0.1), torch.zeros(60, 1)), 1)
    one, two = fit(features, labels, l2=0.1), fit(with_constant, labels, l2=0.1)
    torch.testing.assert_close(one.logits(features), two.logits(with_constant), atol=1e-5, rtol=0)
    assert two.scale[-2:].tolist() == [1.0, 1.0]


def test_answers_name_classes_that_were_there_to_fit():
    features, labels = clouds(60, classes=3)
    named = torch.tensor([7, 2, 900])[labels]
    found = fit(features, named, l2=1e-3)
    assert found.classes.tolist() == [2, 7, 900]
    assert set(found.answers(features).flatten().tolist()) == {2, 7, 900}
    assert float((found.answers(features)[:, 0] == named).double().mean()) > 0.6


def test_the_penalty_is_chosen_on_a_fifth_that_the_seed_tells():
    features, labels = clouds(250, spread=3.0)
    choice = choose_l2(features, labels, seed=5)
    assert choice.n == 50
    assert [l2 for l2, _ in choice.tried] == list(STRENGTHS)
    kept, held = hold_out(labels, 50, 5)
    for l2, top1 in choice.tried:
        model, _ = expected(features[kept], labels[kept], l2)
        scaler = StandardScaler().fit(features[kept].double().numpy())
        score = model.score(scaler.transform(features[held].double().numpy()), labels[held])
        assert top1 == pytest.approx(score, abs=0.021)  # one image may lie on the border
    best = max(top1 for _, top1 in choice.tried)
    assert choice.l2 == max(l2 for l2, top1 in choice.tried if top1 == best)
    assert choose_l2(features, labels, seed=5) == choice
    others = {choose_l2(features, labels, seed=seed).tried for seed in range(4)}
    assert len(others) > 1


def test_noise_is_given_a_stronger_penalty_than_what_can_be_told_apart():
    torch.manual_seed(0)
    noise, labels = torch.randn(200, 60), torch.arange(200) % 2
    noise[:, 0] += 1.2 * labels
    clear = torch.randn(200, 60)
    clear[:, :3] += torch.tensor([[9.0, 9.0, 9.0]]) * labels[:, None]
    chosen = [choose_l2(features, labels, seed=0).l2 for features in (noise, clear)]
    assert chosen[0] >= 0.1
    assert choose_l2(clear, labels, seed=0).tried[0][1] == 1.0


@pytest.mark.parametrize("count", [2, 3, 5])
def test_few_images_are_enough_to_choose_by(count: int):
    features, labels = clouds(count, classes=2)
    choice = choose_l2(features, labels, seed=0)
    assert choice.n == 1
    assert choice.l2 in STRENGTHS


def test_a_class_with_a_single_image_is_not_held_out():
    features, labels = clouds(61, classes=3)
    labels[labels == 2] = 1
    labels[60] = 2
    assert 60 in hold_out(labels, 12, 0)[0].tolist()
    assert choose_l2(features, labels, seed=0).n == 12
    assert fit(features, labels, l2=1e-3).classes.tolist() == [0, 1, 2]
