"""What activation checkpointing saves and costs: ResNet-1202 as its recipe trains it.

Memory an image is how much more the process holds at its peak for each image more in the batch:
what weights and libraries take falls out. With checkpointing freed memory goes back to the system
at once, as `fit` lets it on a CPU. Time is the CPU time of a forward and a backward pass, float32,
channels last, one thread.
"""

import resource
from functools import partial

import turns
from turns import Figures, Row

NET, RECIPE = "cifar_resnet1202", "cifar10_resnet1202"
BATCHES = (4, 12)


def recomputed() -> Figures:
    """Train with the recipe's checkpointing."""
    from resnet_hub.cli.layers import read_flags
    from resnet_hub.cli.recipes import read_recipe
    from resnet_hub.learning.memory import release_at_once

    release_at_once()
    return measured(read_recipe([RECIPE], read_flags(())[0]).net.checkpoint_blocks)


def kept() -> Figures:
    """Train with all activations kept."""
    return measured(0)


def measured(segment: int) -> Figures:
    """Return bytes an image, seconds of a step, and the units of a segment."""
    import torch

    from resnet_hub import ResNet

    torch.set_num_threads(1)
    layout = torch.channels_last
    net = ResNet(NET, checkpoint_blocks=segment).train().to(memory_format=layout)

    def step(images: torch.Tensor) -> None:
        net(images).square().mean().backward()

    peaks, seconds = [], 0.0
    for batch in BATCHES:
        images = torch.randn(batch, 3, 32, 32).to(memory_format=layout)
        seconds = turns.cpu_seconds(partial(step, images), repeats=1)
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    image = (peaks[1] - peaks[0]) / (BATCHES[1] - BATCHES[0])
    return {"image": image, "seconds": seconds, "segment": segment}


def rows(found: dict[str, Figures]) -> list[Row]:
    """Return what checkpointing needs as parts of what is needed without."""
    own, whole = (found[name] for name in CANDIDATES)
    segments = f"segments of {own['segment']:.0f} units"
    megabytes = f"{own['image'] / 1e6:.0f} of {whole['image'] / 1e6:.0f} MB, {segments}"
    seconds = f"{own['seconds']:.2f} over {whole['seconds']:.2f} s, {BATCHES[1]} images"
    return [
        Row(
            "ResNet-1202, memory an image", own["image"] / whole["image"], 0.28, "lower", megabytes
        ),
        Row("its CPU time", own["seconds"] / whole["seconds"], 1.4, "lower", seconds),
    ]


CANDIDATES = {"recomputed": recomputed, "kept": kept}

if __name__ == "__main__":
    turns.main(__file__, CANDIDATES, rows, turns=3)
