"""Nets that choose among some of their classes alone, where a test set has no others."""

from dataclasses import replace

import torch

from resnet_hub.data.imagenet_tests import ImageNetTest
from resnet_hub.data.module import DataModule
from resnet_hub.errors import InvalidSetting
from resnet_hub.labels import imagenet_classes
from resnet_hub.nets.resnet import ResNet


def answering(net: ResNet, data: DataModule) -> ResNet:
    """Return the net that answers a data set's images: the net itself, or with a part of its head.

    Of ImageNet-A and -R the logits are those of the classes that the set has, as its authors
    measure. What is left out of the head is as good as a logit of minus infinity.

    Args:
        net: The net; it stays as it is, and shares its tensors with what is returned.
        data: Opened.

    Raises:
        InvalidSetting: Such a set, and a net whose classes are not ImageNet's.
    """
    if not isinstance(data, ImageNetTest) or data.outputs is None:
        return net
    names = tuple(imagenet_classes().values())
    if net.architecture.classes != len(names) or net.labels not in (None, names):
        raise InvalidSetting(
            f"net: its {net.architecture.classes} classes are not ImageNet's 1,000, "
            f"{len(data.outputs)} of which {type(data).__name__} has"
        )
    with torch.device("meta"):
        part = ResNet(replace(net.architecture, classes=len(data.outputs)))
    tensors = dict(net.state_dict())
    for name in ("fc.weight", "fc.bias"):
        tensors[name] = tensors[name][list(data.outputs)]
    part.load_state_dict(tensors, assign=True)
    part.preprocess, part.labels = net.preprocess, tuple(data.labels)
    return part.train(net.training)
