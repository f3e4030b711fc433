"""The warm-up that ends once the training error is low enough."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import Tensor, nn

from resnet_hub.data.digits import Digits
from resnet_hub.data.settings import DataSettings
from resnet_hub.errors import InvalidSetting
from resnet_hub.learning.classifier import Classifier
from resnet_hub.learning.optim import schedules
from resnet_hub.learning.optim.schedules import Length, WarmUp, factor
from resnet_hub.learning.settings import OptimizerSettings, ScheduleSettings
from resnet_hub.nets.resnet import ResNet

pytestmark = pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")

STEPS, EPOCHS, EVERY = 10, 3, 4


class Watch(Callback):
    """Keeps each step's rate, and the training error of its epoch as far as that has come."""

    def __init__(self, net: nn.Module) -> None:
        self.rates: dict[int, float] = {}
        self.errors: dict[int, float] = {}
        self._wrong: list[Tensor] = []
        net.register_forward_hook(self._keep)

    def _keep(self, net: nn.Module, inputs: Any, logits: Tensor) -> None:
        self._answers = logits.argmax(1)

    def on_train_epoch_start(self, *_: Any) -> None:
        self._wrong = []

    def on_train_batch_start(self, trainer: L.Trainer, module: Classifier, *_: Any) -> None:
        self.rates[trainer.global_step] = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_batch_end(
        self, trainer: L.Trainer, module: Classifier, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._wrong.append(self._answers != batch.labels)
        self.errors[trainer.global_step] = float(torch.cat(self._wrong).float().mean())


def train(bound: float, *callbacks: Callback, stop: int = -1, **how: Any) -> Watch:
    torch.set_num_threads(1)  # on so small images threads wait longer than they work
    torch.manual_seed(0)
    net = ResNet("cifar_resnet20", in_channels=1)
    watch = Watch(net)
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=EPOCHS,
        max_steps=stop,
        limit_train_batches=STEPS,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=bool(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[watch, *callbacks],
    )
    classifier = Classifier(
        net,
        optimizer=OptimizerSettings(lr=0.1),
        schedule=ScheduleSettings(
            name="multistep",
            unit="iterations",
            milestones=(25,),
            warmup_factor=0.1,
            warmup_until_error=bound,
        ),
    )
    trainer.fit(
        classifier, Digits(DataSettings(name="Digits", batch_size=16, pad=1), seed=3), **how
    )
    return watch


def looks() -> list[int]:
    return [s for s in range(1, STEPS * EPOCHS + 1) if (s % STEPS) % EVERY == 0]


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(schedules, "LOOK_EVERY", EVERY)


@pytest.mark.parametrize("bound", [0.9, 0.8, 0.78, 0.5])
def test_it_ends_at_the_first_look_at_an_error_below_the_bound_and_for_good(bound: float):
    watch = train(bound)
    low = [step for step in looks() if watch.errors[step] < bound]
    ended = low[0] if low else STEPS * EPOCHS
    expected = {s: 0.01 if s < ended else 0.1 if s < 25 else 0.01 for s in range(STEPS * EPOCHS)}
    assert watch.rates == pytest.approx(expected)


@pytest.mark.parametrize("stop", [3, 12, 19, 21])
def test_a_run_that_is_gone_on_with_knows_whether_it_has_ended(tmp_path: Path, stop: int):
    whole = train(0.8)
    assert min(whole.rates.values()) < 0.02 < max(whole.rates.values())
    saver = ModelCheckpoint(tmp_path, "last", every_n_train_steps=stop)
    first = train(0.8, saver, stop=stop)
    second = train(0.8, ckpt_path=tmp_path / "last.ckpt")
    assert {**first.rates, **second.rates} == whole.rates


def test_the_110_layer_net_of_the_paper_keeps_its_milestones():
    settings = ScheduleSettings(
        name="multistep",
        unit="iterations",
        milestones=(32_000, 48_000),
        warmup_factor=0.1,
        warmup_until_error=0.8,
    )
    length = Length(steps=64_000, steps_per_epoch=352)
    steps = (0, 401, 402, 31_999, 32_000, 48_000)
    rates = [0.1 * factor(settings, step, length, warmed=402) for step in steps]
    assert rates == pytest.approx([0.01, 0.01, 0.1, 0.1, 0.01, 0.001])
    assert factor(settings, 40_000, length) == 0.1  # it never learnt enough


def test_there_is_no_training_error_to_wait_for_under_mixing():
    settings = ScheduleSettings(warmup_until_error=0.8)
    with pytest.raises(InvalidSetting, match="warmup_until_error: there is no training error"):
        WarmUp(settings, mixed=True)
