"""Scikit-learn's handwritten digits: real images that need no download (Alpaydin, Kaynak 1998)."""

from importlib import import_module

import torch

from resnet_hub.data.arrays import ArrayDataset, hold_out
from resnet_hub.data.arrays_module import ArrayDataModule
from resnet_hub.data.settings import Augment
from resnet_hub.errors import DataMissing

_TEST = 360
_VAL = 180
_SPLIT_SEED = 0
"""Of the split, which no run's seed changes: scores of different runs are of the same images."""


class Digits(ArrayDataModule):
    """1,797 grey images of 8×8 pixels in 10 classes, embedded in scikit-learn.

    The split is fixed and stratified: 360 images to test, 180 (or ``data.held_out``) to validate,
    the rest to train. The 17 levels of grey, 0 to 16, become 0 to 255. ``data.root`` and
    ``data.download`` are ignored: nothing is read from a folder. ``data.pad`` is best at 1: the
    images are small.

    Raises:
        DataMissing: Scikit-learn is not installed.
    """

    own_augment: Augment = "pad_crop"
    names = tuple("0123456789")
    side = 8
    mean, std = (0.3048,), (0.3754,)  # of the training split; a test measures them again

    def read(self) -> None:
        """Read the set out of scikit-learn; see the class."""
        try:
            load = import_module("sklearn.datasets").load_digits
        except ImportError as error:
            raise DataMissing(
                "Digits: scikit-learn, which holds them, is not installed; pip install "
                '"resnet-hub[quickstart]"'
            ) from error
        digits = load()
        levels = torch.from_numpy(digits.images)
        images = (levels * (255 / 16)).round().to(torch.uint8).unsqueeze(1)
        labels = torch.from_numpy(digits.target).to(torch.int64)
        rest, test = hold_out(labels, _TEST, _SPLIT_SEED)
        held_out = self.settings.held_out
        self.splits = self._splits(
            ArrayDataset(images[rest], labels[rest], self.seed),
            ArrayDataset(images[test], labels[test], self.seed),
            held_out=_VAL if held_out is None else held_out,
            seed=_SPLIT_SEED,
        )
