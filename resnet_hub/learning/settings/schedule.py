"""How a recipe's learning rate goes on."""

from dataclasses import dataclass
from typing import Literal

from resnet_hub.errors import InvalidSetting
from resnet_hub.learning.settings.checks import check_above, check_at_least, check_fraction


@dataclass(frozen=True, kw_only=True)
class ScheduleSettings:
    """The ``schedule:`` section: the learning rate's factor over the run, step by step.

    Attributes:
        name: ``constant``; ``multistep`` (times ``gamma`` at each milestone); ``cosine`` (half a
            cosine from 1 to ``floor``, 1608.03983); ``onecycle`` (straight up over the warm-up,
            straight down to ``floor``, 1708.07120).
        unit: Of ``milestones`` and ``warmup``: ``epochs`` or ``iterations`` (optimizer steps).
        milestones: When ``multistep`` steps.
        gamma: Factor of each of its steps.
        warmup: Length of the warm-up.
        warmup_shape: ``linear`` from ``warmup_factor`` to 1, or ``constant`` at it.
        warmup_factor: Factor that the warm-up begins with.
        warmup_until_error: Instead of a ``warmup`` of known length: stay at ``warmup_factor`` until
            the running epoch's training error, a fraction, is below this, and then never again.
            It is looked at after every 50th step of an epoch and at the epoch's end. Milestones
            count from the run's beginning all the same (1512.03385 §4.2).
        floor: Factor at the end of ``cosine`` and ``onecycle``.
    """

    name: Literal["constant", "multistep", "cosine", "onecycle"] = "constant"
    unit: Literal["epochs", "iterations"] = "epochs"
    milestones: tuple[float, ...] = ()
    gamma: float = 0.1
    warmup: float = 0.0
    warmup_shape: Literal["linear", "constant"] = "linear"
    warmup_factor: float = 0.01
    warmup_until_error: float | None = None
    floor: float = 0.0

    def __post_init__(self) -> None:
        if list(self.milestones) != sorted(self.milestones):
            raise InvalidSetting("schedule.milestones: must rise")
        if self.name == "multistep" and not self.milestones:
            raise InvalidSetting("schedule.milestones: multistep needs at least one")
        for milestone in self.milestones:
            check_above("schedule.milestones", milestone, 0)
        check_above("schedule.gamma", self.gamma, 0)
        check_at_least("schedule.warmup", self.warmup, 0)
        if self.warmup_until_error is not None:
            check_fraction("schedule.warmup_until_error", self.warmup_until_error)
            if self.warmup or self.name not in ("constant", "multistep"):
                raise InvalidSetting(
                    "schedule.warmup_until_error: needs constant or multistep, and a warmup of 0"
                )
        for name in ("warmup_factor", "floor"):
            check_fraction(f"schedule.{name}", getattr(self, name))
