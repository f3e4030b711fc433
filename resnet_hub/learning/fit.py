"""A whole run: from a recipe to a trained, tested and exported model folder."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers.logger import Logger

from resnet_hub.data.module import DataModule, open_data
from resnet_hub.errors import CorruptFile, InvalidSetting
from resnet_hub.learning.classifier import Classifier
from resnet_hub.learning.measure import measure
from resnet_hub.learning.memory import release_at_once
from resnet_hub.learning.precise_bn import make_precise
from resnet_hub.learning.processes.stopping import StopCleanly, interruptible
from resnet_hub.learning.reporting.journal import Journal, MetricsFile
from resnet_hub.learning.reporting.progress import Progress, RunBar
from resnet_hub.learning.saving.checkpoints import (
    FolderCheckpoints,
    finished_epochs,
    read_training_checkpoint,
)
from resnet_hub.learning.saving.keeper import Keeper
from resnet_hub.learning.saving.resuming import (
    check_same_classes,
    check_same_run,
    clear_later,
    newest_checkpoint,
    situation_of,
)
from resnet_hub.learning.saving.run import Run
from resnet_hub.learning.settings import Recipe
from resnet_hub.learning.trainer import (
    hardware,
    instance,
    losses_named,
    make_trainer,
    refusals_named,
)
from resnet_hub.nets.resnet import ResNet
from resnet_hub.randomness import key_of
from resnet_hub.weights.card import Card, read_card
from resnet_hub.weights.hub import resolve
from resnet_hub.weights.provenance import Provenance, software
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
        if resume:
            run.check_places()
        checkpoint, saved = newest_checkpoint(run, say) if resume else (None, {})
        data, classifier = build(recipe)
        keeper = Keeper(run, recipe.checkpoint, monitor="val/top1" if data.selects else None)
        trainer = _build_trainer(recipe, run, keeper, bar=bar, say=say)
        if recipe.net.checkpoint_blocks and trainer.strategy.root_device.type == "cpu":
            release_at_once()
        keeper.situation = situation_of(trainer, data, recipe)
        check_same_classes(saved, data)
        for difference in check_same_run(saved, recipe, keeper.situation, allowed=allow_changed):
            say(f"changed: {difference}")
        if checkpoint and trainer.is_global_zero:
            clear_later(run, saved["global_step"], say)
        del saved
        say(f"run {run.folder}")
        with refusals_named(), losses_named(data, train=True):
            trainer.fit(classifier, data, ckpt_path=checkpoint, weights_only=True)
        return _finish(recipe, run, trainer, classifier, data, say)


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
        net = ResNet.from_pretrained(
            origin, classes=data.labels, in_channels=channels, fresh_head=settings.fresh_head
        )
        if settings.name and name_of(net.architecture) != settings.name:
            raise InvalidSetting(f"net.name: {origin} holds no {settings.name}")
        net.train()
    else:
        net = ResNet(
            origin,
            classes=len(data.labels),
            in_channels=channels,
            form=settings.form,
            shortcut=settings.shortcut,
            zeros=settings.zeros,
            shortcut_gate=settings.shortcut_gate,
            gate_bias=settings.gate_bias,
            shortcut_scale=settings.shortcut_scale,
            residual_scale=settings.residual_scale,
            zero_init_residual=settings.zero_init_residual,
        )
    net.stochastic_depth = settings.stochastic_depth
    net.shortcut_dropout = settings.shortcut_dropout
    net.checkpoint_blocks = settings.checkpoint_blocks
    return data, Classifier(net, **recipe.learning())


def _build_trainer(recipe: Recipe, run: Run, keeper: Keeper, *, bar: bool, say: Say) -> L.Trainer:
    bar = recipe.trainer.get("enable_progress_bar", bar)
    metrics = MetricsFile(run.metrics)
    progress = Progress(metrics, say, lines=not bar, heartbeat=recipe.progress.heartbeat)
    callbacks: list[Callback] = [
        Journal(run, metrics),
        progress,
        *([RunBar(progress)] if bar else []),
        *(instance(entry, "callbacks", Callback) for entry in recipe.callbacks),
        StopCleanly(keeper.save, say, hold=True),  # behind those whose state it saves
        keeper,
    ]
    options: dict[str, Any] = {
        "num_sanity_val_steps": 0,
        "enable_model_summary": False,
        "enable_progress_bar": bar,
        **recipe.trainer,
    }
    return make_trainer(
        {
            **options,
            "logger": [metrics, *(instance(entry, "logger", Logger) for entry in recipe.logger)],
            "callbacks": callbacks,
            "plugins": [FolderCheckpoints(recipe.to_dict())],
            "default_root_dir": run.folder,
        },
        timeout=recipe.distributed.timeout,
    )


def _finish(
    recipe: Recipe,
    run: Run,
    trainer: L.Trainer,
    classifier: Classifier,
    data: DataModule,
    say: Say,
) -> Result:
    run = Run(Path(trainer.strategy.broadcast(str(run.folder))))
    last, content = run.newest(), _chosen(run, say)
    epochs = finished_epochs(read_training_checkpoint(last))
    classifier.load_state_dict(content["state_dict"])
    if recipe.model.precise_bn:
        make_precise(trainer, classifier, data, epoch=finished_epochs(content) or 0)
    origin = Provenance(
        source=f"run {run.folder}",
        recipe=recipe.to_dict(),
        commit=_commit(),
        seed=recipe.seed,
        epochs=finished_epochs(content),
        scores=(measure(trainer, classifier, data),),
        parent=recipe.net.weights,
        versions=software(),
        hardware=hardware(trainer),
    )
    if trainer.is_global_zero:
        classifier.finished.save_pretrained(run.model, provenance=origin)
    trainer.strategy.barrier("exported")
    return Result(run, read_card(run.model), epochs)


def _chosen(run: Run, say: Say) -> dict[str, Any]:
    """Return the checkpoint that is exported: the newest, where the best was damaged meanwhile."""
    try:
        return read_training_checkpoint(run.chosen())
    except CorruptFile as error:
        if run.chosen() == run.newest():
            raise
        say(f"left out, and the newest weights are exported: {error}")
        return read_training_checkpoint(run.newest())


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
