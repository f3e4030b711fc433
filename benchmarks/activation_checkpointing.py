"""What activation checkpointing costs: the time of a step with it over that of one without.

Usage: python benchmarks/activation_checkpointing.py [TURNS [BATCH]]

Steps with and without take turns on the same net; times are medians of the process's CPU time.
What it saves is measured in tests/nets/test_depth.py.
"""

import sys
import time
from statistics import median

import torch

from resnet_hub.nets.resnet import ResNet

CASES = (
    # net, units a segment, those of its recipe
    ("cifar_resnet110", 4),
    ("cifar_resnet1202", 14),
    ("cifar_preact_resnet1001", 7),
)


def seconds(net: ResNet, images: torch.Tensor, segment: int) -> float:
    """Return the CPU time of a forward and a backward pass."""
    net.checkpoint_blocks = segment
    begun = time.process_time()
    net(images).square().mean().backward()
    return time.process_time() - begun


def main() -> None:
    """Print each net's ratios."""
    turns = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    batch = int(sys.argv[2]) if len(sys.argv) > 2 else 8
    for name, segment in CASES:
        net = ResNet(name).to(memory_format=torch.channels_last).train()
        images = torch.randn(batch, 3, 32, 32).to(memory_format=torch.channels_last)
        seconds(net, images, 0)
        pairs = [(seconds(net, images, 0), seconds(net, images, segment)) for _ in range(turns)]
        without, recomputed = map(median, zip(*pairs, strict=True))
        print(
            f"{name:24} {batch} images, segments of {segment}: step {without:.2f} s, recomputed "
            f"{recomputed:.2f} s, ratio {recomputed / without:.2f}"
        )


if __name__ == "__main__":
    main()
