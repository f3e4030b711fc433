"""What a run would be, before anything of it is trained or written: its numbers, and its pace."""

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from resnet_hub.architecture import Architecture
from resnet_hub.counting import multiply_adds
from resnet_hub.data.batches import Batch
from resnet_hub.data.module import DataModule
from resnet_hub.data.settings import Knots
from resnet_hub.data.sizes import training_size
from resnet_hub.learning.classifier import Classifier
from resnet_hub.learning.fit import build
from resnet_hub.learning.optim.optimizers import effective_lr
from resnet_hub.learning.plan import (
    batches_a_validation,
    ends_step,
    images_per_step,
    images_tested,
    images_validated,
    run_length,
)
from resnet_hub.learning.processes.stopping import interruptible
from resnet_hub.learning.settings import Recipe
from resnet_hub.learning.targets.class_weights import named
from resnet_hub.learning.trainer import device_name, losses_named, make_trainer, refusals_named
from resnet_hub.zoo import title_of

TIMED = 2
"""Optimizer steps whose time is taken, after one that warms up."""

_ANSWERED = {"min_epochs": None, "min_steps": None, "profiler": None}
"""Options that would keep the probe from ending, or write files."""


@dataclass(frozen=True)
class Group:
    """Parameters that an optimizer treats alike.

    Attributes:
        name: As the optimizer has it.
        lr: Learning rate at the schedule's factor 1.
        weight_decay: Coefficient.
        tensors: How many tensors.
        parameters: How many numbers in them.
    """

    name: str
    lr: float
    weight_decay: float
    tensors: int
    parameters: int


@dataclass(frozen=True)
class Preview:
    """What a run would be.

    Attributes:
        net: The row's name, or what the net is called without one.
        parameters: Of the net.
        size: Side of the first epoch's training images in pixels.
        multiply_adds: Of one forward pass on one image of that size, as the papers count them.
        images: Images a split.
        batch_size: Images a forward pass on one device.
        devices: Processes of the run, each with a device.
        accumulated: Batches a step on each device.
        step_images: Images a step, over all of them.
        lr: Learning rate in force, at the schedule's factor 1.
        steps_per_epoch: Optimizer steps an epoch.
        steps: Optimizer steps in all.
        epochs: Epochs in all.
        trained_images: Images trained on in all, repetitions counted.
        class_weights: How much each class counts in the loss, by name; ``None``: all alike.
        groups: The optimizer's groups.
        frozen: Parameters that do not learn in the first epoch.
        flops: Floating-point operations of the training: two a multiply-add, and a backward pass
            of two forward ones, at each epoch's size. What checkpointing computes again is not
            counted.
        device: What the probe ran on.
        step_seconds: Seconds of a step, as probed.
        seconds: Of the whole run, epochs of another size in proportion to their operations, its
            validations and its test at the pace of the probe. No promise: two steps are few, and
            their batches may have been read ahead.
        validations: How many there are.
    """

    net: str
    parameters: int
    size: int
    multiply_adds: int
    images: dict[str, int]
    batch_size: int
    devices: int
    accumulated: int
    step_images: int
    lr: float
    steps_per_epoch: int
    steps: int
    epochs: float
    trained_images: int
    class_weights: dict[str, float] | None
    groups: tuple[Group, ...]
    frozen: int
    flops: int
    device: str
    step_seconds: float
    seconds: float
    validations: int


def preview(recipe: Recipe, *, clock: Callable[[], float] = perf_counter) -> Preview:
    """Open a recipe's data and net, take three steps, and return what the run would be.

    Nothing is written or fetched but weights that the recipe begins from, into their cache; the
    recipe's callbacks and loggers are left out. The net that was stepped is thrown away.

    Args:
        recipe: The recipe.
        clock: Returns seconds.

    Raises:
        Interrupted: Stopped by a signal.
        ResNetHubError: What :func:`~.fit.fit` would raise as it begins.
    """
    with interruptible():
        data, classifier = build(replace(recipe, data=replace(recipe.data, download=False)))
        probe = _Probe(data, clock)
        options: dict[str, Any] = {
            **recipe.trainer,
            **{name: value for name, value in _ANSWERED.items() if name in recipe.trainer},
            "num_sanity_val_steps": 0,
            "enable_model_summary": False,
            "enable_progress_bar": False,
            "enable_checkpointing": False,
            "logger": False,
            "callbacks": [probe],
        }
        trainer = make_trainer(options, timeout=recipe.distributed.timeout)
        with refusals_named(), losses_named(data, train=True):
            trainer.fit(classifier, data)
    return _described(trainer, data, classifier, probe)


