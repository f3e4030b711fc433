"""What a net gives for each image of a split, computed once and then read from the cache."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import lightning as L
import torch
from torch import Tensor

from resnet_hub.data.batches import Batch, BatchedDataset, BatchSampler
from resnet_hub.data.loader import BatchLoader
from resnet_hub.data.module import DataModule, Split
from resnet_hub.errors import BadData, Diverged, InvalidSetting
from resnet_hub.evaluation.collected import Collector, Logits
from resnet_hub.evaluation.ensemble import ensemble
from resnet_hub.evaluation.restricted import answering
from resnet_hub.evaluation.scoring import quiet_trainer
from resnet_hub.evaluation.views import Views, view_logits
from resnet_hub.learning.plan import check_channels, check_match
from resnet_hub.learning.processes.ranks import started
from resnet_hub.learning.trainer import losses_named, refusals_named, watching
from resnet_hub.nets.resnet import ResNet
from resnet_hub.weights.outputs import Tensors, find, keep, kept
from resnet_hub.weights.provenance import software
from resnet_hub.weights.store import tensors_sha256
from resnet_hub.zoo import title_of

_OPTIONS = ("accelerator", "devices", "precision", "strategy")


@dataclass(frozen=True)
class Outputs:
    """What a net gave for the images of a split that could be read, in order.

    Attributes:
        values: float32 ``(N, …)``, one row an image, on the CPU.
        labels: int64 ``(N,)``, the data set's.
        from_cache: Whether no forward pass was needed.
        indices: int64 ``(N,)``, their numbers in the split.
        images_per_s: As measured when they were computed; ``None`` of a single batch.
        hardware: What they were computed on: processes and their devices.
    """

    values: Tensor
    labels: Tensor
    from_cache: bool
    indices: Tensor
    images_per_s: float | None
    hardware: str


def pooled(net: ResNet, images: Tensor) -> Tensor:
    """Return what a net's head is given, float ``(N, features)``, of preprocessed images."""
    last = list(net.features(images).values())[-1]
    return torch.flatten(net.avgpool(last), 1)


def placed(options: Mapping[str, Any]) -> L.Trainer:
    """Return a trainer to compute outputs by: it says on which devices, and at which precision.

    Raises:
        InvalidSetting: Lightning refuses the options, or they are others.
    """
    for name in options:
        if name not in _OPTIONS:
            raise InvalidSetting(
                f"trainer.{name}: has no effect here; of the trainer's options only "
                f"{', '.join(_OPTIONS)} have"
            )
    # The processes of torchrun or SLURM are all taken.
    return quiet_trainer({"devices": "auto" if started() else 1, **options})


def one_device(options: Mapping[str, Any]) -> L.Trainer:
    """Return :func:`placed`'s trainer for what is computed on one device alone.

    Raises:
        InvalidSetting: See there; or they ask for several devices.
    """
    trainer = placed(options)
    if trainer.world_size > 1:
        raise InvalidSetting(
            f"trainer.devices: {trainer.world_size} processes; features are computed on one device"
        )
    return trainer


def outputs(
    net: ResNet, data: DataModule, split: Split, *, trainer: L.Trainer, views: Views | None = None
) -> Outputs:
    """Return what a net gives for each image of a split, read as for evaluation, in order.

    Kept under the SHA-256 of the weights, the architecture, the data's stamp, preprocessing, views,
    precision, kind of device and software: nothing that changes a number is left out, but for the
    batch size and the number of devices, which may change the last bits. On several devices each
    image is seen once, and every rank is given them all; the first one alone has to do with the
    cache.

    Args:
        net: The net; in evaluation mode, and on the CPU, afterwards. Its classes may be others than
            the data's.
        data: Opened with the net's own preprocessing.
        split: Also ``train``: without augmentation.
        trainer: See :func:`placed`.
        views: Gives logits, of one of :meth:`Views.passes`; ``None``: features, what the head is
            given of the central crop.

    Raises:
        InvalidSetting: The net takes other image channels.
        DataMissing: No such split.
        BadData: Images that cannot be read, or none.
        Diverged: The net gives numbers that are not finite.
        ResNetHubError: There is no place for the cache.
    """
    check_channels(net, data)
    one_pass = _Pass(net, data, split, views)
    name = "features" if views is None else "logits"
    key = {
        "format": 3,  # with the hardware; of pictures that are resized as bytes
        "outputs": name,
        "weights": tensors_sha256(net.state_dict()),
        "architecture": net.architecture.to_dict(),
        "data": one_pass.images.stamp(),
        "preprocess": data.preprocess.to_dict(),
        "precision": str(trainer.precision),
        "device": trainer.strategy.root_device.type,
        "software": software(),
    }
    if views is not None:
        key["views"] = views.to_dict()

    def compute() -> dict[str, Tensor]:
        return _computed(one_pass, trainer)

    seen = one_pass.where if views is None else f"{one_pass.where}, {views}"
    about = f"{name} of {title_of(net.architecture)} for {seen}, {trainer.precision}"
    if trainer.world_size == 1:
        found, from_cache = kept(key, compute, about=about)
    else:
        found, from_cache = _shared(key, compute, about=about, trainer=trainer)
    indices = found["indices"]
    pace = float(found["images_per_s"])
    return Outputs(
        found["values"],
        one_pass.images.targets[indices],
        from_cache,
        indices,
        pace if pace > 0 else None,
        bytes(found["hardware"].tolist()).decode(),
    )


