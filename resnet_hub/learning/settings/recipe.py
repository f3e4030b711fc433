"""A whole recipe, section by section."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any

from resnet_hub.data.settings import DataSettings
from resnet_hub.errors import InvalidSetting
from resnet_hub.learning.settings.distillation import DistillationSettings
from resnet_hub.learning.settings.freezing import FreezingSettings
from resnet_hub.learning.settings.mixing import MixingSettings
from resnet_hub.learning.settings.model import ModelSettings
from resnet_hub.learning.settings.net import NetSettings
from resnet_hub.learning.settings.optimizer import OptimizerSettings
from resnet_hub.learning.settings.run import (
    CheckpointSettings,
    DistributedSettings,
    ProgressSettings,
)
from resnet_hub.learning.settings.schedule import ScheduleSettings

LEARNING = ("seed", "model", "mixing", "distillation", "optimizer", "schedule", "freezing")
"""What a classifier is made by, beside its net: sections, by its arguments' names."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A whole recipe.

    Attributes:
        seed: Key of everything random: first weights, order, augmentation, stochastic depth.
        net: Which net.
        data: Which data, and how it is fed.
        model: Loss and how the net is run.
        mixing: How the images and labels of a batch are mixed.
        distillation: Which teacher it learns from beside the labels.
        optimizer: Optimizer.
        schedule: Learning-rate schedule.
        freezing: What does not learn, and until when.
        checkpoint: When training is saved.
        progress: What is told of it while it goes on.
        distributed: What several processes owe each other.
        trainer: Lightning's ``Trainer`` options, as they are called there.
        callbacks: More callbacks, each ``{class_path, init_args}``.
        logger: More loggers, each ``{class_path, init_args}``; metrics.csv is always written.
    """

    seed: int = 0
    net: NetSettings = field(default_factory=NetSettings)
    data: DataSettings = field(default_factory=DataSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    mixing: MixingSettings = field(default_factory=MixingSettings)
    distillation: DistillationSettings = field(default_factory=DistillationSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    freezing: FreezingSettings = field(default_factory=FreezingSettings)
    checkpoint: CheckpointSettings = field(default_factory=CheckpointSettings)
    progress: ProgressSettings = field(default_factory=ProgressSettings)
    distributed: DistributedSettings = field(default_factory=DistributedSettings)
    trainer: Mapping[str, Any] = field(default_factory=dict)
    callbacks: tuple[Mapping[str, Any], ...] = ()
    logger: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Recipe":
        """Build from :meth:`to_dict`'s form.

        Raises:
            InvalidSetting: A section or a value that no recipe has.
        """
        kinds: dict[str, Any] = {f.name: f.default_factory for f in fields(cls)}
        try:
            values = {name: _tupled(value) for name, value in content.items()}
            sections = {n: kinds[n](**values[n]) for n in values if is_dataclass(kinds[n])}
            return cls(**{**values, **sections})
        except (KeyError, TypeError, AttributeError) as error:
            raise InvalidSetting(f"no recipe ({error})") from error

    def learning(self) -> dict[str, Any]:
        """Return what a classifier is made by, as its arguments."""
        return {name: getattr(self, name) for name in LEARNING}

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types, complete: a recipe that needs no other file."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}


def _plain(value: Any) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _tupled(value: Any) -> Any:
    """Return what JSON holds with the tuples that it was written from."""
    if isinstance(value, Mapping):
        return {name: _tupled(item) for name, item in value.items()}
    return tuple(map(_tupled, value)) if isinstance(value, list) else value
