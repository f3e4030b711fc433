"""BatchNorm statistics computed anew over training images, once the weights are fixed."""

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from resnet_hub.data.module import DataModule
from resnet_hub.learning.classifier import Classifier
from resnet_hub.learning.trainer import losses_named

Reduce = Callable[[Tensor], Tensor]


def make_precise(
    trainer: L.Trainer, classifier: Classifier, data: DataModule, *, epoch: int
) -> None:
    """Compute the finished net's statistics anew over ``model.precise_bn`` training images.

    The images are the first batches of an epoch, augmented as in training and not mixed; all of
    them where the set has fewer. Which batches there are does not depend on the number of ranks,
    if they are as large on each: all ranks share them, and end with the same statistics. Norms that
    the recipe froze in the last epoch keep theirs.

    Args:
        trainer: The one that trained; its ranks, device and precision are used.
        classifier: Trained on ``data``.
        data: Opened.
        epoch: Epochs that were trained; key of order and augmentation.

    Raises:
        WorkerLost: A worker was killed, or hangs.
        OutOfMemory: There was not enough memory for a batch.
    """
    device = trainer.strategy.root_device
    classifier.to(device)

    def over_ranks(sums: Tensor) -> Tensor:
        return cast(Tensor, trainer.strategy.reduce(sums, reduce_op="sum"))

    count = classifier.recipe.model.precise_bn
    with losses_named(data, train=True), trainer.precision_plugin.forward_context():
        images = _training_images(trainer, data, count, epoch=epoch)
        net = classifier.finished
        still = classifier.freezing.still_norms(net, max(0, epoch - 1))
        recompute(net, map(classifier.laid_out, images), reduce=over_ranks, still=still)


@torch.no_grad()
def recompute(
    net: nn.Module,
    batches: Iterable[Tensor],
    *,
    reduce: Reduce | None = None,
    still: Collection[nn.Module] = (),
) -> None:
    """Make each BatchNorm's statistics those of its inputs over all batches.

    Mean and variance are of all activations together, the batches pooled: the mean of the batches'
    variances plus the variance of their means, without Bessel's correction. Each batch is
    normalised by its own statistics on the way, as in training; no unit is left out.

    Args:
        net: In evaluation mode afterwards.
        batches: Inputs ``(N, C, H, W)``, on the net's device.
        reduce: Adds up a tensor over ranks.
        still: Norms that keep their statistics, and normalise by them.
    """
    own = [m for m in net.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    norms = [norm for norm in own if norm not in still]
    sums: dict[nn.Module, list[Tensor]] = {norm: [] for norm in norms}

    def watch(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        sums[norm] = _added(sums[norm], inputs[0])

    net.eval()  # stochastic depth among others
    handles = [norm.register_forward_pre_hook(cast(Any, watch)) for norm in norms]
    try:
        with _by_batch(norms):
            for images in batches:
                net.forward(images)  # not the compiled net, which would know of no hook
    finally:
        for handle in handles:
            handle.remove()
    for norm in norms:
        _set_statistics(norm, sums[norm], reduce or _alone)


def _added(before: list[Tensor], x: Tensor) -> list[Tensor]:
    """Return count, sum and sum of squares a channel, those of a batch added."""
    # Apple's GPUs hold no float64.
    exact = torch.float32 if x.device.type == "mps" else torch.float64
    dims = [0, *range(2, x.dim())]
    variance, mean = (part.to(exact) for part in torch.var_mean(x.float(), dims, correction=0))
    count = torch.full_like(mean, x.numel() // x.shape[1])
    parts = [count, count * mean, count * (variance + mean**2)]
    return [b + p for b, p in zip(before, parts, strict=True)] if before else parts


def _set_statistics(norm: _BatchNorm, sums: list[Tensor], reduce: Reduce) -> None:
    running_mean, running_var = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    if not sums:  # this rank had no batch
        exact = torch.float32 if running_mean.device.type == "mps" else torch.float64
        sums = [torch.zeros_like(running_mean, dtype=exact) for _ in range(3)]
    count, total, squares = reduce(torch.stack(sums))
    mean = total / count
    running_mean.copy_(mean)
    running_var.copy_((squares / count - mean**2).clamp(min=0))


def _alone(sums: Tensor) -> Tensor:
    return sums


@contextmanager
def _by_batch(norms: list[_BatchNorm]) -> Iterator[None]:
    """Let norms go by their batch, and leave their statistics as they are."""
    before = [(norm, norm.track_running_stats) for norm in norms]
    for norm in norms:
        norm.train()
        norm.track_running_stats = False  # in training mode: by the batch, and nothing is moved
    try:
        yield
    finally:
        for norm, tracks in before:
            norm.eval()
            norm.track_running_stats = tracks


def _training_images(
    trainer: L.Trainer, data: DataModule, count: int, *, epoch: int
) -> Iterator[Tensor]:
    """Yield this rank's share of the first batches of an epoch that hold ``count`` images."""
    device, ranks = trainer.strategy.root_device, trainer.world_size
    loader = data.train_dataloader()
    loader.order.set_epoch(epoch)
    batches = -(-count // data.train_batch_size())
    for number, batch in enumerate(loader):
        if number * ranks + trainer.global_rank >= batches:
            return
        yield data.prepare(batch.moved(device), train=True).images
