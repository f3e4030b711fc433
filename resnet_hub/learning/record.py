"""What is kept of training's batches until it is logged: losses and scores."""

from typing import Any, cast

import torch
from torch import Tensor

from resnet_hub.metrics import Scores, SoftScores

_PREFIX = "train_scores."  # of the metric's states in a checkpoint: the classifier's name for it


class TrainingRecord:
    """Training's losses since the last log, and the epoch's scores, in and out of checkpoints.

    Args:
        scores: The epoch's metric, which a module owns: its states become part of checkpoints, so
            that an epoch that is resumed halfway keeps its first half.
    """

    def __init__(self, scores: Scores | SoftScores) -> None:
        self.scores = scores
        scores.persistent(True)
        self._recent: list[Tensor] = []

    @property
    def states(self) -> list[Tensor]:
        """The metric's states, which a step adds to in place."""
        return list(cast(dict[str, Tensor], self.scores.metric_state).values())

    def add(self, logits: Tensor, targets: Tensor, loss: Tensor) -> None:
        """Count one batch.

        Args:
            logits: ``(N, classes)``.
            targets: As the metric takes them.
            loss: The batch's mean loss, a scalar.
        """
        loss = loss.detach()
        self.scores.update(logits.detach(), targets, loss * len(logits))
        self._recent.append(loss)

    def recent(self) -> Tensor:
        """Return the mean of the finite losses since the last call, and begin anew."""
        losses = torch.stack(self._recent)
        self._recent.clear()
        return losses.where(losses.isfinite(), torch.nan).nanmean()

    def epoch(self) -> dict[str, Tensor]:
        """Return the epoch's scores over all ranks by their logged names, and begin anew."""
        values = self.scores.compute()
        self.scores.reset()
        self._recent.clear()
        named = {"epoch_loss": "loss", **{n: n for n in ("top1", "top5", "soft_top1")}}
        return {f"train/{name}": values[key] for name, key in named.items() if key in values}

    def save(self, checkpoint: dict[str, Any]) -> None:
        """Put losses and scores into a checkpoint; all ranks call it, and rank 0's has the sum."""
        checkpoint["recent_losses"] = [float(loss) for loss in self._recent]
        with self.scores.sync_context():
            checkpoint["state_dict"].update(self.scores.state_dict(prefix=_PREFIX))

    def load(self, checkpoint: dict[str, Any], device: torch.device, *, rank: int) -> None:
        """Go on with a checkpoint's losses; of its scores, which the module loads, rank 0 alone."""
        self._recent = list(torch.tensor(checkpoint.get("recent_losses", []), device=device))
        none = torch.zeros(0, 1, device=device)  # else the metric would warn of no update
        labels = none if isinstance(self.scores, SoftScores) else none[:, 0].long()
        self.scores.update(none, labels, none.sum())
        if rank > 0:
            states = self.scores.state_dict(prefix=_PREFIX)
            checkpoint["state_dict"].update({n: torch.zeros_like(t) for n, t in states.items()})
