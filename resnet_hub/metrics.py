"""The metrics: mean loss with top-1 and top-5, or the share of soft targets met; intervals."""

import math
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Return Wilson's 95% interval of a fraction: of what share would this count be no surprise.

    E. B. Wilson 1927; unlike the normal one it stays within [0, 1], and has a width at 0 and 1.

    Args:
        hits: How many of the ``n``.
        n: Above 0.
    """
    z, share = 1.959963984540054, hits / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    # At the ends the sums are 0 and 1 but for rounding.
    low, high = centre - half, centre + half
    return (0.0 if hits == 0 else low), (1.0 if hits == n else high)


def bootstrap(hits: int, n: int) -> tuple[float, float]:
    """Return the bootstrap 95% interval of a fraction, by percentiles (Efron 1979).

    Of ``n`` draws with replacement, as a resample has them, binomially many are hits: the
    percentiles that resamples approach are known without drawing one. Where all are hits or none
    is, the interval has no width, as in every resample it is so.

    Args:
        hits: How many of the ``n``.
        n: Above 0.
    """
    if hits in (0, n):
        return hits / n, hits / n
    k, share = torch.arange(n + 1, dtype=torch.float64), hits / n
    whole = torch.lgamma(k.new_tensor(n + 1.0))
    choices = whole - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
    summed = (choices + k * math.log(share) + (n - k) * math.log1p(-share)).exp().cumsum(0)
    low, high = torch.searchsorted(summed, k.new_tensor([0.025, 0.975])).tolist()
    return low / n, high / n


class _Sums(Metric):
    """Sums over all images seen, exact across ranks: ``compute`` sums over them.

    Only ``update`` is meant for the loop (``forward`` would compute each batch's value too).
    """

    full_state_update = False
    loss: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Apple's GPUs hold no float64.
        self._exact = torch.float32 if torch.backends.mps.is_available() else torch.float64
        self.add_state("loss", torch.zeros((), dtype=self._exact), dist_reduce_fx="sum")

    def reset(self) -> None:
        """Begin anew, with sums that may be added to in and out of torch's inference mode."""
        with torch.inference_mode(False):
            super().reset()

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *more: Any, **named: Any
    ) -> None:
        """Load own sums; leave another metric's, of a run whose recipe was changed, where they are.

        Its loss alone, without the images that it is of, would be wrong.
        """
        saved = {name for name in state_dict if name.startswith(prefix)}
        if saved != {prefix + name for name in self._defaults}:
            for name in saved:
                del state_dict[name]
        super()._load_from_state_dict(state_dict, prefix, *more, **named)


class Scores(_Sums):
    """Mean loss, top-1 and top-5 over all images seen, micro-averaged.

    Top-5 is capped at the number of classes.
    """

    hits: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("hits", torch.zeros(4, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, labels: Tensor, loss: Tensor, skipped: int = 0) -> None:
        """Count one batch.

        Args:
            logits: ``(N, classes)``.
            labels: int64 ``(N,)``.
            loss: Sum of the images' losses, a scalar.
            skipped: Images that the batch should have had, and that could not be read.
        """
        top = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]
        ranked = top.sum(0)
        self.hits[:2].add_(torch.stack((ranked[0], ranked.sum())))
        self.hits[2].add_(len(top))
        if skipped:
            self.hits[3].add_(skipped)
        self.loss.add_(loss)

    def compute(self) -> dict[str, Tensor]:
        """Return ``loss``, ``top1``, ``top5`` (fractions), ``n`` (images seen) and ``skipped``."""
        n = self.hits[2]
        seen = n.clamp(min=1)
        return {
            "loss": (self.loss / seen).float(),
            "top1": self.hits[0] / seen,
            "top5": self.hits[1] / seen,
            "n": n,
            "skipped": self.hits[3],
        }


class SoftScores(_Sums):
    """Mean loss, and the mean share of an image's target that lies on the first answer.

    Of targets that are one label each, the share is top-1. Of mixed ones it cannot reach 1: an
    image that is 0.7 of one class and 0.3 of another gives 0.7 at best.
    """

    met: Tensor
    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("met", torch.zeros((), dtype=self._exact), dist_reduce_fx="sum")
        self.add_state("seen", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, targets: Tensor, loss: Tensor) -> None:
        """Count one batch.

        Args:
            logits: ``(N, classes)``.
            targets: float ``(N, classes)``; each row sums to 1.
            loss: Sum of the images' losses, a scalar.
        """
        met = targets.gather(1, logits.argmax(1, keepdim=True))
        self.met += met.to(self._exact).sum()
        self.seen += len(logits)
        self.loss += loss

    def compute(self) -> dict[str, Tensor]:
        """Return ``loss``, ``soft_top1`` (a fraction) and ``n`` (images seen)."""
        seen = self.seen.clamp(min=1)
        return {
            "loss": (self.loss / seen).float(),
            "soft_top1": (self.met / seen).float(),
            "n": self.seen,
        }
