"""CIFAR's input, whole batches of bytes at a time, against torchvision's pictures one by one.

What each does for an image of a training epoch: read it, crop it at a random place of its padded
frame, mirror half of them, normalise. Ours draws by keys; `batch_window` is the same bare technique
with torch's generator, without keys, labels or a loader: what is left to gain. The set is made of
noise, whose pixels cost what any pixels do. CPU time, one process, no workers.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import turns
from turns import Figures, Row

if TYPE_CHECKING:
    from torch import Tensor

BATCH, BATCHES = 128, 30


def write_cifar(folder: Path, count: int) -> None:
    """Write a set in CIFAR-10's layout, ``count`` images a file."""
    import numpy as np

    from resnet_hub.data.cifar import Cifar10

    layout = Cifar10.layout
    own = folder / layout.folder
    own.mkdir()
    draw = np.random.default_rng(0)
    for name in (*layout.train, *layout.test):
        images = draw.integers(0, 256, (count, 3072), np.uint8)
        labels = draw.integers(0, 10, count).tolist()
        content = {"data": images, "labels": labels}
        (own / name).write_bytes(pickle.dumps(content, protocol=2))
    for name in layout.meta:
        content = {"label_names": list(Cifar10.names)}
        (own / name).write_bytes(pickle.dumps(content, protocol=2))


def prepare(folder: Path) -> None:
    """Write a set of noise."""
    write_cifar(folder, 1000)


def ours() -> Figures:
    """Take batches of our data module, as `fit` does."""
    import torch

    from resnet_hub.data.cifar import Cifar10
    from resnet_hub.data.settings import DataSettings

    torch.set_num_threads(1)
    settings = DataSettings(
        name="Cifar10", root=str(turns.folder()), batch_size=BATCH, download=False
    )
    data = Cifar10(settings)
    data.open()

    def batches() -> Iterator[Tensor]:
        for batch in data.train_dataloader():
            yield data.prepare(batch, train=True).images

    return taken(batches)


def windows() -> Figures:
    """Take windows of the padded set with one index, as bytes, then normalise."""
    import numpy as np
    import torch
    from torch.nn import functional as F

    from resnet_hub.data.cifar import Cifar10
    from resnet_hub.data.settings import DataSettings

    torch.set_num_threads(1)
    data = Cifar10(DataSettings(name="Cifar10", root=str(turns.folder()), download=False))
    images = data.open().splits["train"].images
    views = F.pad(images, (4,) * 4).unfold(2, 32, 1).unfold(3, 32, 1)
    mean, std = (
        torch.from_numpy(255 * np.array(numbers, np.float32)).view(3, 1, 1)
        for numbers in (data.mean, data.std)
    )

    def batches() -> Iterator[Tensor]:
        order = torch.randperm(len(images))
        for rows in order.split(BATCH):
            down, right = torch.randint(9, (2, len(rows)))
            batch = views[rows, :, down, right]
            mirrored = torch.rand(len(rows), 1, 1, 1) < 0.5
            yield torch.where(mirrored, batch.flip(3), batch).float().sub_(mean).div_(std)

    return taken(batches)


def torchvisions() -> Figures:
    """Take batches as torchvision's CIFAR example does: pictures, transforms, a loader."""
    import torch
    from torch.utils.data import DataLoader
    from torchvision import datasets
    from torchvision import transforms as T

    from resnet_hub.preprocess import CIFAR10_MEAN, CIFAR10_STD

    class Made(datasets.CIFAR10):
        """The set without its checksums, which noise has not."""

        def _check_integrity(self) -> bool:
            return True

        def _load_meta(self) -> None:
            self.classes = []

    torch.set_num_threads(1)
    transform = T.Compose(
        [
            T.RandomCrop(32, padding=4),
            T.RandomHorizontalFlip(),
            T.ToTensor(),
            T.Normalize(CIFAR10_MEAN, CIFAR10_STD),
        ]
    )
    data = Made(str(turns.folder()), transform=transform)

    def batches() -> Iterator[Tensor]:
        for images, _ in DataLoader(data, BATCH, shuffle=True, drop_last=True):
            yield images

    return taken(batches)


def taken(batches: Callable[[], Iterator[Tensor]]) -> Figures:
    """Return the CPU seconds of an image, in the median of some passes of 30 batches."""
    import torch

    # What a net's activations do to the C library's allocator: it keeps memory that is given back.
    torch.ones(6_000_000)

    def some() -> None:
        for images in islice(batches(), BATCHES):
            assert tuple(images.shape) == (BATCH, 3, 32, 32)

    return {"image": turns.cpu_seconds(some, repeats=3) / (BATCH * BATCHES)}


def step() -> Figures:
    """Take steps of ResNet-20, of as many images, in bfloat16, channels last."""
    from training_step import cpu_step

    return {"image": cpu_step("cifar_resnet20", BATCH, 32, fast=True) / BATCH}


def rows(found: dict[str, Figures]) -> list[Row]:
    """Return our images a second as multiples of others', and our share of a training step."""
    own, bare, theirs, whole = (found[name]["image"] for name in CANDIDATES)
    note = f"{1 / own:,.0f} and {1 / theirs:,.0f} images/s a core"
    return [
        Row("CIFAR input over torchvision's CIFAR10 and PIL", theirs / own, 10, note=note),
        Row("the same over `batch_window`", bare / own, 1, note=f"{1 / bare:,.0f} images/s a core"),
        Row(
            "its share of a ResNet-20 step, 128 images, bf16",
            100 * own / whole,
            2,
            "lower",
            f"{1000 * BATCH * own:.2f} of {1000 * BATCH * whole:.1f} ms",
            "%",
        ),
    ]


CANDIDATES = {
    "resnet_hub": ours,
    "batch_window": windows,
    "torchvision": torchvisions,
    "step": step,
}

if __name__ == "__main__":
    turns.main(__file__, CANDIDATES, rows, prepare=prepare)
