"""Dropout of what shortcuts carry, value by value, sample by sample (1603.05027 §3.1)."""

from typing import NamedTuple

from torch import Tensor

from resnet_hub.randomness import uniforms

_STREAM = 3000  # a sample's streams above this one are these draws, one a unit


class ShortcutDropout(NamedTuple):
    """One unit's dropout in one training step.

    What stays is divided by its probability, as torch's dropout and Caffe's do, so that the
    evaluated net needs nothing. The paper's words, "a scale of λ with an expectation of 0.5", are
    those of Hinton et al. 2012, where it is halved in evaluation instead: that is this rate and a
    ``shortcut_scale`` of one minus it.

    Attributes:
        keys: int64 ``(N,)``, one a sample; nothing else decides its draws.
        rate: Probability that a value is set to zero, in (0, 1).
        unit: The unit's number, from 1.
    """

    keys: Tensor
    rate: float
    unit: int

    def drop(self, x: Tensor) -> Tensor:
        """Return ``(N, C, H, W)`` with values set to zero."""
        draws = uniforms(self.keys, _STREAM + self.unit, x.shape[1:].numel())
        kept = (draws >= self.rate).view(x.shape)
        return x * (kept.to(x.dtype) / (1 - self.rate))
