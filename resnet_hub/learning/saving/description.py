"""What a checkpoint says of its classifier, so that it can be made again from it alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resnet_hub.architecture import Architecture
from resnet_hub.errors import CorruptFile, InvalidSetting
from resnet_hub.learning.saving.checkpoints import read_training_checkpoint
from resnet_hub.learning.settings import LEARNING, Recipe
from resnet_hub.nets.resnet import ResNet
from resnet_hub.preprocess import Preprocess
from resnet_hub.weights.card import Card
from resnet_hub.weights.provenance import Provenance


def description(net: ResNet, recipe: Recipe) -> dict[str, Any]:
    """Return what a checkpoint says of a net and of what it learns by, in JSON's types."""
    settings = recipe.to_dict()
    return {
        "net": {
            "architecture": net.architecture.to_dict(),
            "preprocess": net.preprocess.to_dict(),
            "labels": None if net.labels is None else list(net.labels),
        },
        "settings": {name: settings[name] for name in LEARNING},
    }


def described(path: Path) -> tuple[ResNet, Recipe, dict[str, Tensor]]:
    """Return a checkpoint's net, without numbers, its recipe, and its classifier's tensors.

    Raises:
        CorruptFile: It is damaged, or none.
    """
    content = read_training_checkpoint(path)
    return described_net(content, path), _recipe(content, path), content["state_dict"]


def described_net(content: Mapping[str, Any], path: Path) -> ResNet:
    """Return a net of the kind that a checkpoint holds, on the meta device: without numbers.

    Raises:
        CorruptFile: It does not say, or not rightly, what net it holds.
    """
    if "net" not in content:
        raise CorruptFile(f"{path}: does not say what net it holds; try `resnet-hub convert`")
    own = content["net"]
    try:
        labels = own["labels"]
        card = Card(
            architecture=Architecture.from_dict(own["architecture"]),
            preprocess=Preprocess.from_dict(own["preprocess"]),
            labels=None if labels is None else tuple(labels),
            provenance=Provenance(),
        )
    except (InvalidSetting, KeyError, TypeError, AttributeError, ValueError) as error:
        raise CorruptFile(f"{path}: what it says of its net cannot be ({error})") from error
    with torch.device("meta"):  # whatever size it says: nothing is allocated for it
        net = ResNet(card.architecture)
    net.preprocess, net.labels = card.preprocess, card.labels
    return net


def _recipe(content: Mapping[str, Any], path: Path) -> Recipe:
    if "settings" not in content:
        raise CorruptFile(f"{path}: does not say by what settings it was trained")
    try:
        return Recipe.from_dict(content["settings"])
    except InvalidSetting as error:
        raise CorruptFile(f"{path}: its settings cannot be ({error})") from error
