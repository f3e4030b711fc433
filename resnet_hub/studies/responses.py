"""How strongly a net's layers answer: the spread of their responses (1512.03385 Fig. 7)."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from resnet_hub.architecture import Architecture
from resnet_hub.data.batches import Selection
from resnet_hub.data.module import DataModule
from resnet_hub.errors import BadData, Diverged, InvalidSetting
from resnet_hub.evaluation.cached import one_device
from resnet_hub.learning.plan import check_channels
from resnet_hub.learning.trainer import losses_named
from resnet_hub.nets.resnet import ResNet
from resnet_hub.randomness import permutation
from resnet_hub.studies.layers import layers_of, watched
from resnet_hub.weights.store import tensors_sha256


@dataclass(frozen=True)
class Responses:
    """How strongly the 3×3 layers of one net answer.

    Attributes:
        label: What pictures call the net.
        model: What it was loaded from.
        architecture: Of the net.
        names: The layers' convolutions, the image's first.
        std: Standard deviation of each layer's responses, over images, channels and places.
        data: Data set and split of the images.
        n: Images.
        weights: SHA-256 of the net's tensors.
        images: SHA-256 of the split that the images are of.
        precision: Lightning's name of it.
        device: Kind of device.
    """

    label: str
    model: str
    architecture: Architecture
    names: tuple[str, ...]
    std: tuple[float, ...]
    data: str
    n: int
    weights: str
    images: str
    precision: str
    device: str

    @property
    def mean(self) -> float:
        """Mean of the layers' standard deviations."""
        return fmean(self.std)


def measure(
    net: ResNet,
    data: DataModule,
    *,
    label: str,
    model: str,
    images: int = 1000,
    trainer: Mapping[str, Any] | None = None,
) -> Responses:
    """Measure the responses of a net's 3×3 layers: after BatchNorm, before activation or addition.

    Images are drawn from ``data.tested`` by a key of their own, the same ones for every net, and
    read as for evaluation.

    Args:
        net: The net; in evaluation mode, and on the trainer's device, afterwards.
        data: Opened with the net's own preprocessing; its classes may be others.
        label: See :class:`Responses`.
        model: See :class:`Responses`.
        images: How many; all of them where there are fewer.
        trainer: Lightning's ``Trainer`` options ``accelerator``, ``devices``, ``precision``.

    Raises:
        InvalidSetting: Net, data or options do not go together, or no image is asked for.
        BadData: Not one image can be read.
        Diverged: A response is not finite.
    """
    if images < 1:
        raise InvalidSetting(f"--images: {images} is not at least 1")
    check_channels(net, data)
    placed = one_device(trainer or {})
    device = placed.strategy.root_device
    split = data.split(data.tested).as_evaluated(data.preprocess)
    layers = [layer for layer in layers_of(net) if layer.kernel == 3]
    sums = [_Spread() for _ in layers]
    net.eval().to(device)
    n = 0
    drawn = permutation(len(split), "responses")[:images]
    with (
        torch.no_grad(),
        losses_named(data, train=False),
        placed.precision_plugin.forward_context(),
        watched(layers, lambda number, response: sums[number].add(response)),
    ):
        for part in torch.split(drawn, data.settings.batch_size):
            batch = split[Selection(0, part)]
            if len(batch.labels):
                net(data.prepare(batch.moved(device), train=False).images)
                n += len(batch.labels)
    if not n:
        raise BadData(f"{data.measured}: not one image of it can be read")
    std = tuple(spread.std for spread in sums)
    if not all(map(math.isfinite, std)):
        raise Diverged(f"{model}: answers with numbers that are not finite; export an earlier one")
    return Responses(
        label=label,
        model=model,
        architecture=net.architecture,
        names=tuple(layer.name for layer in layers),
        std=std,
        data=data.measured,
        n=n,
        weights=tensors_sha256(net.state_dict()),
        images=split.stamp(),
        precision=str(placed.precision),
        device=device.type,
    )


class _Spread:
    """Mean and sum of squared deviations of numbers that come in parts (Chan et al. 1979)."""

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0, 0.0, 0.0

    def add(self, numbers: Tensor) -> None:
        variance, mean = (float(x) for x in torch.var_mean(numbers.float(), correction=0))
        count, off = numbers.numel(), mean - self.mean
        both = self.count + count
        self.squares += variance * count + off**2 * self.count * count / both
        self.mean += off * count / both
        self.count = both

    @property
    def std(self) -> float:
        return math.sqrt(self.squares / self.count)


def sentences(found: Sequence[Responses]) -> list[str]:
    """Return what the responses say, a sentence each."""
    return [*map(_of_one, found), *_of_twins(found), *_of_depths(found)]


def limits(found: Sequence[Responses]) -> list[str]:
    """Return what these nets cannot say, and why."""
    said = []
    if not list(_twins(found)):
        said.append(
            "No plain net stands beside a residual one of as many layers: whether residual nets "
            "answer less strongly than plain ones is not said."
        )
    if (data := found[0].data) != "CIFAR-10 test":
        said.append(f"Measured on {data}: not on the images of the paper's figure.")
    said.append(
        "One set of weights each: how much another training of the same net would change is "
        "unknown. A response's size has no unit that two nets must share: the layer after it may "
        "scale it back."
    )
    return said


def _of_one(found: Responses) -> str:
    return (
        f"{found.label}: the standard deviation of a 3×3 layer's responses is {found.mean:.3f} on "
        f"average over {len(found.std)} layers ({min(found.std):.3f} to {max(found.std):.3f})."
    )


def _twins(found: Sequence[Responses]) -> Iterator[tuple[Responses, Responses]]:
    """Yield residual nets, each with a plain net that has the same layers."""
    plain = [own for own in found if own.architecture.form == "plain"]
    for residual in found:
        if residual.architecture.form != "plain":
            yield from ((residual, own) for own in plain if own.names == residual.names)


def _of_twins(found: Sequence[Responses]) -> Iterator[str]:
    for residual, plain in _twins(found):
        pairs = zip(residual.std, plain.std, strict=True)
        smaller, count = sum(one < other for one, other in pairs), len(residual.std)
        generally = residual.mean < plain.mean and 2 * smaller > count
        yield (
            f"{residual.label} answers less strongly than {plain.label} in {smaller} of {count} "
            f"layers, {residual.mean:.3f} against {plain.mean:.3f} on average: its responses are "
            f"{'generally smaller, as' if generally else 'not generally smaller, which'} "
            "1512.03385 §4.2 found."
        )


def _of_depths(found: Sequence[Responses]) -> Iterator[str]:
    residual = [own for own in found if own.architecture.form != "plain"]
    kinds = {(own.architecture.form, own.architecture.block): own for own in residual}
    for form, block in kinds:
        own = [r for r in residual if (r.architecture.form, r.architecture.block) == (form, block)]
        own.sort(key=lambda r: r.architecture.layers)
        if len({r.architecture.layers for r in own}) < 2:
            continue
        means = [r.mean for r in own]
        falls = all(a > b for a, b in pairwise(means))
        told = ", ".join(f"{r.mean:.3f} with {r.architecture.layers} layers" for r in own)
        yield (
            f"Averages of the residual nets by depth: {told}: deeper ones "
            f"{'change their signal less in a layer, as' if falls else 'do not answer less, which'}"
            " 1512.03385 §4.2 found."
        )
