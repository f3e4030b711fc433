"""Stochastic depth: units left out of a training step, sample by sample (1603.09382)."""

import torch
from torch import Tensor

from resnet_hub.randomness import uniform

_STREAM = 1000  # a sample's streams above this one are these draws, one a unit


def branch_factors(keys: Tensor, rate: float, units: int, dtype: torch.dtype) -> list[Tensor]:
    """Draw what each unit's residual branch is multiplied by: 0, or what keeps its expectation.

    Unit l of L is left out with probability ``l / L · rate`` (1603.09382 §3, the linear rule). The
    paper scales in evaluation; scaling in training instead is the same in expectation, and leaves
    the evaluated net as it is.

    Args:
        keys: int64 ``(N,)``, one a sample; nothing else decides its draws.
        rate: Probability that the last unit's branch is left out, in [0, 1).
        units: Units of the net.
        dtype: Floating type of the factors.

    Returns:
        A factor ``(N, 1, 1, 1)`` for each unit.
    """
    factors = []
    for unit in range(1, units + 1):
        survival = 1 - rate * unit / units
        kept = uniform(keys, _STREAM + unit) < survival
        factors.append((kept.to(dtype) / survival).view(-1, 1, 1, 1))
    return factors
