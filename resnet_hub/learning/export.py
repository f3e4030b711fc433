"""A run, or one of its checkpoints, as a net and as a model folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resnet_hub.errors import CorruptFile, InvalidSetting
from resnet_hub.learning.saving.checkpoints import (
    MANIFEST,
    finished_epochs,
    read_training_checkpoint,
)
from resnet_hub.learning.saving.description import described_net
from resnet_hub.learning.saving.run import Run
from resnet_hub.nets.resnet import ResNet
from resnet_hub.paths import expanded
from resnet_hub.weights.card import CARD_NAME, Card, read_card
from resnet_hub.weights.hub import resolve
from resnet_hub.weights.match import matched
from resnet_hub.weights.provenance import Provenance
from resnet_hub.zoo import ARCHITECTURES


def export(source: str | Path, folder: str | Path) -> Card:
    """Write a model folder from a run or a checkpoint, whole or not at all.

    Args:
        source: As :func:`read_net` takes it.
        folder: Where to; an earlier model folder there is replaced.

    Raises:
        DataMissing: No run there, or nothing saved in it.
        CorruptFile: The checkpoint is damaged.
        Diverged: Its net holds numbers that are not finite.
        InvalidSetting: ``folder`` holds something else.
    """
    net, origin = read_net(source)
    return net.save_pretrained(folder, provenance=origin)


def read_net(source: str | Path) -> tuple[ResNet, Provenance]:
    """Return the net of a run, a checkpoint or a model folder, and where it comes from.

    Args:
        source: A run's folder (its exported model, else its best checkpoint, else its newest), a
            checkpoint, a model folder, or the name of published weights.

    Raises:
        DataMissing: No run there, nothing saved in it, or weights that cannot be fetched.
        CorruptFile: The checkpoint, or the model folder, is damaged.
    """
    place = expanded(source)
    if not place.exists() and str(source).partition(".")[0] in ARCHITECTURES:
        place = resolve(str(source))
    for folder in (place / "model", place):
        if (folder / CARD_NAME).is_file():
            return ResNet.from_pretrained(folder), read_card(folder).provenance
    alone = place.is_file() or (place / MANIFEST).is_file()
    path = place if alone else Run.find(place).chosen()
    content = read_training_checkpoint(path)
    return trained_net(content, path), _origin(content, path)


def trained_net(content: dict[str, Any], path: Path) -> ResNet:
    """Return the net that a checkpoint holds: the averaged one, if there is one.

    Args:
        content: The checkpoint.
        path: Its file, for messages.

    Raises:
        CorruptFile: It does not say, or not rightly, what net it holds.
        WeightsMismatch: Its tensors do not fit that net.
    """
    net, state = described_net(content, path), content["state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        raise CorruptFile(f"{path}: its state_dict holds no tensors by their names")
    averaged = "averaged.module."
    prefix = averaged if any(name.startswith(averaged) for name in state) else "net."
    tensors = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
    net.load_state_dict(matched(tensors, net.state_dict(), str(path)), assign=True)
    return net.eval()


def _origin(content: Mapping[str, Any], path: Path) -> Provenance:
    recipe = content.get("recipe")
    try:
        return Provenance(
            source=f"checkpoint {path}",
            recipe=recipe,
            seed=recipe.get("seed") if isinstance(recipe, Mapping) else None,
            epochs=finished_epochs(content),
        )
    except InvalidSetting as error:
        raise CorruptFile(f"{path}: what it says of its run cannot be ({error})") from error
