"""Which samples are held out of a split, the same share of every class."""

import torch
from torch import Tensor

from resnet_hub.errors import InvalidSetting
from resnet_hub.randomness import permutation


def hold_out(labels: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Choose ``count`` samples to hold out, the same share of every class as far as they divide.

    Args:
        labels: int64 ``(N,)``.
        count: How many to hold out.
        seed: Key of the choice.

    Returns:
        Sorted indices (kept, held out), int64.

    Raises:
        InvalidSetting: More to hold out than there is.
    """
    total = len(labels)
    if not 0 <= count < total:
        raise InvalidSetting(f"data.held_out: {count:,} is not 0 to {total - 1:,} training images")
    order = permutation(total, seed, "hold out")
    # Where each sample stands in its shuffled class, from 0 to 1: the lowest are held out, so that
    # a class gives in proportion to its size and a small one is not used up. Each gives one at
    # least, if it has two and all can.
    shuffled = labels[order]
    places = torch.empty(total, dtype=torch.float64)
    classes = set(shuffled.tolist())
    for label in classes:
        members = (shuffled == label).nonzero().squeeze(1)
        places[members] = (torch.arange(len(members), dtype=torch.float64) + 0.5) / len(members)
        if len(members) > 1 and count >= len(classes):
            places[members[0]] = 0
    chosen = order[torch.argsort(places, stable=True)]
    return chosen[count:].sort().values, chosen[:count].sort().values
