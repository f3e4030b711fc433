"""Searches for a learning rate and a batch size by Lightning's Tuner, and what it leaves open.

Its own suggestion of a learning rate is not used. It differentiates the loss by the rate and not by
the rate's logarithm, so that noise at the smallest rates, which lie closest, wins; and its smoothed
losses begin at half their value, and lag behind by tens of steps.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.tuner import lr_finder
from lightning.pytorch.tuner.tuning import Tuner
from numpy.typing import NDArray
from torch import Tensor

from resnet_hub.data.module import DataModule
from resnet_hub.errors import Diverged, InvalidSetting, OutOfMemory
from resnet_hub.learning.classifier import Classifier
from resnet_hub.learning.fit import build
from resnet_hub.learning.plan import images_per_step
from resnet_hub.learning.processes.stopping import interruptible
from resnet_hub.learning.saving.checkpoints import FolderCheckpoints
from resnet_hub.learning.settings import Recipe
from resnet_hub.learning.trainer import device_name, losses_named, make_trainer, refusals_named

LARGEST_BATCH = 8192
"""Images beyond which the Tuner does not go."""
_SMALLEST_BATCH = 2
_FEWEST = 20  # steps of which a curve can be seen
_NEVER = 10**9  # epochs
_LENGTHS = ("min_epochs", "min_steps", "max_time", "val_check_interval", "profiler")
_WINDOW = 0.1  # of the steps, over which losses are averaged
_CLEAR = 6  # standard errors; of noise alone the means of ten windows lie up to five apart

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Rates:
    """A search for a learning rate.

    Attributes:
        rates: Learning rate of each step, rising.
        losses: Loss of each step.
        smoothed: Losses averaged over their neighbours.
        suggestion: Where the smoothed loss falls most steeply over the rate's logarithm; ``None``
            where it falls by no more than its noise.
        lowest: The rate at which the smoothed loss is least.
        is_open: Whether the loss still fell at the last rates.
        step_images: Images a step, over all devices and accumulated batches.
    """

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    suggestion: float | None
    lowest: float
    is_open: bool
    step_images: int


@dataclass(frozen=True)
class Batch:
    """A search for a batch size.

    Attributes:
        size: Largest number of images a device that was trained on; a power of two, or the whole
            training split.
        is_edge: Whether twice as many did not fit; else nothing larger was tried.
        device: What it fits on.
    """

    size: int
    is_edge: bool
    device: str


def find_lr(recipe: Recipe, *, least: float, most: float, steps: int, bar: bool) -> Rates:
    """Train for some steps at a rising learning rate, and return what became of the loss.

    The range test of 1506.01186 §3.3 on a logarithmic scale, by Lightning's ``Tuner.lr_find``.
    Each parameter group keeps its share of the rate. Nothing is left but what is returned.

    Args:
        recipe: The recipe; its schedule, callbacks and loggers are left out.
        least: First learning rate in force, above 0.
        most: Last one.
        steps: Optimizer steps.
        bar: Show a progress bar.

    Raises:
        InvalidSetting: No such range, or too few steps.
        Diverged: The weights became infinite.
        Interrupted: Stopped by a signal.
        ResNetHubError: The recipe or its data cannot be used.
    """
    if not 0 < least < most < math.inf:
        raise InvalidSetting(f"tune lr: {least:g} to {most:g} is no range of learning rates")
    if steps < _FEWEST:
        raise InvalidSetting(f"tune lr: {steps} steps show no curve; take at least {_FEWEST}")
    # Of what diverges at large rates nothing is learnt, and the search goes on.
    model = replace(recipe.model, nonfinite="skip", most_nonfinite=steps)
    recipe = replace(recipe, model=model)
    with interruptible(), _ready(recipe, steps) as (trainer, data, classifier):
        losses: list[float] = []
        # A hook of the module's own: the Tuner takes the trainer's callbacks away.
        vars(classifier)["on_train_batch_end"] = _recorder(trainer, losses)
        with _own_parts(bar=bar):
            try:
                found = Tuner(trainer).lr_find(
                    classifier,
                    datamodule=data,
                    min_lr=least,
                    max_lr=most,
                    num_training=steps,
                    update_attr=False,  # a Classifier's settings are frozen
                )
            except Diverged as error:
                raise Diverged(
                    f"tune lr: the weights became infinite on the way to {most:g}; lower --to"
                ) from error
        rates = [] if found is None else [float(rate) for rate in found.results["lr"]]
        return analysed(rates[: len(losses)], losses, images_per_step(trainer, data))


def find_batch_size(recipe: Recipe, *, most: int | None) -> Batch:
    """Double the batch until it no longer fits, by Lightning's ``Tuner.scale_batch_size``.

    Three steps are trained at each size. Nothing is left but what is returned.

    Args:
        recipe: The recipe; its callbacks and loggers are left out.
        most: Largest size to try; by default :data:`LARGEST_BATCH`. Needed on a CPU, whose memory
            ends with the process and not with an error.

    Raises:
        InvalidSetting: Several devices, no such size, or a CPU without ``most``.
        OutOfMemory: Not even the smallest batch fits.
        Interrupted: Stopped by a signal.
        ResNetHubError: The recipe or its data cannot be used.
    """
    if most is not None and not _SMALLEST_BATCH <= most <= LARGEST_BATCH:
        raise InvalidSetting(f"tune batch: --most {most} is not 2 to {LARGEST_BATCH:,}")
    # Its limit on sizes ends the search with one that was not tried; its limit on trials does not.
    trials = int(math.log2(most or LARGEST_BATCH))
    steps = 3
    with interruptible(), _ready(recipe, steps) as (trainer, data, classifier):
        device = trainer.strategy.root_device
        if trainer.world_size > 1:
            raise InvalidSetting(
                "tune batch: goes by one device; give --trainer.devices 1 --trainer.strategy auto"
            )
        if device.type == "cpu" and most is None:
            raise InvalidSetting(
                "tune batch: a CPU's memory has no edge to be felt before the system ends the "
                "process; give --most"
            )
        data.batch_size = _SMALLEST_BATCH  # else the first trial is one of the recipe's size
        try:
            size = Tuner(trainer).scale_batch_size(
                classifier,
                datamodule=data,
                mode="power",
                steps_per_trial=steps,
                init_val=_SMALLEST_BATCH,
                max_trials=trials,
                max_val=2 * LARGEST_BATCH,
            )
        except InvalidSetting as error:
            if data.batch_size > 0:
                raise
            raise OutOfMemory(f"tune batch: not even one image fits on {device}") from error
        count = len(data.split("train"))
        tried = min(size or 0, count)
        return Batch(
            size=tried,
            is_edge=tried < min(2**trials, count),
            device=device_name(device),
        )


def analysed(rates: list[float], losses: list[float], step_images: int) -> Rates:
    """Smooth the losses of rates at equal distances on a logarithmic scale, and find the descent.

    Raises:
        Diverged: There are hardly any that are finite: the search began too high.
    """
    finite = [n for n, loss in enumerate(losses) if math.isfinite(loss)]
    if len(finite) < _FEWEST:
        raise Diverged(
            f"tune lr: after {len(finite)} steps the loss was far too high; lower --from and --to"
        )
    kept, loss = [rates[n] for n in finite], np.array([losses[n] for n in finite])
    smooth, half = _smoothed(loss), _reach(len(loss))
    inner = slice(half, len(loss) - half)  # towards the ends the means are of few losses
    lowest = half + int(smooth[inner].argmin())
    suggestion = None
    # Of neighbours' differences, which know of no trend; a window's mean is that much less noisy.
    noise = float(np.diff(loss[: lowest + 1]).std()) / math.sqrt(2 * (2 * half + 1))
    if lowest > half and smooth[half:lowest].max() - smooth[lowest] > _CLEAR * noise:
        slope = _smoothed(np.gradient(smooth))  # of one step alone it is mostly noise
        suggestion = kept[half + int(slope[half:lowest].argmin())]
    return Rates(
        rates=kept,
        losses=loss.tolist(),
        smoothed=smooth.tolist(),
        suggestion=suggestion,
        lowest=kept[lowest],
        is_open=lowest == inner.stop - 1,
        step_images=step_images,
    )


def _smoothed(losses: Numbers) -> Numbers:
    """Return the means over windows around each loss, narrower towards the ends."""
    sums = np.concatenate([[0.0], losses.cumsum()])
    place = np.arange(len(losses))
    # As far to one side as to the other.
    reach = np.minimum(np.minimum(place, place[::-1]), _reach(len(losses)))
    means: Numbers = (sums[place + reach + 1] - sums[place - reach]) / (2 * reach + 1)
    return means


def _reach(count: int) -> int:
    """Return the losses that an average reaches to each side."""
    return max(1, round(count * _WINDOW / 2))


@contextmanager
def _ready(recipe: Recipe, steps: int) -> Iterator[tuple[L.Trainer, DataModule, Classifier]]:
    """Yield what trains for some steps without validation, over as many epochs as it takes."""
    data, classifier = build(recipe)
    kept = {name: value for name, value in recipe.trainer.items() if name not in _LENGTHS}
    with TemporaryDirectory(prefix="resnet-hub-") as folder:  # for the Tuner's own checkpoint
        options: dict[str, Any] = {
            **kept,
            "max_epochs": -1,
            "max_steps": steps,
            "check_val_every_n_epoch": _NEVER,
            "num_sanity_val_steps": 0,
            "enable_model_summary": False,
            "enable_progress_bar": False,
            "enable_checkpointing": False,
            "logger": False,
            "plugins": [FolderCheckpoints(recipe.to_dict())],
            "default_root_dir": folder,
        }
        trainer = make_trainer(options, timeout=recipe.distributed.timeout)
        with refusals_named(), losses_named(data, train=True):
            yield trainer, data, classifier


def _recorder(trainer: L.Trainer, losses: list[float]) -> Any:
    """Return a hook that keeps the mean loss of each step that the Tuner keeps a rate of."""
    step: list[Tensor] = []

    def on_train_batch_end(outputs: Any, batch: Any, batch_idx: int) -> None:
        step.append(outputs["loss"])
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            losses.append(float(torch.stack(step).mean()))
            step.clear()

    return on_train_batch_end


class _InProportion(lr_finder._ExponentialLR):
    """The Tuner's rising rate, of which each group takes its share as in the run."""

    def get_lr(self) -> Any:  # torch and Lightning do not agree
        rates = super().get_lr()  # `lr`, of which the Tuner keeps a list, stays the whole rate
        groups = self.optimizer.param_groups
        return [rate * group["lr_scale"] for rate, group in zip(rates, groups, strict=True)]


@contextmanager
def _own_parts(*, bar: bool) -> Iterator[None]:
    """Change two parts of the Tuner for which it has no option.

    One rate would go to all groups alike, and its bar to who does not watch.
    """
    own: Any = lr_finder
    before = own.tqdm, own._ExponentialLR
    own.tqdm, own._ExponentialLR = partial(own.tqdm, disable=not bar), _InProportion
    try:
        yield
    finally:
        own.tqdm, own._ExponentialLR = before
