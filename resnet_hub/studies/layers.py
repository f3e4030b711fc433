"""A net's weighted layers in the order of its function, and where each one's response is read."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from resnet_hub.nets.resnet import ResNet

_BESIDE = {"downsample", "se", "gate"}
"""Parts of a unit that are no layers of its branch: shortcuts, attention and gates."""


@dataclass(frozen=True)
class Layer:
    """A convolution of the stem or of a unit's branch.

    Attributes:
        name: Of the convolution, such as ``layer2.0.conv1``.
        kernel: Its side.
        convolution: The convolution.
        answers: What gives the layer's response: the BatchNorm that takes the convolution's output,
            or the convolution itself where none does (before an addition, in pre-activation nets).
    """

    name: str
    kernel: int
    convolution: nn.Conv2d
    answers: nn.Module


def layers_of(net: ResNet) -> list[Layer]:
    """Return a net's layers, the image's first; shortcuts and the classifier are left out.

    Which norm follows which convolution is seen in one pass of an empty image, whatever the form of
    the net's units. Nothing of the net changes.
    """
    convolutions = {
        module: name
        for name, module in net.named_modules()
        if isinstance(module, nn.Conv2d) and not _BESIDE & set(name.split("."))
    }
    given: list[tuple[nn.Conv2d, Tensor]] = []  # held on to, so that no later tensor is one of them
    answers: dict[nn.Conv2d, nn.Module] = {}

    def convolved(module: nn.Module, inputs: Any, output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            given.append((module, output))
            answers[module] = module

    def normalised(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        for convolution, its in given:
            if its is inputs[0]:
                answers[convolution] = module

    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    handles = [module.register_forward_hook(convolved) for module in convolutions]
    handles += [module.register_forward_hook(normalised) for module in norms]
    trained = [module for module in net.modules() if module.training]
    weight = net.fc.weight
    side = 32 if net.architecture.stem == "cifar" else 64
    image = torch.zeros(1, net.architecture.in_channels, side, side, device=weight.device)
    try:
        with torch.no_grad():
            net.eval()(image.to(weight.dtype))
    finally:
        for handle in handles:
            handle.remove()
        for module in trained:
            module.training = True
    return [
        Layer(convolutions[convolution], convolution.kernel_size[0], convolution, module)
        for convolution, module in answers.items()
    ]


@contextmanager
def watched(layers: Sequence[Layer], take: Callable[[int, Tensor], None]) -> Iterator[None]:
    """Give each layer's number and response to a function, as the net runs inside the block.

    An activation may overwrite the response as soon as the function returns.
    """

    def hook(number: int) -> Callable[..., None]:
        return lambda module, inputs, output: take(number, output)

    handles = [layer.answers.register_forward_hook(hook(n)) for n, layer in enumerate(layers)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
