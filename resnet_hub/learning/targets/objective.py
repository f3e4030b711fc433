"""What training makes small: the loss of a batch's logits against its targets."""

from torch import Tensor
from torch.nn import functional as F

from resnet_hub.learning.settings import ModelSettings
from resnet_hub.learning.targets.mixing import one_hot


def training_loss(
    logits: Tensor, targets: Tensor, settings: ModelSettings, weights: Tensor | None = None
) -> Tensor:
    """Return the batch's mean loss, a scalar.

    Smoothing gives each class its even share of ``label_smoothing`` and leaves the targets the
    rest. timm smooths labels before it mixes them, torchvision their mixture in its loss; as both
    steps are linear, the targets are the same.

    Weights enter a cross-entropy as torch's: each class's term has its own, smoothing's part too.
    A binary cross-entropy has the weight of its image's class, of a mixture the mean by its shares
    (1901.05555 §4.2): a class's own term would be weighted for and against it alike. Torch divides
    by the weights of labels, but by the number of images where targets are a mixture; here it is
    the weights of either, and the targets of one label give that label's loss.

    Args:
        logits: ``(N, classes)``.
        targets: int64 labels ``(N,)``, or float ``(N, classes)`` whose rows sum to 1.
        settings: The loss, its smoothing and threshold.
        weights: float32 ``(classes,)``, already divided by their mean over the step's images;
            ``None``: all classes count alike.
    """
    smoothing = settings.label_smoothing
    if settings.loss == "cross_entropy":
        if weights is None:
            return F.cross_entropy(logits, targets, label_smoothing=smoothing)
        total = F.cross_entropy(
            logits.float(), targets, weights, label_smoothing=smoothing, reduction="sum"
        )
        return total / len(logits)
    if targets.dim() == 1:
        targets = one_hot(targets, logits.shape[1])
    return binary_cross_entropy(
        logits,
        targets * (1 - smoothing) + smoothing / logits.shape[1],
        threshold=settings.target_threshold,
        sums=settings.bce_sum,
        weights=None if weights is None else targets @ weights,
    )


def binary_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    *,
    threshold: float | None = None,
    sums: bool = False,
    weights: Tensor | None = None,
) -> Tensor:
    """Return the mean over the images of their classes' binary cross-entropies (2110.00476).

    As timm's ``BinaryCrossEntropy`` takes dense targets.

    Args:
        logits: ``(N, classes)``.
        targets: float ``(N, classes)`` in [0, 1].
        threshold: Targets above it become 1, all others 0; ``None`` leaves them as they are.
        sums: Sum over the classes instead of their mean.
        weights: float ``(N,)`` of the images; ``None``: all count alike.
    """
    if threshold is not None:
        targets = (targets > threshold).to(targets.dtype)
    losses = F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none")
    if weights is not None:
        losses = losses * weights[:, None]
    return losses.sum(1).mean() if sums else losses.mean()
