"""How a recipe's net is run."""

from dataclasses import dataclass
from typing import Literal

from resnet_hub.learning.settings.checks import check_at_least, check_fraction


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """The ``model:`` section: loss and how the net is run.

    Attributes:
        label_smoothing: Share of the target spread over all classes, in [0, 1) (1512.00567 §7).
        ema_decay: Decay of the weights' moving average; ``None`` keeps none. The averaged net is
            what is validated as ``val/…`` and exported.
        ema_every: Optimizer steps between two updates of the average.
        channels_last: Keep tensors channels-last in memory (NHWC).
        compile: Compile the net in place.
        nonfinite: What a step does whose loss or gradients are not finite: ``stop`` ends the run,
            ``skip`` leaves the step out. Either way it changes nothing that was learnt.
        most_nonfinite: Steps of a run that ``skip`` may leave out; one more ends it.
    """

    label_smoothing: float = 0.0
    ema_decay: float | None = None
    ema_every: int = 1
    channels_last: bool = True
    compile: bool = False
    nonfinite: Literal["stop", "skip"] = "stop"
    most_nonfinite: int = 10

    def __post_init__(self) -> None:
        check_fraction("model.label_smoothing", self.label_smoothing)
        if self.ema_decay is not None:
            check_fraction("model.ema_decay", self.ema_decay)
        check_at_least("model.ema_every", self.ema_every, 1)
        check_at_least("model.most_nonfinite", self.most_nonfinite, 0)
