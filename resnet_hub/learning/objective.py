"""What training makes small: the loss of a batch's logits against its targets."""

from torch import Tensor
from torch.nn import functional as F

from resnet_hub.learning.mixing import one_hot
from resnet_hub.learning.settings import ModelSettings


def training_loss(logits: Tensor, targets: Tensor, settings: ModelSettings) -> Tensor:
    """Return the batch's mean loss, a scalar.

    Smoothing gives each class its even share of ``label_smoothing`` and leaves the targets the
    rest. timm smooths labels before it mixes them, torchvision their mixture in its loss; as both
    steps are linear, the targets are the same.

    Args:
        logits: ``(N, classes)``.
        targets: int64 labels ``(N,)``, or float ``(N, classes)`` whose rows sum to 1.
        settings: The loss, its smoothing and threshold.
    """
    if settings.loss == "cross_entropy":
        return F.cross_entropy(logits, targets, label_smoothing=settings.label_smoothing)
    if targets.dim() == 1:
        targets = one_hot(targets, logits.shape[1])
    return binary_cross_entropy(
        logits,
        targets * (1 - settings.label_smoothing) + settings.label_smoothing / logits.shape[1],
        threshold=settings.target_threshold,
        sums=settings.bce_sum,
    )


def binary_cross_entropy(
    logits: Tensor, targets: Tensor, *, threshold: float | None = None, sums: bool = False
) -> Tensor:
    """Return the mean over the images of their classes' binary cross-entropies (2110.00476).

    As timm's ``BinaryCrossEntropy`` takes dense targets.

    Args:
        logits: ``(N, classes)``.
        targets: float ``(N, classes)`` in [0, 1].
        threshold: Targets above it become 1, all others 0; ``None`` leaves them as they are.
        sums: Sum over the classes instead of their mean.
    """
    if threshold is not None:
        targets = (targets > threshold).to(targets.dtype)
    losses = F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none")
    return losses.sum(1).mean() if sums else losses.mean()