def logits(
    net: ResNet,
    data: DataModule,
    views: Views | None = None,
    *,
    split: Split | None = None,
    trainer: Mapping[str, Any],
) -> Logits:
    """Return a net's logits for a split, kept as :func:`outputs` keeps them.

    Args:
        net: The net; its classes are the data's.
        data: Opened with the net's own preprocessing.
        views: The looks at each picture; by default its central crop.
        split: By default the tested one.
        trainer: Lightning's ``Trainer`` options: those of :func:`placed`.

    Raises:
        InvalidSetting: Net, data, views or options do not go together.
        ResNetHubError: See :func:`outputs`.
    """
    views = (views or Views()).resolved(data.preprocess)
    net = answering(net, data)
    check_match(net, data)
    where, trained = split or data.tested, placed(trainer)
    parts = [outputs(net, data, where, trainer=trained, views=part) for part in views.passes()]
    found = [
        Logits(x.values, x.labels, x.indices, x.images_per_s, x.hardware, x.from_cache)
        for x in parts
    ]
    return found[0] if len(found) == 1 else ensemble(found, average=views.average)


class _Pass(L.LightningModule):
    """A pass over a split by Lightning's test loop, which knows devices, ranks and precision."""

    def __init__(
        self, net: ResNet, data: DataModule, split: Split, views: Views | None = None
    ) -> None:
        super().__init__()
        self.net, self.data, self.views = net, data, views
        self.where = f"{data.described} {split}"
        self.whole = views is not None and views.whole
        own = data.preprocess
        self.reading = own if views is None else views.reading(own)
        images = data.split(split)
        self.images: BatchedDataset = (
            images.as_resized(self.reading) if self.whole else images.as_evaluated(own)
        )

    def test_dataloader(self) -> BatchLoader:
        rank, ranks = self.trainer.global_rank, self.trainer.world_size
        settings = self.data.settings
        size = settings.batch_size if self.images.uniform else 1
        return BatchLoader(
            self.images,
            BatchSampler(len(self.images), size, seed=None, rank=rank, ranks=ranks),
            workers=settings.workers,
            timeout=settings.timeout,
            name=self.where,
        )

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        preprocess, views = self.data.preprocess, self.views
        if views is None:
            return pooled(self.net, self.data.prepare(batch, train=False).images)
        most = self.data.settings.batch_size
        return view_logits(self.net, self._seen(batch), preprocess, views, most=most)

    def _seen(self, batch: Batch) -> Tensor:
        """Return the pixels that views are taken of; those of files are ready, others not."""
        if self.whole:
            return self.reading.resized(batch.images)
        return cast(Tensor, self.data.prepare(batch, train=False).pixels)


def _computed(one_pass: _Pass, trainer: L.Trainer) -> dict[str, Tensor]:
    collector, told = Collector(), losses_named(one_pass.data, train=False)
    with refusals_named(), told, watching(trainer, collector):
        trainer.test(one_pass, verbose=False)
    # What Lightning computes in inference mode could not be learnt from; a copy can.
    found = collector.logits
    values, indices = found.values.clone(), found.indices.clone()
    if not len(values):
        raise BadData(f"{one_pass.where}: there is no image in it")
    if not values.isfinite().all():
        raise Diverged(
            f"net: gives numbers that are not finite for {one_pass.where}: its weights are not, or "
            "lead to such; export an earlier checkpoint"
        )
    pace = torch.tensor(found.images_per_s or 0.0, dtype=torch.float64)
    # Not in the key: the same machine's answers are the same on any number of its devices.
    where = torch.tensor(list(found.hardware.encode()), dtype=torch.uint8)
    return {"values": values, "indices": indices, "images_per_s": pace, "hardware": where}


def _shared(
    key: Mapping[str, Any], compute: Callable[[], Tensors], *, about: str, trainer: L.Trainer
) -> tuple[Tensors, bool]:
    """Return what :func:`kept` does to each process of a group on one machine.

    None may wait for another one's lock while that one waits for it in the pass. Before there is
    a group, every process looks for itself: Lightning starts the others where the first has found
    nothing, and whoever started them all gave them one cache.
    """
    found = find(key)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        found = trainer.strategy.broadcast(found)
    if found is not None:
        return found, True
    made = compute()
    if trainer.is_global_zero:
        keep(key, made, about=about)
    return made, False
