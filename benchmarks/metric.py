"""A step's scores by our one metric, against torchmetrics' own for top-1 and top-5.

Updates alone, of logits of 128 images and ten classes, and of 1,000 classes; CPU time of one, one
thread. `by hand` counts with bare torch, as one would without a metric: the least there is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import turns
from turns import Figures, Row

if TYPE_CHECKING:
    from torch import Tensor

    Update = Callable[[Tensor, Tensor, Tensor], None]

CLASSES = (10, 1000)
_UPDATES = 300


def ours() -> Figures:
    """Update ``Scores``, which counts a loss as well."""
    from resnet_hub.metrics import Scores

    def made(classes: int) -> Update:
        scores = Scores()
        return lambda logits, labels, loss: scores.update(logits, labels, loss)

    return updated(made)


def torchmetrics() -> Figures:
    """Update two of torchmetrics' accuracies."""
    from torchmetrics.classification import MulticlassAccuracy

    def made(classes: int) -> Update:
        top1 = MulticlassAccuracy(classes, average="micro")
        top5 = MulticlassAccuracy(classes, average="micro", top_k=5)

        def update(logits: Tensor, labels: Tensor, loss: Tensor) -> None:
            top1.update(logits, labels)
            top5.update(logits, labels)

        return update

    return updated(made)


def by_hand() -> Figures:
    """Count by hand."""
    import torch

    def made(classes: int) -> Update:
        hits, losses = torch.zeros(2, dtype=torch.int64), torch.zeros((), dtype=torch.float64)

        def update(logits: Tensor, labels: Tensor, loss: Tensor) -> None:
            ranked = (logits.topk(5, dim=1).indices == labels[:, None]).sum(0)
            hits.add_(torch.stack((ranked[0], ranked.sum())))
            losses.add_(loss)

        return update

    return updated(made)


def updated(made: Callable[[int], Update]) -> Figures:
    """Return the CPU seconds of an update, by the number of classes."""
    import torch

    torch.set_num_threads(1)

    def some(update: Update, logits: Tensor, labels: Tensor, loss: Tensor) -> None:
        for _ in range(_UPDATES):
            update(logits, labels, loss)

    figures = {}
    for classes in CLASSES:
        given = (torch.randn(128, classes), torch.randint(classes, (128,)), torch.tensor(1.0))
        work = partial(some, made(classes), *given)
        figures[str(classes)] = turns.cpu_seconds(work, repeats=7) / _UPDATES
    return figures


def rows(found: dict[str, Figures]) -> list[Row]:
    """Return our update as a part of torchmetrics'."""
    own, theirs, bare = (found[name] for name in CANDIDATES)
    table = []
    for classes in map(str, CLASSES):
        note = f"{1000 * own[classes]:.3f} of {1000 * theirs[classes]:.3f} ms"
        ratio = own[classes] / theirs[classes]
        what = f"one update over torchmetrics' two, {int(classes):,} classes"
        table.append(Row(what, ratio, 0.4, "lower", note))
    ten = str(CLASSES[0])
    note = f"{1000 * own[ten]:.3f} over {1000 * bare[ten]:.3f} ms"
    return [*table, Row("the same over counting by hand", own[ten] / bare[ten], 1.7, "lower", note)]


CANDIDATES = {"resnet_hub": ours, "torchmetrics": torchmetrics, "by hand": by_hand}

if __name__ == "__main__":
    turns.main(__file__, CANDIDATES, rows)
