"""The learning rate's factor at each optimizer step, in closed form."""

import math
from dataclasses import dataclass

from resnet_hub.learning.settings import ScheduleSettings


@dataclass(frozen=True)
class Length:
    """How long a run is.

    Attributes:
        steps: Optimizer steps in all.
        steps_per_epoch: Optimizer steps an epoch.
    """

    steps: int
    steps_per_epoch: int

    @property
    def epochs(self) -> float:
        """Epochs in all."""
        return self.steps / self.steps_per_epoch


def factor(settings: ScheduleSettings, step: int, length: Length) -> float:
    """Return the factor of the learning rate for one optimizer step.

    Args:
        settings: The schedule.
        step: Optimizer steps done before this one.
        length: How long the run is.
    """
    unit = length.steps_per_epoch if settings.unit == "epochs" else 1
    warmup = settings.warmup * unit
    if step < warmup:
        if settings.warmup_shape == "constant":
            return settings.warmup_factor
        return settings.warmup_factor + (1 - settings.warmup_factor) * step / warmup
    if settings.name == "multistep":
        passed = sum(step >= milestone * unit for milestone in settings.milestones)
        return settings.gamma**passed
    done = min(1.0, (step - warmup) / max(length.steps - warmup, 1))
    if settings.name == "cosine":
        return settings.floor + (1 - settings.floor) * (1 + math.cos(math.pi * done)) / 2
    if settings.name == "onecycle":
        return 1 - (1 - settings.floor) * done
    return 1.0
