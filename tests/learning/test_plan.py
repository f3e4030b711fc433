"""How long a run is, and how many images its steps have."""

from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from resnet_hub.data.digits import Digits
from resnet_hub.data.settings import DataSettings
from resnet_hub.errors import InvalidSetting
from resnet_hub.learning.classifier import Classifier
from resnet_hub.learning.optim.schedules import Length
from resnet_hub.learning.plan import images_per_step, run_length
from resnet_hub.nets.resnet import ResNet


def fit(trainer: L.Trainer, **settings: Any) -> None:
    """Train a net on the 1,257 training digits."""
    torch.set_num_threads(1)
    data = Digits(DataSettings(name="Digits", **{"batch_size": 32, "pad": 1, **settings}))
    trainer.fit(Classifier(ResNet("cifar_resnet20", in_channels=1)), data)


def make(**options: Any) -> L.Trainer:
    still = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    still |= {"enable_checkpointing": False, "num_sanity_val_steps": 0, "accelerator": "cpu"}
    return L.Trainer(**{**still, **options}, use_distributed_sampler=False)


@pytest.mark.parametrize(
    ("options", "length", "images"),
    [
        # They make 39 whole batches of 32.
        ({"limit_train_batches": None, "max_epochs": 2}, Length(78, 39), 32),
        ({"limit_train_batches": 1.0, "max_epochs": 2}, Length(78, 39), 32),
        ({"limit_train_batches": 0.25, "max_epochs": 2}, Length(18, 9), 32),
        ({"limit_train_batches": 100, "max_epochs": 2}, Length(78, 39), 32),
        (
            {"limit_train_batches": 10, "accumulate_grad_batches": 4, "max_epochs": 1},
            Length(3, 3),
            128,
        ),
        ({"limit_train_batches": 10, "max_steps": 7, "max_epochs": -1}, Length(7, 10), 32),
        ({"limit_train_batches": 10, "max_steps": 7, "max_epochs": 3}, Length(7, 10), 32),
        ({"limit_train_batches": 2, "max_steps": 7, "max_epochs": 3}, Length(6, 2), 32),
    ],
)
def test_length_and_images_are_what_lightning_then_does(
    options: dict[str, Any], length: Length, images: int
):
    seen = []

    class Ask(Callback):
        def on_train_start(self, trainer: L.Trainer, module: Classifier) -> None:
            data = trainer.datamodule
            seen.append((run_length(trainer, data), images_per_step(trainer, data)))
            trainer.should_stop = True
            trainer.limit_val_batches = 0

    trainer = make(**options, callbacks=[Ask()])
    fit(trainer)
    assert seen == [(length, images)]
    steps = -(-int(trainer.num_training_batches) // trainer.accumulate_grad_batches)
    assert steps == length.steps_per_epoch


def test_a_step_has_no_more_images_than_the_data_set():
    trainer = make(max_epochs=1, limit_val_batches=0)
    fit(trainer, batch_size=5000)
    assert images_per_step(trainer, trainer.datamodule) == 1257


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_epochs": -1}, "give max_epochs or max_steps"),
        ({"max_epochs": 0}, "nothing to train"),
        ({"max_epochs": 1, "limit_train_batches": 0}, "nothing to train"),
        (
            {"max_epochs": 1, "val_check_interval": 40},
            "val_check_interval: 40 batches are more than the 39 of an epoch",
        ),
    ],
)
def test_a_run_that_cannot_be_is_refused(options: dict[str, Any], message: str):
    with pytest.raises(InvalidSetting, match=message):
        fit(make(**options))


def test_a_validation_by_steps_may_come_after_several_epochs():
    trainer = make(max_steps=5, max_epochs=-1, limit_train_batches=2, val_check_interval=4)
    trainer.check_val_every_n_epoch = None
    fit(trainer)
    assert trainer.global_step == 5
