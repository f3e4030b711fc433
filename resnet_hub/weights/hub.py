"""From a name to a model folder, and model folders read and written whole."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from resnet_hub.errors import DataMissing, Diverged, UnknownName, did_you_mean
from resnet_hub.paths import expanded
from resnet_hub.weights.card import (
    CARD_NAME,
    README_NAME,
    WEIGHTS_NAME,
    Card,
    read_card,
    write_readme,
)
from resnet_hub.weights.match import listed
from resnet_hub.weights.store import (
    read_tensors,
    sha256_of,
    write_folder,
    write_tensors,
    write_text,
)
from resnet_hub.zoo import ARCHITECTURES


def resolve(source: str | Path) -> Path:
    """Return the model folder that a source names.

    Args:
        source: A local folder: a path that starts with ``.``, ``/`` or ``~``, or that exists.

    Raises:
        DataMissing: A path without a folder, or a net without published weights.
        UnknownName: Neither a folder nor a net's name.
        InvalidSetting: A path that begins with ``~`` and a user who has no home.
    """
    with suppress(OSError):  # too long for a path
        if (path := expanded(source)).is_dir():
            return path
    if isinstance(source, Path) or source.startswith((".", "/", "~")):
        raise DataMissing(f"{str(source)!r}: no such folder; a model folder holds {CARD_NAME}")
    if source in ARCHITECTURES:
        raise DataMissing(
            f"{source}: no published weights are known to this version; "
            "give a model folder, or weights=None for a fresh net"
        )
    raise UnknownName(
        f"{source!r}: neither a folder here nor a net's name{did_you_mean(source, ARCHITECTURES)}"
    )


def read_model(source: str | Path) -> tuple[Card, dict[str, Tensor], Path]:
    """Read a model folder, its weights checked against the digest in its card.

    Returns:
        The card, the tensors (memory-mapped, copy-on-write), and the weights' path.

    Raises:
        CorruptFile: The folder is no model folder, or a file of it is damaged.
    """
    folder = resolve(source)
    card = read_card(folder)
    path = folder / WEIGHTS_NAME
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
    _check_finite(folder, card, tensors)

    def fill(temporary: Path) -> None:
        nonlocal written
        write_tensors(temporary / WEIGHTS_NAME, tensors)
        digest = sha256_of(temporary / WEIGHTS_NAME)
        written = replace(card, provenance=replace(card.provenance, sha256=digest))
        write_text(temporary / CARD_NAME, written.to_json())
        write_text(temporary / README_NAME, write_readme(written, str(folder)))

    write_folder(folder, fill, names=(WEIGHTS_NAME, CARD_NAME, README_NAME))
    return written


def _check_finite(folder: Path, card: Card, tensors: dict[str, Tensor]) -> None:
    names = [
        name
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and not tensor.float().isfinite().all()
    ]
    if names:
        source = f"; they are of {card.provenance.source}" if card.provenance.source else ""
        raise Diverged(
            f"{folder}: not written, numbers of {listed(names)} are not finite "
            f"(has the training diverged?){source}"
        )
