"""What writing a checkpoint costs a training: its time as a share of an epoch's.

Usage: python benchmarks/checkpoints.py [TURNS]

Steps and writes take turns; times are medians, by the wall clock, as both wait for something. Each
write is followed by the reading that verifies it, as in a run.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from resnet_hub.learning.saving.checkpoints import verify, write_checkpoint
from resnet_hub.nets.resnet import ResNet

CASES = (
    # net, batch, image's side, classes, steps of an epoch in its recipe
    ("cifar_resnet20", 128, 32, 10, 351),
    ("resnet50", 8, 224, 1000, 1_281_167 // 8),
)


def seconds(work: Callable[[], object]) -> float:
    """Return how long some work takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def measure(name: str, batch: int, side: int, classes: int, folder: Path, turns: int) -> tuple:
    """Return the medians of a step and of a write, verified."""
    net = ResNet(name, classes=classes).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9)
    images = torch.randn(batch, 3, side, side).to(memory_format=torch.channels_last)
    labels = torch.randint(classes, (batch,))

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(net(images), labels)
        loss.backward()
        optimizer.step()

    def write() -> None:
        content = {
            "state_dict": net.state_dict(),
            "optimizer_states": [optimizer.state_dict()],
            "global_step": 1,
        }
        write_checkpoint(folder / name, content)
        verify(folder / name)

    step()
    times = [(seconds(step), seconds(write)) for _ in range(turns)]
    return tuple(map(median, zip(*times, strict=True)))


def main() -> None:
    """Print each net's share."""
    turns = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory() as folder:
        for name, batch, side, classes, steps in CASES:
            step, write = measure(name, batch, side, classes, Path(folder), turns)
            print(
                f"{name:15} step of {batch} images {step:.3f} s, write {write:.3f} s: "
                f"{write / (steps * step):.3%} of an epoch of {steps:,} steps"
            )


if __name__ == "__main__":
    main()
