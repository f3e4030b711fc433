"""The same nets in torchvision and timm: which these have, and what they call the tensors."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from torch import Tensor

from resnet_hub.architecture import Architecture
from resnet_hub.errors import InvalidSetting
from resnet_hub.weights.match import HEAD, listed
from resnet_hub.zoo import ARCHITECTURES, name_of

Peer = Literal["torchvision", "timm"]

_SHARED = frozenset(
    {
        *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
        *("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d"),
        *("wide_resnet50_2", "wide_resnet101_2"),
    }
)

_TIMM = {name for name, row in ARCHITECTURES.items() if row.source.startswith("timm")}

PEER_NETS: Mapping[Peer, frozenset[str]] = MappingProxyType(
    {"torchvision": _SHARED, "timm": _SHARED | _TIMM | {"resnet200"}}
)
"""The nets of our table that each library has, by the name that is ours and theirs."""

# timm's resnetv2 names and ours; its stages are counted from 0, ours from 1.
_RESNETV2_NAMES = (
    ("stem.conv1.", "conv1.0."),
    ("stem.norm1.", "conv1.1."),
    ("stem.conv2.", "conv1.3."),
    ("stem.norm2.", "conv1.4."),
    ("stem.conv3.", "conv1.6."),
    ("stem.conv.", "conv1."),
    ("stages.{stage}.blocks.{unit}.norm{n}.", "layer{stage}.{unit}.bn{n}."),
    ("stages.{stage}.blocks.{unit}.downsample.conv.", "layer{stage}.{unit}.downsample.{at}."),
    ("stages.{stage}.blocks.{unit}.", "layer{stage}.{unit}."),
    ("head.fc.", "fc."),
)


def peer_name(architecture: Architecture, peer: Peer) -> str | None:
    """Return what a library calls a net, whatever its classes; ``None`` where it has none."""
    name = name_of(architecture)
    if name not in PEER_NETS[peer]:
        return None
    takes = peer == "timm" or architecture.in_channels == 3  # torchvision's nets take no other
    return name if takes else None


def peer_tensors(
    tensors: Mapping[str, Tensor], architecture: Architecture, peer: Peer
) -> dict[str, Tensor]:
    """Return our tensors as a library's net of the same function expects them.

    Args:
        tensors: The state dict of a net of ours.
        architecture: That net.
        peer: The library.

    Raises:
        InvalidSetting: The library has no such net.
    """
    if peer_name(architecture, peer) is None:
        name = name_of(architecture) or f"net of {architecture.layers} layers"
        raise InvalidSetting(
            f"{peer} has no {name} of {architecture.in_channels} image channels; "
            f"it has, of {'any' if peer == 'timm' else 3}: {listed(sorted(PEER_NETS[peer]))}"
        )
    if architecture.form != "preact":
        return dict(tensors)
    renamed = {to_resnetv2(name): tensor for name, tensor in tensors.items()}
    renamed["head.fc.weight"] = tensors[HEAD[0]][:, :, None, None]  # a 1×1 convolution
    return renamed


def from_resnetv2(name: str, *, pooled: bool = False) -> str:
    """Return our name of a tensor of timm's ``resnetv2``; an unknown one stays.

    Args:
        name: The tensor's name there.
        pooled: Whether the net's shortcuts are pooled before their projections, as they are in
            each of timm's nets with a deep stem.
    """
    return _renamed(name, read=0, shift=1, at=int(pooled))


def to_resnetv2(name: str) -> str:
    """Return timm's name of a tensor of ours, in its ``resnetv2``; an unknown one stays."""
    return _renamed(name, read=1, shift=-1)


def _renamed(name: str, *, read: int, shift: int, at: int = 0) -> str:
    for pair in _RESNETV2_NAMES:
        pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>\\d{1,4})", re.escape(pair[read]))
        if found := re.match(pattern, name):
            numbers: dict[str, str | int] = {"at": at, **found.groupdict()}
            if "stage" in numbers:
                numbers["stage"] = int(numbers["stage"]) + shift
            return pair[1 - read].format_map(numbers) + name[found.end() :]
    return name
