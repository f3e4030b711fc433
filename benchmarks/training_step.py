"""A training step on the CPU as recipes take it, bfloat16 and channels last, against plain float32.

Forward and backward pass, and SGD's step, of random images of the data's size. Median CPU time of a
step, one thread; ResNet-20 is that of the paper's CIFAR section, ResNet-50 torchvision's.
"""

import turns
from turns import Figures, Row

CASES = {
    # net: images, side, classes
    "cifar_resnet20": (128, 32, 10),
    "resnet50": (8, 224, 1000),
}


def cpu_step(name: str, batch: int, side: int, *, fast: bool, repeats: int = 5) -> float:
    """Return the CPU seconds of a step, in a recipe's precision and layout or in torch's own."""
    import torch
    from torch.nn import functional as F

    from resnet_hub import ResNet

    torch.set_num_threads(1)
    layout = torch.channels_last if fast else torch.contiguous_format
    net = ResNet(name).train().to(memory_format=layout)
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    images = torch.randn(batch, 3, side, side).to(memory_format=layout)
    labels = torch.randint(net.architecture.classes, (batch,))

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            loss = F.cross_entropy(net(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return turns.cpu_seconds(step, repeats=repeats, warm=2)


def ours() -> Figures:
    """Step as recipes do."""
    return {name: cpu_step(name, *CASES[name][:2], fast=True) for name in CASES}
