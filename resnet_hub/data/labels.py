"""Names of ImageNet's classes."""

import csv
from importlib.resources import files


def imagenet_classes() -> dict[str, str]:
    """Return the name of each of ILSVRC2012's 1,000 classes by its wnid, in the order of labels.

    The order is the official one of the wnids, so the first has label 0. The names are the first
    words of the WordNet synsets, as torchvision has them, and differ from each other (two cranes
    and two maillots are told apart).
    """
    text = files("resnet_hub.data").joinpath("imagenet_classes.csv").read_text(encoding="utf-8")
    return {row["wnid"]: row["name"] for row in csv.DictReader(text.splitlines())}
