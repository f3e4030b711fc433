"""A training step on the CPU as recipes take it, bfloat16 and channels last, against plain float32.

Forward and backward pass, and SGD's step, of random images of the data's size. Median CPU time of a
step, one thread; ResNet-20 is that of the paper's CIFAR section, ResNet-50 torchvision's.
"""

import turns
from turns import Figures, Row

CASES = {
    # net: images, side
    "cifar_resnet20": (128, 32),
    "resnet50": (8, 224),
}


def cpu_step(name: str, batch: int, side: int, *, fast: bool, repeats: int = 3) -> float:
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

    return turns.cpu_seconds(step, repeats=repeats, warm=1)


def ours() -> Figures:
    """Step as recipes do."""
    return {name: cpu_step(name, *CASES[name], fast=True) for name in CASES}


def plain() -> Figures:
    """Step as torch does when it is told nothing."""
    return {name: cpu_step(name, *CASES[name], fast=False) for name in CASES}


def rows(found: dict[str, Figures]) -> list[Row]:
    """Return plain steps as multiples of ours."""
    own, theirs = (found[name] for name in CANDIDATES)
    goals = {"cifar_resnet20": 1.6, "resnet50": 2.2}
    return [
        Row(
            f"training step, {name}, {batch} images of {side}",
            theirs[name] / own[name],
            goals[name],
            note=f"{own[name]:.3f} against {theirs[name]:.3f} s of plain float32",
        )
        for name, (batch, side) in CASES.items()
    ]


CANDIDATES = {"resnet_hub": ours, "plain float32": plain}

if __name__ == "__main__":
    turns.main(__file__, CANDIDATES, rows, turns=3)
