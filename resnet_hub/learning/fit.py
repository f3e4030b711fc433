"""A whole run: from a recipe to a trained, tested and exported model folder."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers.logger import Logger

from resnet_hub.data.module import DataModule, open_data
from resnet_hub.data.workers import workers_named
from resnet_hub.errors import InvalidSetting
from resnet_hub.learning.checkpoints import (
    FolderCheckpoints,
    finished_epochs,
    read_training_checkpoint,
)
from resnet_hub.learning.classifier import Classifier
from resnet_hub.learning.fingerprints import Witness
from resnet_hub.learning.journal import Journal, MetricsFile
from resnet_hub.learning.keeper import Keeper
from resnet_hub.learning.memory import memory_named
from resnet_hub.learning.progress import Progress, RunBar
from resnet_hub.learning.resuming import (
    check_same_classes,
    check_same_run,
    clear_later,
    newest_checkpoint,
    situation_of,
)
from resnet_hub.learning.run import Run
from resnet_hub.learning.settings import Recipe
from resnet_hub.learning.stopping import StopCleanly, interruptible
from resnet_hub.learning.trainer import make_trainer
from resnet_hub.nets.resnet import ResNet
from resnet_hub.randomness import key_of
from resnet_hub.weights.card import Card, read_card
from resnet_hub.weights.hub import resolve
from resnet_hub.weights.provenance import Provenance, Receipt, Score, software
from resnet_hub.zoo import name_of

Say = Callable[[str], None]


@dataclass(frozen=True)
class Result:
    """What a finished run has to show.

    Attributes:
        run: The run.
        card: The exported model's card, its score included.
        epochs: Whole epochs trained; the card says which one was exported.
    """

    run: Run
    card: Card
    epochs: int | None


def fit(
    recipe: Recipe, run: Run, *, resume: bool, bar: bool, say: Say, allow_changed: bool = False
) -> Result:
    """Train by a recipe, then test and export.

    Args:
        recipe: The resolved recipe.
        run: The run's folder; only rank 0's is written to.
        resume: Go on from the run's newest whole checkpoint.
        bar: Show a progress bar instead of a line an epoch.
        say: Takes lines for the person who waits.
        allow_changed: Go on by a recipe, or on data or a number of processes, that have changed.

    Raises:
        Interrupted: Stopped by a signal; in training after saving.
        Diverged: A step or the weights were not finite; what was saved before is.
        ResNetHubError: The recipe, the data, the weights or the checkpoint cannot be used.
    """
    with interruptible():
        checkpoint, saved = newest_checkpoint(run, say) if resume else (None, {})
        data, classifier = build(recipe)
        keeper = Keeper(run, recipe.checkpoint, monitor="val/top1" if data.selects else None)
        trainer = _build_trainer(recipe, run, keeper, bar=bar, say=say)
        keeper.situation = situation_of(trainer, data, recipe.schedule)
        check_same_classes(saved, data)
        for difference in check_same_run(saved, recipe, keeper.situation, allowed=allow_changed):
            say(f"changed: {difference}")
        if checkpoint and trainer.is_global_zero:
            clear_later(run, saved["global_step"], say)
        del saved
        say(f"run {run.folder}")
        with _refusals_named(), _losses_named(data, train=True):
            trainer.fit(classifier, data, ckpt_path=checkpoint, weights_only=True)
        return _finish(recipe, run, trainer, classifier, data)


def build(recipe: Recipe) -> tuple[DataModule, Classifier]:
    """Open a recipe's data and build its net.

    Raises:
        InvalidSetting: The net is not named.
        ResNetHubError: The data or the weights cannot be used.
    """
    settings, preprocess = recipe.net, None
    origin = settings.weights or settings.name
    if not origin:
        raise InvalidSetting(
            "net: give net.name (`resnet-hub list` shows them) or net.weights, a model folder"
        )
    if settings.weights:
        preprocess = read_card(resolve(origin)).preprocess
    data = open_data(recipe.data, seed=recipe.seed, preprocess=preprocess)
    data.prepare_data()
    data.open()
    channels = data.preprocess.channels
    torch.manual_seed(key_of("weights", recipe.seed))
    if settings.weights:
        net = ResNet.from_pretrained(origin, classes=data.labels, in_channels=channels)
        if settings.name and name_of(net.architecture) != settings.name:
            raise InvalidSetting(f"net.name: {origin} holds no {settings.name}")
        net.train()
    else:
        net = ResNet(
            origin,
            classes=len(data.labels),
            in_channels=channels,
            shortcut=settings.shortcut,
            zeros=settings.zeros,
            zero_init_residual=settings.zero_init_residual,
        )
    net.stochastic_depth = settings.stochastic_depth
    net.checkpoint_blocks = settings.checkpoint_blocks
    classifier = Classifier(
        net,
        model=recipe.model,
        optimizer=recipe.optimizer,
        schedule=recipe.schedule,
        seed=recipe.seed,
    )
    return data, classifier


def measure(trainer: L.Trainer, classifier: Classifier, data: DataModule) -> Score:
    """Score a classifier's finished net on ``data.tested``, each image once; same on every rank.

    The score has a receipt unless ``trainer.limit_test_batches`` leaves images out.

    Raises:
        InvalidSetting: The trainer's options leave no image.
    """
    witness = Witness()
    with _refusals_named(), _losses_named(data, train=False), _watching(trainer, witness):
        results = trainer.test(classifier, data, verbose=False)
    values = results[0] if results else {"test/n": 0}
    n = round(values["test/n"])
    if n == 0:
        raise InvalidSetting("trainer.limit_test_batches, or the data: no image to measure on")
    # Logged values are float32; of a known n the fraction is exact.
    top1, top5 = (round(values[f"test/{name}"] * n) / n for name in ("top1", "top5"))
    limit = trainer.limit_test_batches
    whole = isinstance(limit, float) and limit == 1  # the integer is one batch
    receipt = Receipt(
        **witness.found,
        preprocess=data.preprocess,
        precision=str(trainer.precision),
        device=trainer.strategy.root_device.type,
        versions=software(),
    )
    return Score(data=data.measured, top1=top1, top5=top5, n=n, receipt=receipt if whole else None)


def _build_trainer(recipe: Recipe, run: Run, keeper: Keeper, *, bar: bool, say: Say) -> L.Trainer:
    bar = recipe.trainer.get("enable_progress_bar", bar)
    metrics = MetricsFile(run.metrics)
    callbacks: list[Callback] = [
        Journal(run, metrics),
        progress := Progress(metrics, say, lines=not bar, heartbeat=recipe.progress.heartbeat),
        StopCleanly(keeper.save, say),
        *(_instance(entry, "callbacks", Callback) for entry in recipe.callbacks),
        keeper,
    ]
    if bar:
        callbacks.append(RunBar(progress))
    options: dict[str, Any] = {
        "num_sanity_val_steps": 0,
        "enable_model_summary": False,
        "enable_progress_bar": bar,
        **recipe.trainer,
    }
    return make_trainer(
        {
            **options,
            "logger": [metrics, *(_instance(entry, "logger", Logger) for entry in recipe.logger)],
            "callbacks": callbacks,
            "plugins": [FolderCheckpoints(recipe.to_dict())],
            "default_root_dir": run.folder,
        },
        timeout=recipe.distributed.timeout,
    )


def _finish(
    recipe: Recipe, run: Run, trainer: L.Trainer, classifier: Classifier, data: DataModule
) -> Result:
    run = Run(Path(trainer.strategy.broadcast(str(run.folder))))
    last, content = run.newest(), read_training_checkpoint(run.chosen())
    epochs = finished_epochs(read_training_checkpoint(last))
    classifier.load_state_dict(content["state_dict"])
    origin = Provenance(
        source=f"run {run.folder}",
        recipe=recipe.to_dict(),
        commit=_commit(),
        seed=recipe.seed,
        epochs=finished_epochs(content),
        scores=(measure(trainer, classifier, data),),
        parent=recipe.net.weights,
        versions=software(),
    )
    if trainer.is_global_zero:
        classifier.finished.save_pretrained(run.model, provenance=origin)
    trainer.strategy.barrier("exported")
    return Result(run, read_card(run.model), epochs)


@contextmanager
def _watching(trainer: L.Trainer, callback: Callback) -> Iterator[None]:
    callbacks = cast(Any, trainer).callbacks
    callbacks.append(callback)
    try:
        yield
    finally:
        callbacks.remove(callback)


@contextmanager
def _losses_named(data: DataModule, *, train: bool) -> Iterator[None]:
    """Let a lost loader's worker, and memory that is not there, be one line.

    Raises:
        WorkerLost: A worker was killed, or hangs.
        OutOfMemory: There was not enough memory for a batch.
    """
    with workers_named(data.described, data.settings.timeout), memory_named(data, train=train):
        yield


@contextmanager
def _refusals_named() -> Iterator[None]:
    """Let what Lightning refuses of its options be one line.

    Raises:
        InvalidSetting: Lightning refuses them.
    """
    try:
        yield
    except MisconfigurationException as error:
        raise InvalidSetting(f"trainer: {str(error).splitlines()[0]}") from error


def _instance(entry: Any, section: str, kind: type) -> Any:
    if isinstance(entry, str):
        entry = {"class_path": entry}
    path = entry.get("class_path", "") if isinstance(entry, dict) else ""
    module, _, name = str(path).rpartition(".")
    if not module:
        raise InvalidSetting(
            f"{section}: {entry!r} needs a class_path such as lightning.pytorch.callbacks.Timer"
        )
    try:
        found = getattr(import_module(module), name)
        if not (isinstance(found, type) and issubclass(found, kind)):
            raise TypeError(f"it is no Lightning {kind.__name__}")  # and is not called
        return found(**entry.get("init_args", {}))
    except Exception as error:  # anyone's code
        raise InvalidSetting(f"{section}: {path} cannot be made ({error})") from error


def _commit() -> str | None:
    """Return the commit of this package's code, where it runs from a checkout.

    It ends in ``-dirty`` where tracked files were changed since.
    """
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists():
        # Installed into an environment that lies in somebody's repository, its commit says nothing.
        return None
    command = ["git", "-C", str(checkout), "describe", "--always", "--abbrev=40", "--dirty"]
    try:
        done = subprocess.run(  # noqa: S603 - nothing of it comes from outside
            [*command, "--exclude=*"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
