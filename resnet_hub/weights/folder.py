"""Model folders: weights, card and README, read and written whole."""

from dataclasses import replace
from pathlib import Path

from torch import Tensor

from resnet_hub.errors import CorruptFile, Diverged
from resnet_hub.paths import expanded
from resnet_hub.weights.card import CARD_NAME, FILES, README_NAME, WEIGHTS_NAME, Card, read_card
from resnet_hub.weights.match import listed, matched
from resnet_hub.weights.readme import write_readme
from resnet_hub.weights.shapes import expected_tensors
from resnet_hub.weights.store import (
    read_tensors,
    sha256_of,
    write_folder,
    write_tensors,
    write_text,
)


def read_folder(folder: Path) -> tuple[Card, dict[str, Tensor], Path]:
    """Read a model folder, its weights checked against the digest in its card.

    Returns:
        The card, the tensors (memory-mapped, copy-on-write), and the weights' path.

    Raises:
        CorruptFile: It is no model folder, or a file of it is damaged.
    """
    card, path = read_card(folder), folder / WEIGHTS_NAME
    return card, read_tensors(path, sha256=card.provenance.sha256), path


def write_model(folder: str | Path, card: Card, tensors: dict[str, Tensor]) -> Card:
    """Write a model folder whole or not at all: weights, card, README.

    Args:
        folder: Where; an earlier model folder there is replaced.
        card: What it holds; the weights' digest is filled in.
        tensors: The net's state dict.

    Returns:
        The card as written.

    Raises:
        InvalidSetting: ``folder`` holds something that is no model folder, or the card is too long.
        Diverged: A tensor holds numbers that are not finite.
        ResNetHubError: The disk refused.
    """
    folder, written = expanded(folder), card

    def fill(temporary: Path) -> None:
        nonlocal written
        written = fill_folder(temporary, card, tensors, uses=str(folder))

    write_folder(folder, fill, names=FILES)
    return written


def fill_folder(folder: Path, card: Card, tensors: dict[str, Tensor], *, uses: str) -> Card:
    """Write the files of a model folder into an empty one that appears whole later.

    Args:
        folder: The empty folder.
        card: What it will hold; the weights' digest is filled in.
        tensors: The net's state dict.
        uses: What ``from_pretrained`` will call it.

    Returns:
        The card as written.

    Raises:
        InvalidSetting: The card is too long.
        Diverged: A tensor holds numbers that are not finite.
        ResNetHubError: The disk refused.
    """
    _check_finite(uses, card, tensors)
    write_tensors(folder / WEIGHTS_NAME, tensors)
    digest = sha256_of(folder / WEIGHTS_NAME)
    written = replace(card, provenance=replace(card.provenance, sha256=digest))
    write_text(folder / CARD_NAME, written.to_json())
    write_text(folder / README_NAME, write_readme(written, uses))
    return written


def rewrite_card(folder: Path, card: Card) -> None:
    """Replace a model folder's card, and its README by it; the weights stay untouched.

    Raises:
        InvalidSetting: The card is too long.
        ResNetHubError: The disk refused.
    """
    write_text(folder / CARD_NAME, card.to_json())
    write_text(folder / README_NAME, write_readme(card, str(folder)))


def check_folder(folder: Path) -> Card:
    """Return a model folder's card after checking all of it: hash, tensors and README.

    Raises:
        CorruptFile: It is no model folder, or a file of it is missing or damaged.
        WeightsMismatch: The tensors are not those of the card's architecture.
    """
    card, tensors, path = read_folder(folder)
    matched(tensors, expected_tensors(card.architecture), str(path))
    if not (folder / README_NAME).is_file():
        raise CorruptFile(f"{folder}: its {README_NAME} is missing")
    return card


def _check_finite(where: str, card: Card, tensors: dict[str, Tensor]) -> None:
    floats = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
    source = f"; they are of {card.provenance.source}" if card.provenance.source else ""
    if names := [name for name, tensor in floats.items() if not tensor.float().isfinite().all()]:
        raise Diverged(
            f"{where}: not written, numbers of {listed(names)} are not finite "
            f"(has the training diverged?){source}"
        )
    variances = [name for name in floats if name.endswith("running_var")]
    if names := [name for name in variances if (floats[name] < 0).any()]:
        raise Diverged(f"{where}: not written, {listed(names)} holds variances below 0{source}")
