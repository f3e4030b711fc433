"""How a recipe mixes the images and labels of a training batch."""

from dataclasses import dataclass
from typing import Literal

from resnet_hub.learning.settings.checks import check_at_least, check_share


@dataclass(frozen=True, kw_only=True)
class MixingSettings:
    """The ``mixing:`` section: mixup, CutMix, or one of the two for each batch.

    A batch is mixed with itself in another order, by one λ drawn from Beta(a, a).

    Attributes:
        mixup: The a of mixup (1710.09412 §2); 0 leaves mixup out.
        cutmix: The a of CutMix (1905.04899 §3.1); 0 leaves CutMix out.
        probability: Share of the batches that are mixed at all.
        cutmix_share: With both, the share of the mixed batches that CutMix takes: timm's
            ``switch_prob``. A half is torchvision's ``RandomChoice`` of the two.
        partner: Image i's partner: ``flip``, image n - 1 - i (timm), or ``roll``, image i - 1
            (torchvision).
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    probability: float = 1.0
    cutmix_share: float = 0.5
    partner: Literal["flip", "roll"] = "flip"

    def __post_init__(self) -> None:
        for name in ("mixup", "cutmix"):
            check_at_least(f"mixing.{name}", getattr(self, name), 0)
        for name in ("probability", "cutmix_share"):
            check_share(f"mixing.{name}", getattr(self, name))

    @property
    def on(self) -> bool:
        """Whether any batch may be mixed."""
        return self.probability > 0 and (self.mixup > 0 or self.cutmix > 0)
