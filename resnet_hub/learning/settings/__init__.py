"""What a recipe says, section by section: frozen, flat, torch-free."""

from resnet_hub.data.settings import DataSettings
from resnet_hub.learning.settings.distillation import DistillationSettings
from resnet_hub.learning.settings.freezing import FreezingSettings
from resnet_hub.learning.settings.mixing import MixingSettings
from resnet_hub.learning.settings.model import CompileMode, ModelSettings
from resnet_hub.learning.settings.net import NetSettings
from resnet_hub.learning.settings.optimizer import OptimizerSettings
from resnet_hub.learning.settings.recipe import LEARNING, Recipe
from resnet_hub.learning.settings.run import (
    CheckpointSettings,
    DistributedSettings,
    ProgressSettings,
)
from resnet_hub.learning.settings.schedule import ScheduleSettings

__all__ = [
    "LEARNING",
    "CheckpointSettings",
    "CompileMode",
    "DataSettings",
    "DistillationSettings",
    "DistributedSettings",
    "FreezingSettings",
    "MixingSettings",
    "ModelSettings",
    "NetSettings",
    "OptimizerSettings",
    "ProgressSettings",
    "Recipe",
    "ScheduleSettings",
]
