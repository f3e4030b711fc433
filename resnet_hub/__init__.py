"""resnet_hub: every ResNet of the papers, from one table, with verified weights.

Importing this package imports no torch; the public names load on first use (PEP 562).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "ARCHITECTURES": "resnet_hub.zoo",
    "Architecture": "resnet_hub.architecture",
    "Cifar10": "resnet_hub.data.cifar",
    "Cifar100": "resnet_hub.data.cifar",
    "Classifier": "resnet_hub.learning.classifier",
    "DataSettings": "resnet_hub.data.settings",
    "Digits": "resnet_hub.data.digits",
    "Folder": "resnet_hub.data.folder",
    "ImageNet": "resnet_hub.data.imagenet",
    "Preprocess": "resnet_hub.preprocess",
    "ResNet": "resnet_hub.nets.resnet",
    "ResNetHubError": "resnet_hub.errors",
}

__all__ = ["__version__", *_HOMES]

if TYPE_CHECKING:
    from resnet_hub.architecture import Architecture as Architecture
    from resnet_hub.data.cifar import Cifar10 as Cifar10
    from resnet_hub.data.cifar import Cifar100 as Cifar100
    from resnet_hub.data.digits import Digits as Digits
    from resnet_hub.data.folder import Folder as Folder
    from resnet_hub.data.imagenet import ImageNet as ImageNet
    from resnet_hub.data.settings import DataSettings as DataSettings
    from resnet_hub.errors import ResNetHubError as ResNetHubError
    from resnet_hub.learning.classifier import Classifier as Classifier
    from resnet_hub.nets.resnet import ResNet as ResNet
    from resnet_hub.preprocess import Preprocess as Preprocess
    from resnet_hub.zoo import ARCHITECTURES as ARCHITECTURES


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'resnet_hub' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
