"""The table of published weights: other projects', by name, and those this package carries.

Torch-free. ``tools/make_catalog.py`` writes ``catalog.csv`` from torchvision and timm.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from resnet_hub.errors import DataMissing, UnknownName, did_you_mean
from resnet_hub.zoo import ARCHITECTURES, find_row

CATALOG_FILE = Path(__file__).with_name("catalog.csv")
PACKAGED = Path(__file__).with_name("packaged")
"""Holds the package's own weights, each a model folder called ``net.tag``."""


@dataclass(frozen=True, kw_only=True)
class PublishedWeights:
    """Weights that another project published, as it describes them.

    Attributes:
        name: ``net.tag``.
        url: The file, a pickled state dict.
        sha256: The first hex digits of its SHA-256, which its name states.
        dtype: Type of its numbers, where the file's length tells.
        licence: SPDX name, or ``unstated``.
        recipe: How they were trained: a link, or the paper and the recipe's name there.
        size: Side of the net's input, in pixels.
        resize: Length of an image's shorter side before the central crop, in pixels.
        interpolation: Filter of the resizing.
        mean: Subtracted from pixels in [0, 1], one a channel.
        std: Divides after that, one a channel.
        top1: Published accuracy on ImageNet's 50,000 validation images, as a fraction.
        top5: Likewise, among the first five.
        default: Whether the net's bare name means these (torchvision's ``DEFAULT``).
    """

    name: str
    url: str
    sha256: str
    dtype: str | None
    licence: str
    recipe: str
    size: int
    resize: int
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    top1: float
    top5: float
    default: bool

    @property
    def net(self) -> str:
        """The row of the nets' table."""
        return _net_of(self.name)


def find_weights(name: str) -> PublishedWeights:
    """Return published weights by their name, or a net's default ones by the net's.

    Raises:
        DataMissing: A net without published weights.
        UnknownName: No weights are called so; the message offers what is.
    """
    net = _net_of(name)
    if net not in ARCHITECTURES:
        hint = did_you_mean(name, [*CATALOG, *ARCHITECTURES]) or "; see `resnet-hub list`"
        raise UnknownName(f"{name!r}: neither a folder here nor the name of weights{hint}")
    if entry := CATALOG.get(name) or (default_of(net) if name == net else None):
        return entry
    names = weights_of(net)
    if not names:
        raise DataMissing(
            f"{net}: no published weights are known to this version; "
            "give a model folder, or weights=None for a fresh net"
        )
    hint = did_you_mean(name, names) if name != net else ""
    hint = hint or f"; there are {', '.join(names)}"
    raise UnknownName(f"no weights of {net} are called {name!r}{hint}")


def default_of(net: str) -> PublishedWeights | None:
    """Return what a net's bare name means in the catalog."""
    return next((own for own in CATALOG.values() if own.net == net and own.default), None)


def weights_of(net: str) -> tuple[str, ...]:
    """Return the names of a net's weights, those that the package carries first.

    Raises:
        UnknownName: No such net.
    """
    find_row(net)
    return tuple(name for name in {**_packaged(), **CATALOG} if _net_of(name) == net)


def packaged(name: str) -> Path | None:
    """Return the model folder that the package carries under a name, or ``None``.

    A net's bare name means its default in the catalog; without one, the only weights of it that the
    package carries.
    """
    folders = _packaged()
    if name in folders:
        return folders[name]
    own = [folder for full, folder in folders.items() if _net_of(full) == name]
    return own[0] if len(own) == 1 and default_of(name) is None else None


def _packaged() -> dict[str, Path]:
    return {path.parent.name: path.parent for path in sorted(PACKAGED.glob("*/config.json"))}


def _net_of(name: str) -> str:
    return name.partition(".")[0]


def _read() -> dict[str, PublishedWeights]:
    lines = CATALOG_FILE.read_text(encoding="utf-8").splitlines()
    rows = csv.DictReader(line for line in lines if not line.startswith("#"))
    return {row["name"]: _entry(row) for row in rows}


def _entry(row: Mapping[str, str]) -> PublishedWeights:
    mean, std = (tuple(map(float, row[column].split())) for column in ("mean", "std"))
    return PublishedWeights(
        name=row["name"],
        url=row["url"],
        sha256=row["sha256"],
        dtype=row["dtype"] or None,
        licence=row["licence"],
        recipe=row["recipe"],
        size=int(row["size"]),
        resize=int(row["resize"]),
        interpolation=row["interpolation"],
        mean=mean,
        std=std,
        top1=float(row["top1"]),
        top5=float(row["top5"]),
        default=row["default"] == "yes",
    )


CATALOG: Mapping[str, PublishedWeights] = MappingProxyType(_read())
"""Every published weight by its name."""
