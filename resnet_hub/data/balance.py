"""An order of samples in which every class comes equally often."""

import torch
from torch import Tensor

from resnet_hub.randomness import permutations


def balanced(labels: Tensor, seed: int, epoch: int) -> tuple[Tensor, Tensor]:
    """Return an epoch's samples with each class equally often, as many as there are labels.

    The samples are drawn in rounds: a round takes one of each class that has any, in an order of
    its own. The samples of a class come once each, shuffled, and then again in a new order. Rounds
    and classes go on from epoch to epoch, so that in any part of a run the classes' numbers differ
    by two at most, and those of a class's samples likewise. An epoch follows from its number alone:
    in round r each class gives its r-th sample.

    Args:
        labels: int64 ``(N,)``.
        seed: Key of the orders.
        epoch: Which part of the rounds.

    Returns:
        Indices of samples, int64 ``(N,)``, and how often each one's class was used up before in
        this epoch, int64 ``(N,)``: a sample that comes twice has two numbers.
    """
    classes, sizes = torch.unique(labels, return_counts=True)
    ends = sizes.cumsum(0)[:-1]
    members = torch.tensor_split(labels.argsort(stable=True), ends)
    places = torch.arange(epoch * len(labels), (epoch + 1) * len(labels))
    first, last = int(places[0]) // len(classes), int(places[-1]) // len(classes)
    rounds = torch.arange(first, last + 1)
    drawn = torch.empty(2, len(classes), len(rounds), dtype=torch.int64)
    for row, (label, own) in enumerate(zip(classes.tolist(), members, strict=True)):
        passes = rounds // len(own)  # through the class
        repeats = passes - passes[0]
        begun = torch.arange(int(passes[0]), int(passes[-1]) + 1)
        orders = permutations(begun, len(own), "class", seed, label)
        drawn[:, row] = torch.stack((own[orders[repeats, rounds % len(own)]], repeats))
    turns = permutations(rounds, len(classes), "classes", seed)  # which class comes when
    in_order = drawn.transpose(1, 2).gather(2, turns.expand(2, -1, -1)).flatten(1)
    indices, repeats = in_order[:, places - first * len(classes)]
    return indices, repeats
