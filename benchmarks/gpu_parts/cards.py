"""What a card can do at most, by its name, and what a net asks of it at least."""

import re
from dataclasses import dataclass

import torch
from torch import nn

from resnet_hub import ResNet
from resnet_hub.counting import multiply_adds


@dataclass(frozen=True)
class Card:
    """A GPU's limits, from its maker's data sheet.

    Attributes:
        flops: Operations a second in bfloat16 on its matrix units, without sparsity.
        bandwidth: Bytes a second to and from its memory.
    """

    flops: float
    bandwidth: float


CARDS: tuple[tuple[str, Card | None], ...] = (
    # words of the name that torch gives; the first line of which it has all counts
    ("H200 NVL", Card(835e12, 4.8e12)),
    ("H200", Card(989e12, 4.8e12)),
    ("H100 NVL", Card(835e12, 3.9e12)),
    ("H100 PCIe", Card(756e12, 2.0e12)),
    ("H100", Card(989e12, 3.35e12)),
    ("A100 PCIe 80GB", Card(312e12, 1.935e12)),
    ("A100 80GB", Card(312e12, 2.039e12)),
    ("A100 40GB", Card(312e12, 1.555e12)),
    ("L40S", Card(362e12, 0.864e12)),
    ("L4", Card(121e12, 0.3e12)),
    ("4090 Laptop", None),
    ("4090 D", None),
    ("RTX 4090", Card(165e12, 1.008e12)),
    ("3090 Ti", None),
    ("3090 Laptop", None),
    ("RTX 3090", Card(71e12, 0.936e12)),
)


def card(name: str) -> Card | None:
    """Return what a card of this name can do; ``None`` of one that is not known."""
    words = set(re.findall(r"\w+", name.upper()))
    matching = (found for parts, found in CARDS if words >= {*parts.upper().split()})
    return next(matching, None)


@dataclass(frozen=True)
class Work:
    """What a net asks for, an image.

    Attributes:
        flops: Operations, two a multiply-add.
        traffic: Bytes to and from memory at least, in two bytes a number: each convolution reads
            its input and writes its output; in training each norm does too, and the backward pass
            moves twice what the forward one does. Weights are left out: a batch shares them.
    """

    flops: float
    traffic: float

    def share(self, images: float, limits: Card) -> tuple[float, float]:
        """Return what so many images a second are of a card's operations and of its bandwidth."""
        return images * self.flops / limits.flops, images * self.traffic / limits.bandwidth


def work(name: str, side: int, *, train: bool) -> Work:
    """Return what a net of the table asks for, an image of ``side`` pixels."""
    with torch.device("meta"):
        net, image = ResNet(name).eval(), torch.empty(1, 3, side, side)
    counted = (nn.Conv2d, nn.BatchNorm2d) if train else (nn.Conv2d,)
    numbers = 0

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal numbers
        numbers += inputs[0].numel() + output.numel()

    for module in net.modules():
        if isinstance(module, counted):
            module.register_forward_hook(count)
    net(image)
    passes = 3 if train else 1
    return Work(2 * passes * multiply_adds(net.architecture, side), 2 * passes * numbers)
