"""How the cost of a training step grows with depth, width, batch, image size and workers.

Each is grown alone, from ResNet-20 with 16 images of 32 pixels, or ResNet-18's form at 64 pixels:
CPU seconds of a step in bfloat16, channels last, one thread. Workers read small JPEGs; told is the
wall clock of an image, which falls as long as there are cores for them. What grows in proportion
has the same figure in the last column, the cost of one unit of what was grown. Beyond the table
stand ratios: how far a cost is from growing in proportion.
"""

import os
from pathlib import Path

import turns
from turns import Figures, Row

DEPTHS = (20, 56, 110, 1202)
WIDTHS = (16, 32, 64)
BATCHES = (8, 32, 128)
SIDES = (32, 64, 128)
WORKERS = (0, 1, 2)
_PICTURES = 512


def prepare(folder: Path) -> None:
    """Write JPEGs of blurred noise, in two classes."""
    import numpy as np
    from PIL import Image

    draw = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("one", "two"):
            (folder / split / name).mkdir(parents=True)
    for number in range(_PICTURES):
        small = Image.fromarray(draw.integers(0, 256, (24, 24, 3), np.uint8))
        path = folder / "train" / ("one", "two")[number % 2] / f"{number}.jpg"
        small.resize((192, 192)).save(path)
    for name in ("one", "two"):
        small.resize((192, 192)).save(folder / "val" / name / "0.jpg")


def step(net: str, *, width: int = 16, batch: int = 16, side: int = 32) -> float:
    """Return the CPU seconds of a step."""
    from dataclasses import replace

    import torch
    from torch.nn import functional as F

    from resnet_hub import ARCHITECTURES, ResNet

    torch.set_num_threads(1)
    layout = torch.channels_last
    architecture = replace(ARCHITECTURES[net].architecture, width=width)
    own = ResNet(architecture).train().to(memory_format=layout)
    optimizer = torch.optim.SGD(own.parameters(), 0.1, momentum=0.9)
    images = torch.randn(batch, 3, side, side).to(memory_format=layout)
    labels = torch.zeros(batch, dtype=torch.long)

    def once() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(own(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return turns.cpu_seconds(once, repeats=1 if net == "cifar_resnet1202" else 3)


def depth() -> Figures:
    """Step CIFAR's nets of several depths."""
    return {str(n): step(f"cifar_resnet{n}", batch=8) for n in DEPTHS}


def width() -> Figures:
    """Step ResNet-20 of several widths."""
    return {str(n): step("cifar_resnet20", width=n) for n in WIDTHS}


def batch() -> Figures:
    """Step ResNet-20 on several images at once."""
    return {str(n): step("cifar_resnet20", batch=n) for n in BATCHES}


def side() -> Figures:
    """Step ResNet-20 on images of several sizes."""
    return {str(n): step("cifar_resnet20", side=n, batch=8) for n in SIDES}


def workers() -> Figures:
    """Read JPEGs by several processes."""
    from time import perf_counter

    from resnet_hub.data.folder import Folder
    from resnet_hub.data.settings import DataSettings

    figures = {}
    for count in WORKERS:
        settings = DataSettings(
            name="Folder", root=str(turns.folder()), batch_size=32, workers=count, size=128
        )
        data = Folder(settings)
        loader = data.open().train_dataloader()
        list(loader)  # workers start, and live on
        begun = perf_counter()
        list(loader)
        figures[str(count)] = (perf_counter() - begun) / _PICTURES
    return figures


def rows(found: dict[str, Figures]) -> list[Row]:
    """Print the table, and return how far each is from growing in proportion."""
    told = {
        "depth": ("layers", lambda n: n),
        "width": ("width, squared", lambda n: n**2),
        "batch": ("images", lambda n: n),
        "side": ("pixels", lambda n: n**2),
    }
    table = []
    print(f"{'grown':8} {'to':>6} {'ms':>10}   µs a unit of it")
    for name, (unit, size) in told.items():
        costs = {int(n): seconds for n, seconds in found[name].items()}
        for n, seconds in costs.items():
            each = 1e6 * seconds / size(n)
            print(f"{name:8} {n:>6} {1000 * seconds:>10.2f}   {each:,.2f} ({unit})")
        first, last = min(costs), max(costs)
        grown = (costs[last] / size(last)) / (costs[first] / size(first))
        what = f"a step's cost by {unit}, {last} over {first} ({name})"
        table.append(Row(what, grown, None, "lower"))
    for n, seconds in found["workers"].items():
        print(f"{'workers':8} {n:>6} {1000 * seconds:>10.2f}   an image, wall clock")
    reading = found["workers"]
    note = f"{os.cpu_count()} cores"
    for n in WORKERS[1:]:
        ratio = reading["0"] / reading[str(n)]
        table.append(Row(f"images a second, {n} workers over none", ratio, None, note=note))
    return table


CANDIDATES = {"depth": depth, "width": width, "batch": batch, "side": side, "workers": workers}

if __name__ == "__main__":
    turns.main(__file__, CANDIDATES, rows, turns=1, prepare=prepare)
