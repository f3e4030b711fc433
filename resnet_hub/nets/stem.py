"""What comes before the first stage: convolutions on the image, and the pooling after them."""

from itertools import pairwise

from torch import nn

from resnet_hub.architecture import Architecture
from resnet_hub.nets.layers import BatchNorm2d, convolution
from resnet_hub.nets.pooling import AveragePool, BlurPool


def stem(architecture: Architecture) -> nn.Module:
    """Return the convolutions: one, or three with norm and activation between them.

    They map ``(N, in_channels, H, W)`` to ``(N, stem_channels[-1], H', W')``, with ⌈H/2⌉ for H' but
    for a CIFAR stem, which keeps the size.
    """
    first, *rest = architecture.stem_channels
    if not rest:
        kernel, stride = (3, 1) if architecture.stem == "cifar" else (7, 2)
        return convolution(architecture.in_channels, first, kernel, stride=stride)
    layers: list[nn.Module] = [convolution(architecture.in_channels, first, 3, stride=2)]
    for inputs, outputs in pairwise((first, *rest)):
        layers += [BatchNorm2d(inputs), nn.ReLU(inplace=True), convolution(inputs, outputs, 3)]
    return nn.Sequential(*layers)


def stem_pool(architecture: Architecture) -> nn.Module:
    """Return what halves an ImageNet stem's map; an identity after a CIFAR stem."""
    if architecture.stem == "cifar":
        return nn.Identity()
    if architecture.stem_pool == "convolution":
        channels = architecture.stem_channels[-1]
        return nn.Sequential(
            convolution(channels, channels, 3, stride=2),
            BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )
    if architecture.antialias == "average":
        return AveragePool()
    if architecture.antialias == "blur":
        return nn.Sequential(nn.MaxPool2d(3, 1, 1), BlurPool())
    return nn.MaxPool2d(3, 2, 1)