class _Probe(Callback):
    """Takes the time of the first steps, and ends the training after them.

    Attributes:
        groups: The optimizer's groups, before the first step.
        batches: Of the whole run, on each device.
        validations: Of the whole run.
        validated: Images of one of them.
    """

    def __init__(self, data: DataModule, clock: Callable[[], float]) -> None:
        self._data, self._clock = data, clock
        self._marks: list[float] = []
        self.groups: tuple[Group, ...] = ()
        self.batches = self.validations = self.validated = 0

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Note what Lightning has planned; then do without its validations."""
        self.groups = tuple(map(_group, trainer.optimizers[0].param_groups))
        self.batches = _batches(trainer, self._data)
        self.validations = math.floor(self.batches / batches_a_validation(trainer) + 1e-6)
        self.validated = images_validated(trainer, self._data) if self.validations else 0
        trainer.limit_val_batches = 0
        self._mark(trainer)

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Note the time of a step's end; enough of them are the training's end."""
        if ends_step(trainer, batch_idx):
            self._mark(trainer)
        if len(self._marks) > 1 + TIMED:
            trainer.should_stop = True

    @property
    def step_seconds(self) -> float:
        """Seconds a step; of a run of one step, that of the first."""
        first = 1 if len(self._marks) > 2 else 0
        marks = self._marks[first:]
        return (marks[-1] - marks[0]) / (len(marks) - 1)

    def _mark(self, trainer: L.Trainer) -> None:
        if (device := trainer.strategy.root_device).type != "cpu":
            torch.accelerator.synchronize(device)  # the host only queues its work
        self._marks.append(self._clock())


def _described(
    trainer: L.Trainer, data: DataModule, classifier: Classifier, probe: _Probe
) -> Preview:
    net, length = classifier.net, run_length(trainer, data)
    classes = classifier.class_weights
    size = training_size(data.training_sizes, 0)
    step_images, weights = images_per_step(trainer, data), list(net.parameters())
    images = probe.batches * data.train_batch_size() * trainer.world_size
    evaluated = probe.validations * probe.validated + images_tested(trainer, data)
    forward = multiply_adds(net.architecture, size)
    mean = _mean_multiply_adds(net.architecture, data.training_sizes, length.epochs)
    return Preview(
        net=title_of(net.architecture),
        parameters=_count(weights),
        size=size,
        multiply_adds=forward,
        images={name: len(split) for name, split in data.splits.items()},
        batch_size=data.train_batch_size(),
        devices=trainer.world_size,
        accumulated=trainer.accumulate_grad_batches,
        step_images=step_images,
        lr=effective_lr(classifier.recipe.optimizer, step_images),
        steps_per_epoch=length.steps_per_epoch,
        steps=length.steps,
        epochs=length.epochs,
        trained_images=images,
        class_weights=named(classes.weights, data.labels) if classes else None,
        groups=probe.groups,
        frozen=_count(weight for weight in weights if not weight.requires_grad),
        flops=round(3 * 2 * mean * images),
        device=device_name(trainer.strategy.root_device),
        step_seconds=probe.step_seconds,
        seconds=probe.step_seconds * (length.steps * mean / forward + evaluated / step_images),
        validations=probe.validations,
    )


def _batches(trainer: L.Trainer, data: DataModule) -> int:
    """Return the training batches of the whole run on one device."""
    length = run_length(trainer, data)
    epochs, steps = divmod(length.steps, length.steps_per_epoch)
    an_epoch = int(trainer.num_training_batches)
    return epochs * an_epoch + min(an_epoch, steps * trainer.accumulate_grad_batches)


def _mean_multiply_adds(architecture: Architecture, sizes: Knots, epochs: float) -> float:
    """Return a forward pass's multiply-adds, averaged over the epochs of a run."""
    shares: defaultdict[int, float] = defaultdict(float)
    for epoch in range(math.ceil(epochs)):
        shares[training_size(sizes, epoch)] += min(1.0, epochs - epoch)
    return sum(share * multiply_adds(architecture, n) for n, share in shares.items()) / epochs


def _group(group: dict[str, Any]) -> Group:
    return Group(
        name=str(group.get("name", "all")),
        lr=float(group["initial_lr"]),
        weight_decay=float(group["weight_decay"]),
        tensors=len(group["params"]),
        parameters=_count(group["params"]),
    )


def _count(tensors: Any) -> int:
    return sum(tensor.numel() for tensor in tensors)
