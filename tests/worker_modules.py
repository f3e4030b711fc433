"""A script: which modules the workers of a loader have imported, however they are started.

``python worker_modules.py spawn Folder path/to/pictures`` prints them, one name a line. Where
workers are started afresh, by ``spawn`` or ``forkserver``, the process itself has opened the data
set as training does, so it has imported all of Lightning; those that are forked have what it has,
so there it opens the files alone.
"""

import sys
from multiprocessing import set_start_method
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import get_worker_info

from resnet_hub.data.batches import Batch, BatchSampler, Selection
from resnet_hub.data.loader import BatchLoader
from resnet_hub.data.settings import DataSettings


class Told:
    """Reads batches of another data set, and gives the names of what is imported then."""

    def __init__(self, read: Any) -> None:
        self.read = read

    def __len__(self) -> int:
        return len(self.read)

    def __getitem__(self, selection: Selection) -> Batch:
        batch: Batch = self.read[selection]
        if get_worker_info() is None or not len(batch.images):
            raise RuntimeError("no worker read this")
        names = "\n".join(sorted(sys.modules)).encode()
        return batch._replace(images=torch.tensor(list(names), dtype=torch.uint8))


def opened(name: str, root: str) -> Any:
    """Return the training split that a run would open."""
    from resnet_hub.data.module import open_data

    return open_data(DataSettings(name=name, root=root, policy="trivial")).split("train")


def read_alone(root: str) -> Any:
    """Return a training split of files, without a data module."""
    from torchvision.transforms import v2

    from resnet_hub.data.crops import resized_crop_flip, with_policy
    from resnet_hub.data.files import ImageFiles

    crop = with_policy(resized_crop_flip(16, interpolation="bilinear"), v2.TrivialAugmentWide())
    samples = [(str(path), 0) for path in Path(root).rglob("*.jpg")]
    return ImageFiles(samples, crop, classes=1, size=16, seed=1)


if __name__ == "__main__":
    method, name, root = sys.argv[1:]
    set_start_method(method)
    dataset = read_alone(root) if method == "fork" else opened(name, root)
    if method != "fork" and "lightning" not in sys.modules:
        raise RuntimeError("this process is no longer like one that trains")
    loader = BatchLoader(Told(dataset), BatchSampler(len(dataset), 2, seed=1), workers=1)
    print(bytes(next(iter(loader)).images.tolist()).decode())
