"""A net's stages as a table: what each is made of, gives out and costs."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from resnet_hub.architecture import Architecture, Unit
from resnet_hub.nets.resnet import ResNet

_CONNECTIONS = {
    "identity": "identity",
    "pad": "zero padding",
    "project": "1×1 convolution",
    "pool": "pooling and 1×1 convolution",
    "none": "none",
}


@dataclass(frozen=True)
class Stage:
    """A row of the table.

    Attributes:
        name: ``stem``, ``stage 1``, …, ``classifier``.
        made: Its layers, in the papers' notation.
        shortcut: What its shortcuts are, in words; empty where it has no units.
        shape: Channels, height and width of what it gives out; of the classifier, classes.
        parameters: Learnable numbers.
        multiply_adds: Of one image.
    """

    name: str
    made: str
    shortcut: str
    shape: tuple[int, ...]
    parameters: int
    multiply_adds: int


def stages(architecture: Architecture, size: int) -> list[Stage]:
    """Return a net's stages from images to answers, counted on the net itself.

    Args:
        architecture: The net.
        size: Side of the images, in pixels.
    """
    with torch.device("meta"):
        net = ResNet(architecture).eval()
        images = torch.empty(1, architecture.in_channels, size, size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(images)
    with torch.no_grad():
        shapes = [tuple(maps.shape[1:]) for maps in net.features(images).values()]
    costs = {name: _cost(counter, name) for name, _ in net.named_children()}
    counts = {name: _parameters(child) for name, child in net.named_children()}
    last = f"layer{len(architecture.depths)}"
    if "norm" in counts:  # what follows the last unit of a pre-activation net
        counts[last] += counts.pop("norm")
    own = {"fc", *(f"layer{i + 1}" for i in range(len(architecture.depths)))}
    stem = [name for name in counts if name not in own]
    rows = [
        Stage(
            "stem",
            _stem(architecture),
            "",
            shapes[0],
            sum(counts[name] for name in stem),
            sum(costs[name] for name in stem),
        )
    ]
    for number, (units, shape) in enumerate(
        zip(architecture.stages(), shapes[1:], strict=True), start=1
    ):
        name = f"layer{number}"
        made, shortcut = _units(architecture, units), _shortcut(units)
        rows.append(Stage(f"stage {number}", made, shortcut, shape, counts[name], costs[name]))
    classifier = f"average pool, {architecture.features:,} → {architecture.classes:,}"
    shape = (architecture.classes,)
    rows.append(Stage("classifier", classifier, "", shape, counts["fc"], costs["fc"]))
    return rows


def _parameters(module: nn.Module) -> int:
    return sum(tensor.numel() for tensor in module.parameters())


def _cost(counter: FlopCounterMode, child: str) -> int:
    """Return the multiply-adds of a net's part, or of its units where it is not called itself."""
    counts = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    whole = f"{ResNet.__name__}.{child}"
    if whole in counts:
        return counts[whole] // 2
    parts = (n for name, n in counts.items() if name.rpartition(".")[0] == whole)
    return sum(parts) // 2


def _stem(architecture: Architecture) -> str:
    kernel = "7×7" if architecture.stem == "imagenet" else "3×3"
    layers = " | ".join(f"{kernel}, {channels}" for channels in architecture.stem_channels)
    if architecture.stem == "cifar":
        return layers
    pool = {"max": "3×3 max pool", "convolution": "3×3 convolution, stride 2"}
    return f"{layers}, stride 2; {pool.get(architecture.stem_pool, architecture.stem_pool)}"


def _units(architecture: Architecture, units: tuple[Unit, ...]) -> str:
    first = units[0]
    layers = "".join(_layers(architecture, first))
    stride = f", first stride {first.stride}" if first.stride > 1 else ""
    return f"[{layers}]\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}{len(units)}{stride}"


def _layers(architecture: Architecture, unit: Unit) -> Iterator[str]:
    if architecture.block == "basic":
        yield f"3×3, {unit.middle} | 3×3, {unit.outputs}"
    else:
        groups = f", {architecture.groups} groups" if architecture.groups > 1 else ""
        yield f"1×1, {unit.middle} | 3×3, {unit.middle}{groups} | 1×1, {unit.outputs}"
    if architecture.attention != "none":
        yield f" | {architecture.attention.upper()}"


def _shortcut(units: tuple[Unit, ...]) -> str:
    first, *rest = (_CONNECTIONS.get(unit.connection, unit.connection) for unit in units)
    others = [kind for kind in dict.fromkeys(rest) if kind != first]
    return f"{first}, {', '.join(others)}" if others else first
