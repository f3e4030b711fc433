"""By what a recipe's net learns."""

from dataclasses import dataclass
from typing import Literal

from resnet_hub.errors import InvalidSetting
from resnet_hub.learning.settings.checks import check_above, check_at_least, check_fraction


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """The ``optimizer:`` section.

    Attributes:
        name: ``sgd`` (with momentum), ``adamw``, or ``lamb`` (1904.00962).
        lr: Learning rate at the schedule's factor 1.
        scaled: Whether ``lr`` is for 256 images an optimizer step and grows with them (1706.02677
            §2.1); else it is what it is.
        momentum: SGD's momentum.
        nesterov: Nesterov's form of it.
        betas: AdamW's and LAMB's decay rates.
        weight_decay: Coefficient, before any scaling of the learning rate.
        decay: What decays: ``all``; ``no_norm_bias`` (weights of convolutions and the classifier);
            ``conv_only`` (weights of convolutions, the classifier left out: the paper's, by
            fb.resnet.torch's account).
        layer_decay: Each layer learns at this times the rate of the next one, up to the head's
            (1801.06146 §3.2); a layer is the stem, a unit of a stage, or the head.
        head_lr: The head, which may be fresh, learns at this times its rate.
        agc: Bound of a unit's gradient as a share of its weights' norm (2102.06171 §4.1), the head
            left out; ``None`` leaves all as they are. ``trainer.gradient_clip_val`` comes after it.
    """

    name: Literal["sgd", "adamw", "lamb"] = "sgd"
    lr: float = 0.1
    scaled: bool = False
    momentum: float = 0.9
    nesterov: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 1e-4
    decay: Literal["all", "no_norm_bias", "conv_only"] = "all"
    layer_decay: float = 1.0
    head_lr: float = 1.0
    agc: float | None = None

    def __post_init__(self) -> None:
        check_above("optimizer.lr", self.lr, 0)
        check_fraction("optimizer.momentum", self.momentum)
        for beta in self.betas:
            check_fraction("optimizer.betas", beta)
        check_at_least("optimizer.weight_decay", self.weight_decay, 0)
        check_above("optimizer.layer_decay", self.layer_decay, 0)
        check_above("optimizer.head_lr", self.head_lr, 0)
        if self.agc is not None:
            check_above("optimizer.agc", self.agc, 0)
        if self.nesterov and (self.name != "sgd" or self.momentum == 0):
            raise InvalidSetting("optimizer.nesterov: needs sgd with a momentum above 0")
