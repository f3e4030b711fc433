"""A run, or one of its checkpoints, as a model folder."""

from pathlib import Path
from typing import Any

import torch
import yaml

from resnet_hub.architecture import Architecture
from resnet_hub.errors import CorruptFile, InvalidSetting
from resnet_hub.learning.callbacks import read_training_checkpoint
from resnet_hub.learning.run import Run
from resnet_hub.nets.resnet import ResNet
from resnet_hub.preprocess import Preprocess
from resnet_hub.weights.card import CARD_NAME, Card, Provenance, read_card
from resnet_hub.weights.match import matched


def export(source: Path, folder: Path) -> Card:
    """Write a model folder from a run or a checkpoint, whole or not at all.

    Args:
        source: A run's folder (its exported model, else its best checkpoint, else its last), or a
            checkpoint file.
        folder: Where to; an earlier model folder there is replaced.

    Raises:
        DataMissing: No run there, or nothing saved in it.
        CorruptFile: The checkpoint is damaged.
        InvalidSetting: ``folder`` holds something else.
    """
    if source.is_dir() and (source / "model" / CARD_NAME).is_file():
        net = ResNet.from_pretrained(source / "model")
        return net.save_pretrained(folder, provenance=read_card(source / "model").provenance)
    path = source if source.is_file() else Run.find(source).chosen()
    content = read_training_checkpoint(path)
    recipe, epoch = _recipe_beside(path), content.get("epoch")
    origin = Provenance(
        source=f"checkpoint {path}",
        recipe=recipe,
        seed=recipe.get("seed") if recipe else None,
        epochs=epoch + 1 if isinstance(epoch, int) else None,
    )
    return trained_net(content, path).save_pretrained(folder, provenance=origin)


def trained_net(content: dict[str, Any], path: Path) -> ResNet:
    """Return the net that a checkpoint holds: the averaged one, if there is one.

    Args:
        content: The checkpoint.
        path: Its file, for messages.

    Raises:
        CorruptFile: It does not say, or not rightly, what net it holds.
        WeightsMismatch: Its tensors do not fit that net.
    """
    if "net" not in content:
        raise CorruptFile(f"{path}: does not say what net it holds; try `resnet-hub convert`")
    described, state = content["net"], content["state_dict"]
    try:
        with torch.device("meta"):  # whatever size it says: nothing is allocated for it
            net = ResNet(Architecture.from_dict(described["architecture"]))
        net.preprocess = Preprocess.from_dict(described["preprocess"])
        net.labels = None if described["labels"] is None else tuple(described["labels"])
    except (InvalidSetting, KeyError, TypeError, AttributeError, ValueError) as error:
        raise CorruptFile(f"{path}: what it says of its net cannot be ({error})") from error
    averaged = "averaged.module."
    prefix = averaged if any(name.startswith(averaged) for name in state) else "net."
    tensors = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
    net.load_state_dict(matched(tensors, net.state_dict(), str(path)), assign=True)
    return net.eval()


def _recipe_beside(checkpoint: Path) -> dict[str, Any] | None:
    recipe = Run(checkpoint.parent.parent).recipe
    return yaml.safe_load(recipe.read_text(encoding="utf-8")) if recipe.is_file() else None
