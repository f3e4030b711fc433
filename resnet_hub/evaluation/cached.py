"""What a net gives for each image of a split, computed once and then read from the cache."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from torch import Tensor

from resnet_hub.data.batches import BatchedDataset, BatchSampler
from resnet_hub.data.loader import BatchLoader
from resnet_hub.data.module import DataModule, Split
from resnet_hub.errors import BadData, Diverged, InvalidSetting
from resnet_hub.evaluation.restricted import answering
from resnet_hub.evaluation.scoring import quiet_trainer
from resnet_hub.learning.plan import check_channels, check_match
from resnet_hub.learning.trainer import losses_named
from resnet_hub.nets.resnet import ResNet
from resnet_hub.weights.outputs import kept
from resnet_hub.weights.provenance import software
from resnet_hub.weights.store import tensors_sha256
from resnet_hub.zoo import title_of

_OPTIONS = ("accelerator", "devices", "precision")


@dataclass(frozen=True)
class Outputs:
    """What a net gave for the images of a split that could be read, in order.

    Attributes:
        values: float32 ``(N, …)``, one row an image, on the CPU.
        labels: int64 ``(N,)``, the data set's.
        from_cache: Whether no forward pass was needed.
        indices: int64 ``(N,)``, their numbers in the split.
    """

    values: Tensor
    labels: Tensor
    from_cache: bool
    indices: Tensor


@dataclass(frozen=True)
class Logits:
    """What a net answered for the images of ``data.tested`` that could be read, in order.

    Attributes:
        values: float32 ``(N, classes)``.
        labels: int64 ``(N,)``, the data set's.
        indices: int64 ``(N,)``, their numbers in the split.
        images_per_s: As measured when they were computed; ``None`` where that was not.
        from_cache: Whether no forward pass was needed.
    """

    values: Tensor
    labels: Tensor
    indices: Tensor
    images_per_s: float | None
    from_cache: bool


def pooled(net: ResNet, images: Tensor) -> Tensor:
    """Return what a net's head is given, float ``(N, features)``, of preprocessed images."""
    last = list(net.features(images).values())[-1]
    return torch.flatten(net.avgpool(last), 1)


def answered(net: ResNet, images: Tensor) -> Tensor:
    """Return a net's logits, float ``(N, classes)``, of preprocessed images."""
    found: Tensor = net(images)
    return found


OUTPUTS: Mapping[str, Callable[[ResNet, Tensor], Tensor]] = {
    "features": pooled,
    "logits": answered,
}
"""What can be kept, by the name that its key has: preprocessed images to one row each."""


def one_device(options: Mapping[str, Any]) -> L.Trainer:
    """Return a trainer to compute outputs by: it says on which device, and at which precision.

    Raises:
        InvalidSetting: Lightning refuses the options, they ask for several devices, or are others.
    """
    for name in options:
        if name not in _OPTIONS:
            raise InvalidSetting(
                f"trainer.{name}: has no effect here; of the trainer's options only "
                f"{', '.join(_OPTIONS)} have"
            )
    trainer = quiet_trainer({"devices": 1, **options})
    if trainer.world_size > 1:
        raise InvalidSetting(
            f"trainer.devices: {trainer.world_size} processes; features are computed on one device"
        )
    return trainer


def outputs(
    net: ResNet, data: DataModule, split: Split, *, name: str = "features", trainer: L.Trainer
) -> Outputs:
    """Return what a net gives for each image of a split, read as for evaluation, in order.

    Kept under the SHA-256 of the weights, the architecture, the data's stamp, preprocessing,
    precision, kind of device and software: nothing that changes a number is left out, but for the
    batch size, which may change the last bits.

    Args:
        net: The net; in evaluation mode, and on the trainer's device, afterwards. Its classes may
            be others than the data's.
        data: Opened with the net's own preprocessing.
        split: Also ``train``: without augmentation.
        name: One of :data:`OUTPUTS`.
        trainer: See :func:`one_device`.

    Raises:
        InvalidSetting: The net takes other image channels.
        DataMissing: No such split.
        BadData: Images that cannot be read, or none.
        Diverged: The net gives numbers that are not finite.
        ResNetHubError: There is no place for the cache.
    """
    check_channels(net, data)
    images = data.split(split).as_evaluated(data.preprocess)
    key = {
        "outputs": name,
        "weights": tensors_sha256(net.state_dict()),
        "architecture": net.architecture.to_dict(),
        "data": images.stamp(),
        "preprocess": data.preprocess.to_dict(),
        "precision": str(trainer.precision),
        "device": trainer.strategy.root_device.type,
        "software": software(),
    }

    def compute() -> dict[str, Tensor]:
        return _computed(net, data, split, images, OUTPUTS[name], trainer)

    where = f"{data.described} {split}"
    about = f"{name} of {title_of(net.architecture)} for {where}, {trainer.precision}"
    found, from_cache = kept(key, compute, about=about)
    indices = found["indices"]
    return Outputs(found["values"], images.targets[indices], from_cache, indices)


def logits(net: ResNet, data: DataModule, *, trainer: Mapping[str, Any]) -> Logits:
    """Return a net's logits for ``data.tested``, kept as :func:`outputs` keeps them.

    Args:
        net: The net; its classes are the data's.
        data: Opened with the net's own preprocessing.
        trainer: Lightning's ``Trainer`` options ``accelerator``, ``devices``, ``precision``.

    Raises:
        InvalidSetting: Net, data or options do not go together.
        ResNetHubError: See :func:`outputs`.
    """
    net = answering(net, data)
    check_match(net, data)
    found = outputs(net, data, data.tested, name="logits", trainer=one_device(trainer))
    return Logits(found.values, found.labels, found.indices, None, found.from_cache)


@torch.no_grad()
def _computed(
    net: ResNet,
    data: DataModule,
    split: Split,
    images: BatchedDataset,
    function: Callable[[ResNet, Tensor], Tensor],
    trainer: L.Trainer,
) -> dict[str, Tensor]:
    device, where = trainer.strategy.root_device, f"{data.described} {split}"
    net.eval().to(device)
    loader = BatchLoader(
        images,
        BatchSampler(len(images), data.settings.batch_size, seed=None),
        workers=data.settings.workers,
        timeout=data.settings.timeout,
        name=where,
    )
    values, indices = [], []
    with losses_named(data, train=False), trainer.precision_plugin.forward_context():
        for batch in loader:
            if not len(batch.labels):  # not one of them could be read
                continue
            prepared = data.prepare(batch.moved(device), train=False)
            values.append(function(net, prepared.images).float().cpu())
            indices.append(batch.indices)
    if not values:
        raise BadData(f"{where}: there is no image in it")
    joined = torch.cat(values)
    if not joined.isfinite().all():
        raise Diverged(
            f"net: gives numbers that are not finite for {where}: its weights are not, or lead to "
            "such; export an earlier checkpoint"
        )
    return {"values": joined, "indices": torch.cat(indices)}
