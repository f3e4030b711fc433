"""How strong gradients and activations are, layer by layer, at the start and along a training."""

import csv
import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import astuple, dataclass, fields
from functools import partial
from pathlib import Path
from statistics import geometric_mean
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.nn import functional as F

from resnet_hub.data.batches import Selection
from resnet_hub.data.module import DataModule
from resnet_hub.errors import CorruptFile
from resnet_hub.learning.classifier import Classifier
from resnet_hub.learning.plan import attached_data
from resnet_hub.nets.resnet import ResNet
from resnet_hub.randomness import permutation
from resnet_hub.studies.folder import csv_text
from resnet_hub.studies.layers import layers_of, watched
from resnet_hub.weights.store import write_text

FILE = "gradients.csv"
"""What a run's numbers lie in."""


@dataclass(frozen=True)
class Norms:
    """A layer of a net at a step of its training.

    Attributes:
        step: Optimizer steps taken before.
        layer: Its number, 1 is the image's first.
        name: Of its convolution; ``fc`` is the classifier.
        weight: Euclidean norm of the weights.
        weight_gradient: Euclidean norm of the loss's gradient by the weights.
        activation: Root mean square of what the layer is given.
        response_gradient: Euclidean norm of the loss's gradient by the whole batch's response:
            after BatchNorm, before activation or addition.
    """

    step: int
    layer: int
    name: str
    weight: float
    weight_gradient: float
    activation: float
    response_gradient: float


NAMES = tuple(field.name for field in fields(Norms))


def measure(net: ResNet, images: Tensor, labels: Tensor, *, step: int = 0) -> list[Norms]:
    """Return the norms of every layer of a net on one batch, in training mode.

    The loss is the batch's mean cross-entropy; every unit takes part, whatever stochastic depth or
    dropout would leave out. A copy is measured, in float32: nothing of the net changes.

    Args:
        net: The net.
        images: float32 ``(N, in_channels, H, W)``, preprocessed, on the net's device.
        labels: int64 ``(N,)``.
        step: See :class:`Norms`.
    """
    own = deepcopy(net).train().requires_grad_(True)
    own.stochastic_depth = own.shortcut_dropout = 0.0
    own.checkpoint_blocks = 0
    layers = layers_of(own)
    names = [*(layer.name for layer in layers), "fc"]
    weights = [*(layer.convolution.weight for layer in layers), own.fc.weight]
    activations, gradients = [math.nan] * len(names), [math.nan] * len(names)

    def given(number: int, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        activations[number] = float(inputs[0].detach().square().mean().sqrt())

    def keep(number: int, gradient: Tensor) -> None:
        gradients[number] = float(gradient.norm())

    def take(number: int, response: Tensor) -> None:
        # Registered before an activation overwrites the response: it gets the gradient by that.
        cast(Any, response).register_hook(partial(keep, number))

    for number, module in enumerate([*(layer.convolution for layer in layers), own.fc]):
        module.register_forward_pre_hook(partial(given, number))
    with torch.enable_grad(), watched(layers, take):
        logits = own(images)
        take(len(layers), logits)
        loss = F.cross_entropy(logits, labels)
        slopes = torch.autograd.grad(loss, weights)
    return [
        Norms(
            step=step,
            layer=number + 1,
            name=name,
            weight=float(weights[number].detach().norm()),
            weight_gradient=float(slopes[number].norm()),
            activation=activations[number],
            response_gradient=gradients[number],
        )
        for number, name in enumerate(names)
    ]


class Recorder(Callback):
    """Measures a run's net before its first step, and at steps that double; after the last too.

    On the same training images each time, without augmentation. Its numbers lie in the run's
    folder, as ``gradients.csv``; a run that goes on goes on with them. Nothing of the training
    changes.

    Args:
        images: How many.
    """

    def __init__(self, images: int = 128) -> None:
        self._images = images
        self._rows: list[Norms] = []
        self._batch: tuple[Tensor, Tensor] | None = None

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Take up what was measured before a stop; measure what begins."""
        path = _path(trainer)
        step = trainer.global_step
        if trainer.is_global_zero and step and path.is_file():
            self._rows = [row for row in read_norms(path) if row.step <= step]
        self._look(trainer, module)

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Measure after a step that is due."""
        self._look(trainer, module)

    def _look(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        step = trainer.global_step
        due = step & (step - 1) == 0 or step == trainer.max_steps  # 0 and the powers of two
        seen = any(row.step == step for row in self._rows)
        if not due or seen or not trainer.is_global_zero:
            return
        net = cast(Classifier, module).net
        if self._batch is None:
            self._batch = _probed(cast(DataModule, attached_data(trainer)), self._images, module)
        self._rows += measure(net, *self._batch, step=step)
        write_text(_path(trainer), csv_text(NAMES, [astuple(row) for row in self._rows]))


def read_norms(path: Path) -> list[Norms]:
    """Read a ``gradients.csv``.

    Raises:
        CorruptFile: It is damaged, or another file.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [_row(row) for row in csv.DictReader(file)]
    except (ValueError, TypeError, KeyError, csv.Error) as error:
        raise CorruptFile(f"{path}: no numbers of layers ({error}); move it away") from error


def by_step(rows: Sequence[Norms]) -> dict[int, list[Norms]]:
    """Return the layers in order, by step."""
    return {step: [r for r in rows if r.step == step] for step in sorted({r.step for r in rows})}


def profile(runs: Sequence[Sequence[Norms]]) -> list[float] | None:
    """Return the gradients by the layers' responses at a step, the image's layer first.

    Args:
        runs: Of each seed, its layers; the classifier is left out.

    Returns:
        Geometric means over the seeds; ``None`` where a norm is 0 or not finite.
    """
    columns = [[r.response_gradient for r in layer] for layer in zip(*runs, strict=True)][:-1]
    if not columns or not all(math.isfinite(x) and x > 0 for column in columns for x in column):
        return None
    return [geometric_mean(column) for column in columns]


def growth(norms: Sequence[float]) -> float:
    """Return the factor that norms change by a layer, from the last to the first.

    That of a least-squares line through their logarithms; at least two layers.
    """
    logs, middle = [math.log(norm) for norm in norms], (len(norms) - 1) / 2
    slope = sum((n - middle) * log for n, log in enumerate(logs))
    slope /= sum((n - middle) ** 2 for n in range(len(logs)))
    return math.exp(-slope)


def _row(row: Mapping[str, str]) -> Norms:
    numbers = {name: float(row[name]) for name in NAMES[3:]}
    return Norms(int(row["step"]), int(row["layer"]), row["name"], **numbers)


def _path(trainer: L.Trainer) -> Path:
    return Path(trainer.default_root_dir) / FILE


def _probed(data: DataModule, count: int, module: L.LightningModule) -> tuple[Tensor, Tensor]:
    """Return training images as evaluation sees them, the same ones for every net."""
    split = data.split("train").as_evaluated(data.preprocess)
    drawn = permutation(len(split), "gradients")[:count]
    batch = split[Selection(0, drawn)].moved(module.device)
    return data.prepare(batch, train=False).images, batch.labels
