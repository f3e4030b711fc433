"""The names of the classes of CIFAR and ImageNet, in the order of their labels."""

import csv
from collections.abc import Sequence
from importlib.resources import files

from resnet_hub.errors import InvalidSetting

CIFAR10_LABELS = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)

_CIFAR100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile
cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp
lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake
spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
CIFAR100_LABELS = tuple(_CIFAR100.split())


def imagenet_classes() -> dict[str, str]:
    """Return the name of each of ILSVRC2012's 1,000 classes by its wnid, in the order of labels.

    The order is the official one of the wnids, so the first has label 0. The names are the first
    words of the WordNet synsets, as torchvision has them, and differ from each other (two cranes
    and two maillots are told apart).
    """
    text = files("resnet_hub").joinpath("imagenet_classes.csv").read_text(encoding="utf-8")
    return {row["wnid"]: row["name"] for row in csv.DictReader(text.splitlines())}


def counted(classes: int | Sequence[str] | None) -> tuple[int | None, tuple[str, ...] | None]:
    """Return how many classes are meant, and their names, each where it is told.

    Raises:
        InvalidSetting: Neither a number nor a list of names.
    """
    if classes is None or (isinstance(classes, int) and not isinstance(classes, bool)):
        return classes, None
    if isinstance(classes, Sequence) and not isinstance(classes, str):
        names = tuple(classes)
        if all(isinstance(name, str) for name in names):
            return len(names), names
    raise InvalidSetting(f"classes: {classes!r} is neither a number nor a list of names")
