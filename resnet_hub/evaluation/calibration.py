"""How far a net's probabilities can be believed, and the temperature that mends them.

1706.04599 (Guo et al.): expected calibration error with equal-width bins (§2), temperature scaling
(§4.2); the Brier score is G. W. Brier's of 1950, over all classes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from resnet_hub.randomness import permutation

BINS = 15
"""As 1706.04599 has them."""

COLDEST, HOTTEST = 0.01, 100.0
"""Temperatures that are tried; answers that are all right would be given ever colder ones."""

_ROWS, _STEPS = 4096, 100


@dataclass(frozen=True)
class Bin:
    """The images whose first answer has a probability in ``(low, high]``.

    Attributes:
        low: Lower end.
        high: Upper end.
        n: How many images.
        confidence: Mean probability of their first answers; ``None`` of no image.
        accuracy: Fraction of first answers that are right; ``None`` of no image.
    """

    low: float
    high: float
    n: int
    confidence: float | None
    accuracy: float | None

    @property
    def gap(self) -> float:
        """Distance of confidence from accuracy; 0 of no image."""
        if self.confidence is None or self.accuracy is None:
            return 0.0
        return abs(self.confidence - self.accuracy)


@dataclass(frozen=True)
class Calibration:
    """Three measures of probabilities; 0 is perfect for each.

    Attributes:
        ece: Expected calibration error: mean distance of confidence from accuracy over the bins,
            each weighted by its images.
        nll: Mean negative log-likelihood, in nats.
        brier: Mean over images of the squared distances from the truth, summed over classes: 0
            to 2.
        bins: :data:`BINS` of equal width, for a reliability diagram.
    """

    ece: float
    nll: float
    brier: float
    bins: tuple[Bin, ...]


def calibration(values: Tensor, labels: Tensor, temperature: float | Tensor = 1.0) -> Calibration:
    """Measure how well probabilities fit the truth.

    Args:
        values: Logits, float ``(N, classes)``, N at least 1; finite.
        labels: int64 ``(N,)``.
        temperature: By which the logits are divided; or one an image, ``(N,)``.
    """
    temperatures = torch.as_tensor(temperature, dtype=torch.float64).expand(len(labels))
    nll, brier, confidences, right = [], [], [], []
    for z, y, t in _parts(values, labels, temperatures):
        logs = (z / t[:, None]).log_softmax(1)
        p = logs.exp()
        own = logs.gather(1, y[:, None]).squeeze(1)
        nll.append(-own)
        brier.append((p**2).sum(1) - 2 * own.exp() + 1)
        best = z.topk(1).indices  # as the metric counts: of equal logits dividing makes no other
        confidences.append(p.gather(1, best).squeeze(1))
        right.append(best.squeeze(1) == y)
    bins = _bins(torch.cat(confidences), torch.cat(right).double())
    return Calibration(
        ece=sum(b.n * b.gap for b in bins) / len(labels),
        nll=float(torch.cat(nll).mean()),
        brier=float(torch.cat(brier).mean().clamp(min=0)),
        bins=bins,
    )


def fit_temperature(values: Tensor, labels: Tensor) -> float:
    """Return the temperature of the lowest negative log-likelihood (1706.04599 §4.2).

    In 1/T the likelihood is convex, and so one slope of 0 is the minimum: Newton's steps, halving
    the interval where they lead out of it. Between :data:`COLDEST` and :data:`HOTTEST`.

    Args:
        values: Logits, float ``(N, classes)``, N at least 1; finite.
        labels: int64 ``(N,)``.
    """
    low, high, scale = 1 / HOTTEST, 1 / COLDEST, 1.0
    for _ in range(_STEPS):
        slope, curvature = _slopes(values, labels, scale)
        low, high = (low, scale) if slope > 0 else (scale, high)
        step = scale - slope / curvature if curvature > 0 else math.inf
        following = step if low < step < high else math.sqrt(low * high)
        if abs(following - scale) <= 1e-9 * scale:
            break
        scale = following
    return 1 / scale


def cross_fitted(values: Tensor, labels: Tensor, *, seed: int) -> Tensor:
    """Return a temperature an image, float64 ``(N,)``, that no image had a part in its own of.

    The images are halved at random; each half has the temperature that the other half gives.

    Args:
        values: Logits, float ``(N, classes)``, N at least 2; finite.
        labels: int64 ``(N,)``.
        seed: Key of the halves.
    """
    order = permutation(len(labels), "calibration", seed)
    halves = order.tensor_split(2)
    found = torch.empty(len(labels), dtype=torch.float64)
    for own, other in (halves, halves[::-1]):
        found[own] = fit_temperature(values[other], labels[other])
    return found


def _slopes(values: Tensor, labels: Tensor, scale: float) -> tuple[float, float]:
    """Return the mean NLL's first and second derivative by 1/T."""
    slope, curvature = 0.0, 0.0
    for z, y in _parts(values, labels):
        p = (z * scale).softmax(1)
        mean = (p * z).sum(1)
        slope += float((mean - z.gather(1, y[:, None]).squeeze(1)).sum())
        curvature += float((p * (z - mean[:, None]) ** 2).sum())
    return slope / len(labels), curvature / len(labels)


def _parts(values: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield rows of logits in float64, and of what goes with them: no more at once than needed."""
    for parts in zip(*(torch.split(x, _ROWS) for x in (values, *others)), strict=True):
        yield parts[0].double(), *parts[1:]


def _bins(confidences: Tensor, right: Tensor) -> tuple[Bin, ...]:
    edges = torch.linspace(0, 1, BINS + 1, dtype=torch.float64)
    places = (torch.bucketize(confidences, edges) - 1).clamp(0, BINS - 1)
    counts = torch.bincount(places, minlength=BINS)
    sums = [torch.bincount(places, x, minlength=BINS) for x in (confidences, right)]
    means = [(total / counts).tolist() for total in sums]
    rows = zip(edges.tolist(), edges[1:].tolist(), counts.tolist(), *means, strict=False)
    return tuple(
        Bin(low, high, n, *((confidence, accuracy) if n else (None, None)))
        for low, high, n, confidence, accuracy in rows
    )
