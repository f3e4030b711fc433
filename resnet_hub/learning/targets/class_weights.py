"""Weights of classes in the training loss: from counts or as given, divided by a step's sum."""

from collections.abc import Sequence
from typing import cast

import lightning as L
import torch
from torch import Tensor

from resnet_hub.data.loader import BatchLoader
from resnet_hub.data.module import DataModule
from resnet_hub.errors import InvalidSetting
from resnet_hub.learning.settings import ModelSettings

_KEY = "model.class_weights"
_SHOWN = 10  # classes of which each is named


class ClassWeights:
    """The classes' weights in the loss of the steps of one training.

    A step's weighted losses are divided by its images' weights, as torch's ``cross_entropy`` does
    with a batch's: those of all ranks and of all accumulated batches, because ranks and batches
    that divided by their own would not add up to the step of a single process (of one image, the
    weight would be gone). Which images make a step is known before they are read.

    Attributes:
        weights: float32 ``(classes,)``, at the scale at which they are told.

    Args:
        weights: The same.
        labels: Of the training split, int64 ``(N,)``.
    """

    def __init__(self, weights: Tensor, labels: Tensor) -> None:
        self.weights = weights
        self._of_images = weights.double()[labels]
        self._on_device, self._epoch = weights, -1
        self._means: list[float] = []  # of the steps of that epoch

    @classmethod
    def of(cls, settings: ModelSettings, data: DataModule) -> "ClassWeights | None":
        """Return what the settings make of a data set's training split; ``None`` without weights.

        Raises:
            InvalidSetting: The weights do not go with its classes.
        """
        labels = data.split("train").targets
        weights = resolved(settings, labels, data.labels)
        return None if weights is None else cls(weights, labels)

    def at(self, trainer: L.Trainer, batch_idx: int) -> Tensor:
        """Return the weights of a batch, float32 ``(classes,)``: their mean over its step is 1.

        Args:
            trainer: Trains on batches of a :class:`~resnet_hub.data.loader.BatchLoader`.
            batch_idx: The batch's number in the running epoch.
        """
        if self._epoch != trainer.current_epoch:  # also where a run goes on in the middle of one
            self._epoch, self._means = trainer.current_epoch, self._step_means(trainer)
            self._on_device = self.weights.to(trainer.strategy.root_device)
        return self._on_device / self._means[batch_idx // trainer.accumulate_grad_batches]

    def _step_means(self, trainer: L.Trainer) -> list[float]:
        order = cast(BatchLoader, trainer.train_dataloader).order
        batch = order.batch_size * order.ranks
        count = int(trainer.num_training_batches) * batch
        trained = self._of_images[order.sequence(trainer.current_epoch).indices[:count]]
        steps = torch.split(trained, batch * trainer.accumulate_grad_batches)
        return [float(step.mean()) for step in steps]


def resolved(settings: ModelSettings, targets: Tensor, labels: Sequence[str]) -> Tensor | None:
    """Return the classes' weights, float32 ``(classes,)``; ``None``: all count alike.

    ``balanced`` is n / (classes · n_c), whose mean over the n images is 1; ``effective`` is
    (1 − β) / (1 − β^n_c), whose mean over the classes is made 1 (1901.05555 §3.3).

    Args:
        settings: Which weights.
        targets: The training images' labels, int64 ``(N,)``.
        labels: Names of the classes.

    Raises:
        InvalidSetting: A class without images, or another number of weights than of classes.
    """
    rule = settings.class_weights
    if rule == "none":
        return None
    if not isinstance(rule, str):
        if len(rule) != len(labels):
            raise InvalidSetting(
                f"{_KEY}: {len(rule)} weights for {len(labels)} classes; give one for each, in the "
                f"order of {_listed(labels)}"
            )
        return torch.tensor(rule, dtype=torch.float32)
    counts = torch.bincount(targets, minlength=len(labels)).double()
    if (empty := (counts == 0).nonzero()).numel():
        raise InvalidSetting(
            f"{_KEY}: {rule} needs training images of every class, and {labels[int(empty[0])]!r} "
            f"has none ({len(empty):,} of {len(labels):,} classes); add some, or give a list of "
            "weights"
        )
    if rule == "balanced":
        return (counts.sum() / (len(counts) * counts)).float()
    weights = (1 - settings.effective_beta) / (1 - settings.effective_beta**counts)
    return (weights / weights.mean()).float()


def named(weights: Tensor, labels: Sequence[str]) -> dict[str, float]:
    """Return each class's weight by its name, to six digits, which any machine agrees on."""
    return {n: float(f"{w:.6g}") for n, w in zip(labels, weights.tolist(), strict=True)}


def worded(weights: dict[str, float]) -> str:
    """Return weights by class name in words: all of a few classes, the ends of many."""
    if len(weights) <= _SHOWN:
        return ", ".join(f"{name} {weight:.4g}" for name, weight in weights.items())
    (low, least), *_, (high, most) = sorted(weights.items(), key=lambda pair: pair[1])
    return f"from {least:.4g} ({low}) to {most:.4g} ({high}) over {len(weights):,} classes"


def _listed(labels: Sequence[str]) -> str:
    shown = ", ".join(labels[:_SHOWN])
    return f"{shown}, ..." if len(labels) > _SHOWN else shown
