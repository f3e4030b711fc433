"""By what a recipe's net learns."""

from dataclasses import dataclass
from typing import Literal

from resnet_hub.errors import InvalidSetting
from resnet_hub.learning.settings.checks import check_above, check_at_least, check_fraction


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """The ``optimizer:`` section.

    Attributes:
        name: ``sgd`` (with momentum) or ``adamw``.
        lr: Learning rate at the schedule's factor 1.
        scaled: Whether ``lr`` is for 256 images an optimizer step and grows with them (1706.02677
            §2.1); else it is what it is.
        momentum: SGD's momentum.
        nesterov: Nesterov's form of it.
        betas: AdamW's decay rates.
        weight_decay: Coefficient, before any scaling of the learning rate.
        decay: What decays: ``all``; ``no_norm_bias`` (weights of convolutions and the classifier);
            ``conv_only`` (weights of convolutions, the classifier left out: the paper's, by
            fb.resnet.torch's account).
    """

    name: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.1
    scaled: bool = False
    momentum: float = 0.9
    nesterov: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 1e-4
    decay: Literal["all", "no_norm_bias", "conv_only"] = "all"

    def __post_init__(self) -> None:
        check_above("optimizer.lr", self.lr, 0)
        check_fraction("optimizer.momentum", self.momentum)
        for beta in self.betas:
            check_fraction("optimizer.betas", beta)
        check_at_least("optimizer.weight_decay", self.weight_decay, 0)
        if self.nesterov and (self.name != "sgd" or self.momentum == 0):
            raise InvalidSetting("optimizer.nesterov: needs sgd with a momentum above 0")
