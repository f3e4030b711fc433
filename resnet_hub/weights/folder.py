"""Model folders: weights, card and README, read and written whole."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from resnet_hub.errors import CorruptFile, Diverged
from resnet_hub.paths import expanded
from resnet_hub.weights.card import CARD_NAME, FILES, README_NAME, WEIGHTS_NAME, Card, read_card
from resnet_hub.weights.match import listed, matched
from resnet_hub.weights.readme import kept_words, write_readme
from resnet_hub.weights.shapes import expected_tensors
from resnet_hub.weights.store import (
    locked,
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
    try:
        return card, read_tensors(path, sha256=card.provenance.sha256), path
    except CorruptFile:
        if read_card(folder) == card:
            raise
    return read_folder(folder)  # another process put a new one in its place meanwhile


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


def amend_card(folder: Path, change: Callable[[Card], Card]) -> Card:
    """Change a model folder's card, and its README by it; the weights stay untouched.

    Of several processes that do it at once none loses another's change. A README that this package
    did not write stays as it is.

    Args:
        folder: The model folder.
        change: Returns the new card, given the present one.

    Returns:
        The new card.

    Raises:
        CorruptFile: No card there, or one that cannot be read, or a README that is no text.
        InvalidSetting: The card is too long.
        ResNetHubError: The disk refused.
    """
    with locked(folder):
        card = read_card(folder)
        changed = change(card)
        if changed == card:
            return card
        there = (folder / README_NAME).is_file()
        kept = kept_words(read_readme(folder)) if there else ""
        write_text(folder / CARD_NAME, changed.to_json())
        if kept is not None:
            write_text(folder / README_NAME, write_readme(changed, str(folder), kept=kept))
    return changed


def check_folder(folder: Path) -> Card:
    """Return a model folder's card after checking all of it: hash, tensors and README.

    Raises:
        CorruptFile: It is no model folder, or a file of it is missing or damaged.
        WeightsMismatch: The tensors are not those of the card's architecture.
    """
    return check_contents(*read_folder(folder))


def check_contents(card: Card, tensors: Mapping[str, Tensor], path: Path) -> Card:
    """Check what :func:`read_folder` returned, as :func:`check_folder` does."""
    matched(tensors, expected_tensors(card.architecture), str(path))
    read_readme(path.parent)
    return card


def read_readme(folder: Path) -> str:
    """Return a model folder's README.

    Raises:
        CorruptFile: It is missing, or no text.
    """
    path = folder / README_NAME
    if not path.is_file():
        raise CorruptFile(f"{folder}: its {README_NAME} is missing")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CorruptFile(f"{path}: not text ({error.reason})") from error


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
