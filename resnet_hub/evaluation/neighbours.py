"""Nearest neighbours by cosine similarity, and their votes (1805.01978 §3.4)."""

import torch
from torch import Tensor
from torch.nn import functional as F

_QUERIES, _BANK = 1024, 1 << 16
"""Rows that are compared at a time: 256 MiB of similarities, however large the sets are."""


def nearest(
    bank: Tensor, queries: Tensor, *, k: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return each query's most similar rows of a bank, the most similar first.

    Args:
        bank: float ``(N, C)``.
        queries: float ``(M, C)``.
        k: How many; N at most are there.
        device: Where to compute.

    Returns:
        Cosine similarities, float32 ``(M, min(k, N))``, and the rows' numbers, int64 of the same
        shape, both on the CPU. A row of zeros is as similar to everything: 0.
    """
    found = []
    for part in torch.split(queries, _QUERIES):
        similarities, numbers = _nearest(bank, F.normalize(part.to(device), dim=1), k)
        found.append((similarities.cpu(), numbers.cpu()))
    return torch.cat([pair[0] for pair in found]), torch.cat([pair[1] for pair in found])


def _nearest(bank: Tensor, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    best = queries.new_empty(len(queries), 0)
    numbers = torch.empty(best.shape, dtype=torch.int64, device=queries.device)
    for start in range(0, len(bank), _BANK):
        part = F.normalize(bank[start : start + _BANK].to(queries.device), dim=1)
        values, places = (queries @ part.T).topk(min(k, len(part)), dim=1)
        best, numbers = torch.cat((best, values), 1), torch.cat((numbers, places + start), 1)
        best, order = best.topk(min(k, best.shape[1]), dim=1)
        numbers = numbers.gather(1, order)
    return best, numbers


def votes(
    similarities: Tensor, labels: Tensor, *, classes: int, temperature: float | None
) -> Tensor:
    """Return each class's share of the neighbours' votes, float64 ``(M, classes)``.

    Args:
        similarities: float ``(M, k)``, on the CPU.
        labels: int64 ``(M, k)``, the neighbours'.
        classes: How many there are.
        temperature: A neighbour of similarity s has exp(s / temperature) votes; ``None``: one each.
    """
    weights = torch.ones_like(similarities, dtype=torch.float64)
    if temperature is not None:
        weights = (similarities.double() / temperature).softmax(1)
    counted = weights.new_zeros(len(labels), classes).scatter_add_(1, labels, weights)
    return counted / counted.sum(1, keepdim=True)


def answers(
    similarities: Tensor, labels: Tensor, *, classes: int, temperature: float | None, most: int = 5
) -> Tensor:
    """Return the classes of most votes, int64 ``(M, min(most, classes))``, in their order.

    Of classes with as many votes the first goes first, as in scikit-learn. Where fewer classes
    have a neighbour the rest is −1: a class without one is no answer.

    Args:
        similarities: As :func:`votes` takes them.
        labels: Likewise.
        classes: Likewise.
        temperature: Likewise.
        most: Answers an image.
    """
    found = []
    parts = (torch.split(values, _QUERIES) for values in (similarities, labels))
    for near, own in zip(*parts, strict=True):
        share = votes(near, own, classes=classes, temperature=temperature)
        best = share.sort(dim=1, descending=True, stable=True).indices[:, :most]
        voted = torch.zeros_like(share, dtype=torch.bool).scatter_(1, own, True)
        found.append(best.where(voted.gather(1, best), -1))
    return torch.cat(found)
