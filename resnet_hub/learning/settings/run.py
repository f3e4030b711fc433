"""What concerns a run rather than its numbers."""

from dataclasses import dataclass

from resnet_hub.learning.settings.checks import check_above, check_at_least


@dataclass(frozen=True, kw_only=True)
class CheckpointSettings:
    """The ``checkpoint:`` section: when training is saved; whichever comes first counts.

    A run that is stopped by a signal is saved then, and every run at its end.

    Attributes:
        every_epochs: Epochs between two checkpoints; ``None`` saves at no epoch's end.
        every_steps: Optimizer steps between two.
        every_minutes: Minutes between two.
        keep: How many of the newest stay on disk.
    """

    every_epochs: int | None = 1
    every_steps: int | None = None
    every_minutes: float | None = None
    keep: int = 2

    def __post_init__(self) -> None:
        for name in ("every_epochs", "every_steps"):
            if (value := getattr(self, name)) is not None:
                check_at_least(f"checkpoint.{name}", value, 1)
        if self.every_minutes is not None:
            check_above("checkpoint.every_minutes", self.every_minutes, 0)
        check_at_least("checkpoint.keep", self.keep, 2)


@dataclass(frozen=True, kw_only=True)
class DistributedSettings:
    """The ``distributed:`` section: what several processes of a run owe each other.

    Attributes:
        timeout: Seconds after which a process that does not answer ends the others.
    """

    timeout: float = 600.0

    def __post_init__(self) -> None:
        check_above("distributed.timeout", self.timeout, 0)


@dataclass(frozen=True, kw_only=True)
class ProgressSettings:
    """The ``progress:`` section: what is told of a run while it goes on.

    Attributes:
        heartbeat: Seconds without a line after which a log that is no terminal gets one at the
            next batch; 0 leaves it with a line an epoch.
    """

    heartbeat: float = 60.0

    def __post_init__(self) -> None:
        check_at_least("progress.heartbeat", self.heartbeat, 0)
