"""Nearest neighbours against scikit-learn's."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from resnet_hub.evaluation import neighbours
from resnet_hub.evaluation.neighbours import answers, nearest, votes

CPU = torch.device("cpu")


@pytest.fixture(params=[(1024, 1 << 16), (7, 50), (1, 13)], ids=str)
def chunks(request, monkeypatch) -> None:
    """Queries and bank compared whole, or some rows at a time that divide neither."""
    for name, rows in zip(("_QUERIES", "_BANK"), request.param, strict=True):
        monkeypatch.setattr(neighbours, name, rows)


@pytest.fixture
def clouds() -> tuple[Tensor, Tensor, Tensor]:
    """A bank of 300 rows, its labels of six classes, and 40 queries."""
    torch.manual_seed(0)
    centres, labels = torch.randn(6, 12), torch.arange(300) % 6
    return centres[labels] + torch.randn(300, 12), labels, torch.randn(40, 12) * 3


def reference(clouds, k: int, temperature: float | None) -> np.ndarray:
    bank, labels, queries = clouds
    weights = "uniform"
    if temperature is not None:
        # A similarity is 1 − distance; a constant factor of all votes changes no share.
        weights = lambda distance: np.exp((1 - distance) / temperature)  # noqa: E731
    model = KNeighborsClassifier(k, metric="cosine", algorithm="brute", weights=weights)
    return model.fit(bank.numpy(), labels.numpy()).predict_proba(queries.numpy())


@pytest.mark.parametrize("temperature", [0.07, 1.0, None])
@pytest.mark.parametrize("k", [1, 5, 20, 300])
def test_the_votes_are_scikit_learns(clouds, chunks, k: int, temperature: float | None):
    bank, labels, queries = clouds
    similarities, numbers = nearest(bank, queries, k=k, device=CPU)
    assert similarities.shape == numbers.shape == (40, k)
    found = votes(similarities, labels[numbers], classes=6, temperature=temperature)
    expected = torch.from_numpy(reference(clouds, k, temperature))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    given = answers(similarities, labels[numbers], classes=6, temperature=temperature)
    assert given.shape == (40, 5)
    assert torch.equal(given[:, 0], expected.argmax(1))


def test_the_most_similar_come_first_with_their_cosines(clouds, chunks):
    bank, _, queries = clouds
    similarities, numbers = nearest(bank, queries, k=9, device=CPU)
    cosines = torch.cosine_similarity(queries[:, None], bank[None], dim=2)
    expected, order = cosines.sort(dim=1, descending=True)
    torch.testing.assert_close(similarities, expected[:, :9])
    assert torch.equal(numbers, order[:, :9])


def test_more_neighbours_than_there_are_rows_are_all_rows(clouds, chunks):
    bank, _, queries = clouds
    _, numbers = nearest(bank[:3], queries, k=20, device=CPU)
    assert numbers.shape == (40, 3)
    assert numbers.sort(1).values.tolist() == [[0, 1, 2]] * 40


def test_a_class_without_a_neighbour_is_no_answer():
    near, labels = torch.tensor([[0.9, 0.8, 0.7]]), torch.tensor([[4, 4, 2]])
    assert answers(near, labels, classes=9, temperature=None).tolist() == [[4, 2, -1, -1, -1]]
    assert answers(near, labels, classes=9, temperature=0.01).tolist() == [[4, 2, -1, -1, -1]]


def test_of_classes_with_as_many_votes_the_first_goes_first():
    near, labels = torch.tensor([[0.9, 0.8, 0.7, 0.6]]), torch.tensor([[3, 1, 3, 1]])
    assert answers(near, labels, classes=4, temperature=None).tolist() == [[1, 3, -1, -1]]
    assert answers(near, labels, classes=4, temperature=0.07).tolist() == [[3, 1, -1, -1]]


def test_a_near_one_outvotes_several_far_ones_by_temperature_alone():
    near, labels = torch.tensor([[1.0, 0.5, 0.5, 0.5]]), torch.tensor([[0, 1, 1, 1]])
    for temperature, first in ((0.07, 0), (9, 1), (None, 1)):
        assert answers(near, labels, classes=2, temperature=temperature)[0, 0] == first


def test_a_temperature_that_would_overflow_gives_shares_still():
    near, labels = torch.tensor([[1.0, 0.99]]), torch.tensor([[1, 0]])
    assert votes(near, labels, classes=2, temperature=1e-5).tolist() == [[0.0, 1.0]]


def test_a_row_of_zeros_is_similar_to_nothing():
    similarities, _ = nearest(torch.zeros(2, 3), torch.ones(1, 3), k=2, device=CPU)
    assert similarities.tolist() == [[0.0, 0.0]]
