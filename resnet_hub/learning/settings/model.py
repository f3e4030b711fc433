"""How a recipe's net is run."""

from dataclasses import dataclass
from typing import Literal

from resnet_hub.errors import InvalidSetting
from resnet_hub.learning.settings.checks import check_above, check_at_least, check_fraction

CompileMode = Literal["reduce-overhead", "max-autotune"]
"""Modes of ``torch.compile`` that, on a GPU, run a step as CUDA graphs."""


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """The ``model:`` section: loss and how the net is run.

    Attributes:
        loss: ``cross_entropy`` over the classes, or ``bce``: a binary cross-entropy for each class
            (2110.00476). Evaluation always reports the first.
        label_smoothing: Share of the target spread over all classes, in [0, 1) (1512.00567 §7).
        target_threshold: With ``bce``: targets above it become 1, all others 0; ``None`` leaves
            them as mixing and smoothing made them.
        bce_sum: With ``bce``: sum the classes' losses of an image instead of their mean.
        class_weights: How much each class counts in the training loss: ``none``, all alike;
            ``balanced``, n / (classes · n_c) of its n_c training images; ``effective``, by their
            effective number (1901.05555); or a list of one number above 0 a class, in the order of
            their names' list. Evaluation is never weighted.
        effective_beta: β of ``effective``, in [0, 1): 0 is ``none``, towards 1 it is ``balanced``.
        ema_decay: Decay of the weights' moving average; ``None`` keeps none. The averaged net is
            what is validated as ``val/…`` and exported.
        ema_every: Optimizer steps between two updates of the average.
        channels_last: Keep tensors channels-last in memory (NHWC).
        compile: Compile the net in place: ``true`` as ``torch.compile`` does unasked;
            ``reduce-overhead`` runs CUDA graphs besides, for nets whose layers take the GPU less
            time than the host takes to ask for them; ``max-autotune`` also tries several kernels
            of each kind. Where no compiler works the net runs as it is, and a line says so.
        precise_bn: Training images over which the exported net's BatchNorm statistics are computed
            anew once training has ended; 0 keeps the running ones.
        nonfinite: What a step does whose loss or gradients are not finite: ``stop`` ends the run,
            ``skip`` leaves the step out. Either way it changes nothing that was learnt.
        most_nonfinite: Steps of a run that ``skip`` may leave out; one more ends it.
    """

    loss: Literal["cross_entropy", "bce"] = "cross_entropy"
    label_smoothing: float = 0.0
    target_threshold: float | None = None
    bce_sum: bool = False
    class_weights: Literal["none", "balanced", "effective"] | tuple[float, ...] = "none"
    effective_beta: float = 0.999
    ema_decay: float | None = None
    ema_every: int = 1
    channels_last: bool = True
    compile: bool | CompileMode = False
    precise_bn: int = 0
    nonfinite: Literal["stop", "skip"] = "stop"
    most_nonfinite: int = 10

    def __post_init__(self) -> None:
        check_fraction("model.label_smoothing", self.label_smoothing)
        if self.target_threshold is not None:
            check_fraction("model.target_threshold", self.target_threshold)
        if self.loss != "bce" and (self.target_threshold is not None or self.bce_sum):
            raise InvalidSetting("model.target_threshold, model.bce_sum: need model.loss: bce")
        if not isinstance(self.class_weights, str):
            for weight in self.class_weights:
                check_above("model.class_weights", weight, 0)
        check_fraction("model.effective_beta", self.effective_beta)
        if self.ema_decay is not None:
            check_fraction("model.ema_decay", self.ema_decay)
        check_at_least("model.ema_every", self.ema_every, 1)
        check_at_least("model.precise_bn", self.precise_bn, 0)
        check_at_least("model.most_nonfinite", self.most_nonfinite, 0)
