"""Multinomial logistic regression on fixed features: the linear probe."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from resnet_hub.data.arrays import hold_out

STRENGTHS = (10.0, 1.0, 0.1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""L2 penalties that are tried, the strongest first."""

_ROWS = 8192
"""Rows in double precision at a time, however many there are."""

_STEPS, _GRADIENT, _CHANGE = 200, 1e-7, 1e-9
"""Most steps of a search, and the largest slope and the change of the loss at which it ends."""


@dataclass(frozen=True)
class Linear:
    """A classifier of features that are standardised first.

    Attributes:
        weight: float64 ``(C, K)``.
        bias: float64 ``(K,)``.
        mean: float64 ``(C,)``, of the features that it was fitted to.
        scale: float64 ``(C,)``, their standard deviation; 1 where they are all the same.
        classes: int64 ``(K,)``, which class each output stands for: those that were there to fit.
    """

    weight: Tensor
    bias: Tensor
    mean: Tensor
    scale: Tensor
    classes: Tensor

    def logits(self, features: Tensor) -> Tensor:
        """Return float64 ``(N, K)`` of float features ``(N, C)``."""
        return ((features.to(self.mean) - self.mean) / self.scale) @ self.weight + self.bias

    def answers(self, features: Tensor, *, most: int = 5) -> Tensor:
        """Return the likeliest classes, int64 ``(N, min(most, K))``, in order, on the CPU."""
        count = min(most, len(self.classes))
        parts = torch.split(features, _ROWS)
        best = torch.cat([self.logits(part).topk(count, dim=1).indices for part in parts])
        return self.classes[best].cpu()


@dataclass(frozen=True)
class Choice:
    """Which penalty did best on what was held out.

    Attributes:
        l2: The penalty.
        tried: Every penalty, and top-1 with it on the held-out images, a fraction.
        n: Held-out images.
    """

    l2: float
    tried: tuple[tuple[float, float], ...]
    n: int


def choose_l2(
    features: Tensor, labels: Tensor, *, seed: int, strengths: Sequence[float] = STRENGTHS
) -> Choice:
    """Choose a penalty by top-1 on a fifth of the images, held out of every class alike.

    Of several that do as well it is the strongest.

    Args:
        features: float ``(N, C)`` of at least two training images; they are used where they lie.
        labels: int64 ``(N,)``, on the CPU.
        seed: Key of what is held out.
        strengths: What to try, the strongest first.
    """
    kept, held = hold_out(labels, max(1, len(labels) // 5), seed)
    place = features.device
    inside, outside = features[kept.to(place)], features[held.to(place)]
    tried, fitted = [], None
    for l2 in strengths:
        fitted = fit(inside, labels[kept], l2=l2, start=fitted)
        right = fitted.answers(outside, most=1)[:, 0] == labels[held]
        tried.append((l2, int(right.sum()) / len(held)))
    best, _ = max(tried, key=lambda pair: pair[1])  # the first of equals
    return Choice(best, tuple(tried), len(held))


def fit(features: Tensor, labels: Tensor, *, l2: float, start: Linear | None = None) -> Linear:
    """Return the classifier of least mean cross-entropy + l2 / 2 · ‖weight‖², by L-BFGS.

    The bias has no penalty. With C = 1 / (l2 · N) it is scikit-learn's ``LogisticRegression``.

    Args:
        features: float ``(N, C)``; computed with where they lie.
        labels: int64 ``(N,)``.
        l2: Above 0.
        start: Where to begin: one for the same features and labels.
    """
    # Apple's GPUs hold no float64.
    exact = torch.float32 if features.device.type == "mps" else torch.float64
    classes, targets = torch.unique(labels.to(features.device), return_inverse=True)
    mean, scale = _moments(features, exact)
    if start is None:
        weight = torch.zeros(features.shape[1], len(classes), dtype=exact, device=features.device)
        bias = torch.zeros(len(classes), dtype=exact, device=features.device)
    else:
        weight, bias = start.weight.clone(), start.bias.clone()
    leaves = (weight.requires_grad_(), bias.requires_grad_())
    fitted = Linear(*leaves, mean, scale, classes)

    def closure() -> Tensor:
        loss, (weight.grad, bias.grad) = _objective(fitted, features, targets, l2)
        return loss

    optimizer = torch.optim.LBFGS(
        leaves,
        max_iter=_STEPS,
        tolerance_grad=_GRADIENT,
        tolerance_change=_CHANGE,
        line_search_fn="strong_wolfe",
    )
    cast(Any, optimizer).step(closure)
    return Linear(weight.detach(), bias.detach(), mean, scale, classes)


def _objective(
    fitted: Linear, features: Tensor, targets: Tensor, l2: float
) -> tuple[Tensor, list[Tensor]]:
    """Return what is minimised, and its slopes by weight and bias, some rows at a time."""
    weight, bias = fitted.weight, fitted.bias
    total = l2 / 2 * weight.detach().square().sum()
    slopes = [l2 * weight.detach(), torch.zeros_like(bias)]
    for part, own in zip(torch.split(features, _ROWS), torch.split(targets, _ROWS), strict=True):
        loss = F.cross_entropy(fitted.logits(part), own, reduction="sum") / len(features)
        more = torch.autograd.grad(loss, (weight, bias))
        slopes = [one + other for one, other in zip(slopes, more, strict=True)]
        total += loss.detach()
    return total, slopes


def _moments(features: Tensor, exact: torch.dtype) -> tuple[Tensor, Tensor]:
    def parts() -> Iterator[Tensor]:
        return (part.to(exact) for part in torch.split(features, _ROWS))

    mean = sum((part.sum(0) for part in parts()), torch.zeros(())) / len(features)
    squares = sum(((part - mean).square().sum(0) for part in parts()), torch.zeros(()))
    scale = (squares / len(features)).sqrt()
    # What float32 cannot tell from a constant is one.
    return mean, scale.where(scale > 1e-6 * mean.abs(), 1.0)
