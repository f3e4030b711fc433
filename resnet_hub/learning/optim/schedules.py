"""The learning rate's factor at each optimizer step, in closed form."""

import math
from dataclasses import dataclass

from resnet_hub.errors import InvalidSetting
from resnet_hub.learning.settings import ScheduleSettings

LOOK_EVERY = 50
"""Optimizer steps of an epoch between two looks at its training error."""


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


class WarmUp:
    """Whether a warm-up until the training error is low enough still lasts.

    Attributes:
        ended: Optimizer steps that it lasted; ``None`` as long as it does.

    Args:
        settings: The schedule; without ``warmup_until_error`` there is nothing to look at.
        mixed: Whether batches are mixed, which leaves no training error.

    Raises:
        InvalidSetting: An error that there is not is to be looked at.
    """

    def __init__(self, settings: ScheduleSettings, *, mixed: bool = False) -> None:
        self._bound = settings.warmup_until_error
        if mixed and self._bound is not None:
            raise InvalidSetting(
                "schedule.warmup_until_error: there is no training error under mixing; leave out "
                "mixing, or give schedule.warmup a length"
            )
        self.ended: int | None = None

    def due(self, step: int, *, last: bool) -> bool:
        """Whether to look at the error: on all processes together, as they count the same steps.

        Args:
            step: Optimizer steps of the epoch done.
            last: Whether the epoch has no more.
        """
        return self._bound is not None and self.ended is None and (last or step % LOOK_EVERY == 0)

    def look(self, error: float, *, steps: int) -> None:
        """End the warm-up if the error of all processes, a fraction, is low enough."""
        if self._bound is not None and error < self._bound:
            self.ended = steps


def factor(
    settings: ScheduleSettings, step: int, length: Length, *, warmed: int | None = None
) -> float:
    """Return the factor of the learning rate for one optimizer step.

    Args:
        settings: The schedule.
        step: Optimizer steps done before this one.
        length: How long the run is.
        warmed: Of a schedule with ``warmup_until_error``: what :attr:`WarmUp.ended` says.
    """
    if settings.warmup_until_error is not None and (warmed is None or step < warmed):
        return settings.warmup_factor
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
