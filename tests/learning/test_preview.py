"""What a run would be, against what the run then is; the time by a clock that the tests move."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from resnet_hub.cli.layers import Layer, read_flags
from resnet_hub.cli.recipes import read_recipe
from resnet_hub.counting import multiply_adds
from resnet_hub.errors import DataMissing, InvalidSetting
from resnet_hub.learning.fit import build
from resnet_hub.learning.preview import Preview, preview
from resnet_hub.learning.settings import Recipe
from resnet_hub.learning.trainer import make_trainer
from resnet_hub.zoo import ARCHITECTURES

FIRST, STEP = 7.0, 2.0  # seconds of the first step, and of each later one


def recipe(*flags: str) -> Recipe:
    torch.set_num_threads(1)
    return read_recipe(["quickstart"], read_flags(flags)[0])


def clock() -> Iterator[float]:
    now = 100.0
    yield now
    now += FIRST
    while True:
        yield now
        now += STEP


def foreseen(*flags: str) -> Preview:
    times = clock()
    return preview(recipe(*flags), clock=lambda: next(times))


class Count(Callback):
    """Images and steps trained on, and images validated."""

    def __init__(self) -> None:
        self.trained = self.validated = self.validations = self.steps = 0

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, _: int):
        self.trained += len(batch.labels)
        self.steps = trainer.global_step

    def on_validation_start(self, *_: Any) -> None:
        self.validations += 1


@pytest.mark.parametrize(
    "flags",
    [
        ["--trainer.max_epochs=2", "--trainer.limit_train_batches=5"],
        # 10 batches make steps of 4, 4 and 2; the second epoch ends after its second step.
        [
            *("--trainer.max_epochs=-1", "--trainer.max_steps=5"),
            *("--trainer.limit_train_batches=10", "--trainer.accumulate_grad_batches=4"),
        ],
        ["--trainer.max_epochs=3", "--trainer.limit_train_batches=2", "--data.batch_size=40"],
        [
            *("--trainer.max_epochs=2", "--trainer.limit_train_batches=6"),
            "--trainer.val_check_interval=3",
        ],
        [
            *("--trainer.max_epochs=4", "--trainer.check_val_every_n_epoch=2"),
            *("--trainer.limit_train_batches=0.05", "--data.batch_size=50"),
        ],
    ],
)
def test_steps_images_and_validations_are_those_of_the_run(flags: list[str]):
    found = foreseen(*flags)
    count, wanted = Count(), recipe(*flags)
    data, classifier = build(wanted)
    still = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    options = {**wanted.trainer, **still, "enable_checkpointing": False, "num_sanity_val_steps": 0}
    make_trainer({**options, "callbacks": [count]}).fit(classifier, data)
    assert (found.steps, found.trained_images) == (count.steps, count.trained)
    assert found.validations == count.validations


def test_the_first_step_is_not_counted_and_evaluations_go_at_trainings_pace():
    found = foreseen("--trainer.max_epochs=10")
    assert found.images == {"train": 1257, "val": 180, "test": 360}
    assert found.step_seconds == STEP
    # 39 batches of 32 an epoch; then every image of ten validations and a test.
    evaluated = (10 * 180 + 360) / 32
    assert found.seconds == pytest.approx(STEP * (390 + evaluated))


@pytest.mark.parametrize(("steps", "seconds"), [(1, FIRST), (2, STEP), (3, STEP)])
def test_a_run_of_fewer_steps_is_probed_by_what_it_has(steps: int, seconds: float):
    found = foreseen("--trainer.max_epochs=-1", f"--trainer.max_steps={steps}")
    assert (found.steps, found.step_seconds) == (steps, seconds)


def test_least_lengths_do_not_keep_the_probe_from_ending():
    found = foreseen("--trainer.min_epochs=15", "--trainer.min_steps=500")
    assert (found.steps, found.step_seconds) == (585, STEP)


def test_a_net_of_20_layers_decays_in_its_20_weights_alone():
    found = foreseen("--trainer.max_epochs=1", "--optimizer.decay=no_norm_bias")
    decayed, free = found.groups
    assert (decayed.name, decayed.tensors, decayed.weight_decay) == ("decayed", 20, 5e-4)
    # 19 BatchNorms of two tensors, 7 of 16, 6 of 32 and 6 of 64 channels, and ten biases.
    assert (free.name, free.tensors, free.weight_decay) == ("free", 39, 0)
    assert free.parameters == 2 * (7 * 16 + 6 * 32 + 6 * 64) + 10
    assert decayed.parameters + free.parameters == found.parameters
    assert found.frozen == 0


def test_the_learning_rate_follows_the_images_of_a_step():
    flags = ("--optimizer.scaled=true", "--trainer.accumulate_grad_batches=4")
    found = foreseen(*flags, "--data.batch_size=64")
    assert (found.batch_size, found.devices, found.accumulated) == (64, 1, 4)
    assert found.step_images == 256
    assert found.lr == found.groups[0].lr == pytest.approx(0.1)
    assert foreseen(*flags, "--data.batch_size=32").lr == pytest.approx(0.05)


def test_training_is_three_forward_passes_an_image_of_two_operations_a_multiply_add():
    found = foreseen("--trainer.max_epochs=1", "--trainer.limit_train_batches=4")
    assert found.size == 8
    assert found.trained_images == 128
    assert found.flops == 6 * found.multiply_adds * 128


def test_images_that_grow_cost_more_in_each_epoch():
    flags = ("--trainer.max_epochs=2", "--trainer.limit_train_batches=4")
    found = foreseen(*flags, "--data.sizes=[[0, 8], [1, 16]]")
    grown = multiply_adds(replace(ARCHITECTURES["cifar_resnet20"].architecture, in_channels=1), 16)
    assert found.size == 8
    assert found.flops == 6 * 128 * (found.multiply_adds + grown)
    steps = 4 * (1 + grown / found.multiply_adds)
    assert found.seconds == pytest.approx(STEP * (steps + (2 * 180 + 360) / 32))


def test_what_does_not_learn_at_first_is_counted():
    found = foreseen("--trainer.max_epochs=1", "--freezing.freeze=all_but_head")
    assert found.parameters - found.frozen == 64 * 10 + 10


def test_a_probe_changes_no_recipe_and_fetches_no_data(tmp_path: Path):
    wanted = recipe(f"--data={{name: Cifar10, root: {tmp_path}, augment: none}}")
    before = replace(wanted)
    with pytest.raises(DataMissing, match="CIFAR-10"):
        preview(wanted)
    assert wanted == before
    assert list(tmp_path.iterdir()) == []


def test_what_a_run_would_refuse_is_refused():
    with pytest.raises(InvalidSetting, match="nothing to train"):
        foreseen("--trainer.limit_train_batches=0")
    with pytest.raises(InvalidSetting, match="give net"):
        preview(read_recipe(["quickstart"], Layer({"net": {"name": None}})))
