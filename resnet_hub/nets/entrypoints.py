"""One function for each row of the architecture table, for ``hubconf.py``. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from resnet_hub.counting import multiply_adds, natural_size, parameters
from resnet_hub.errors import WeightsMismatch
from resnet_hub.weights.catalog import weights_of
from resnet_hub.weights.sources import Published, Source, parse
from resnet_hub.zoo import ARCHITECTURES, name_of

if TYPE_CHECKING:
    from resnet_hub.nets.resnet import ResNet

EntryPoint = Callable[..., "ResNet"]


def entry_points() -> dict[str, EntryPoint]:
    """Return every named net's function, by name."""
    return {name: _entry_point(name) for name in ARCHITECTURES}


def _entry_point(name: str) -> EntryPoint:
    def entry(
        weights: str | None = "default",
        *,
        classes: int | Sequence[str] | None = None,
        in_channels: int | None = None,
    ) -> ResNet:
        from resnet_hub.nets.resnet import ResNet

        if weights is None:
            return ResNet(name, classes=classes, in_channels=in_channels)
        source = _source(name, weights)
        net = ResNet.from_pretrained(source, classes=classes, in_channels=in_channels)
        if (found := name_of(net.architecture)) != name:
            raise WeightsMismatch(f"{source}: holds {found or 'another net'}, not {name}")
        return net

    row = ARCHITECTURES[name]
    net = row.architecture
    tags = ", ".join(f"``{full.partition('.')[2]}``" for full in weights_of(name)) or "it has none"
    published = f" Published error: {row.error}% ({row.measure})." if row.error else ""
    entry.__name__ = entry.__qualname__ = name
    entry.__doc__ = f"""{name}, from {row.source}.

    {parameters(net):,} parameters; {multiply_adds(net) / 1e6:,.1f} million multiply-adds at
    {natural_size(net)} pixels; {net.classes} classes.{published}

    Args:
        weights: ``"default"`` for the published default weights; a tag ({tags}); a model folder's
            path; a Hub repository (``org/repo``); a URL with its digest; or ``None`` for a fresh
            net.
        classes: Outputs, or their names; another number than the weights', or other names, gives a
            fresh head.
        in_channels: Image channels; another number than the weights' adapts the first convolution.

    Returns:
        The net; with weights in evaluation mode, with ``.preprocess`` and ``.labels``.
    """
    return entry


def _source(name: str, weights: str) -> Source:
    if weights == "default":
        return Published(name)
    source = parse(weights)
    if isinstance(source, Published) and source.name.partition(".")[0] != name:
        return Published(f"{name}.{weights}")
    return source
