"""The one metric: mean loss, top-1 and top-5, from one top-k a batch."""

import torch
from torch import Tensor
from torchmetrics import Metric


class Scores(Metric):
    """Mean loss, top-1 and top-5 over all images seen, micro-averaged, exact across ranks.

    Only ``update`` is meant for the loop (``forward`` would compute each batch's value too);
    ``compute`` at the end sums over the ranks. Top-5 is capped at the number of classes.
    """

    full_state_update = False
    hits: Tensor
    loss: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Apple's GPUs hold no float64.
        double = torch.float32 if torch.backends.mps.is_available() else torch.float64
        self.add_state("loss", torch.zeros((), dtype=double), dist_reduce_fx="sum")
        self.add_state("hits", torch.zeros(4, dtype=torch.int64), dist_reduce_fx="sum")

    def reset(self) -> None:
        """Begin anew, with sums that may be added to in and out of torch's inference mode."""
        with torch.inference_mode(False):
            super().reset()

    def update(self, logits: Tensor, labels: Tensor, loss: Tensor, skipped: int = 0) -> None:
        """Count one batch.

        Args:
            logits: ``(N, classes)``.
            labels: int64 ``(N,)``.
            loss: Sum of the images' losses, a scalar.
            skipped: Images that the batch should have had, and that could not be read.
        """
        top = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]
        self.hits[0] += top[:, 0].sum()
        self.hits[1] += top.sum()
        self.hits[2] += len(top)
        self.hits[3] += skipped
        self.loss += loss

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
