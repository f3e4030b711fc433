"""The moving average of a net's weights and statistics."""

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


@torch.no_grad()
def follow(averaged: AveragedModel, net: nn.Module, *, decay: float, good: Tensor) -> None:
    """Let the average follow the net by one update, on the device.

    Torch's own ``update_parameters`` asks the device twice whether this update is the first.

    Args:
        averaged: The average; its first update makes it the net.
        net: The net.
        decay: Share of the average that stays.
        good: Scalar bool: whether there is an update at all.
    """
    share = torch.where(averaged.n_averaged == 0, 1.0, 1 - decay) * good
    pairs = zip(averaged.module.state_dict().values(), net.state_dict().values(), strict=True)
    numbers: list[tuple[Tensor, Tensor]] = []
    counters: list[tuple[Tensor, Tensor]] = []
    for mean, live in pairs:
        (numbers if mean.is_floating_point() else counters).append((mean, live))
    for kind, factor in ((numbers, share), (counters, good.long())):
        if kind:
            means, lives = map(list, zip(*kind, strict=True))
            moves = torch._foreach_sub(lives, means)
            torch._foreach_mul_(moves, factor)
            torch._foreach_add_(means, moves)
    averaged.n_averaged += good
