"""The closed forms against torch's own schedulers, step by step, and against the papers."""

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
)

from resnet_hub.learning.optim.schedules import Length, factor
from resnet_hub.learning.settings import ScheduleSettings

TEN_EPOCHS = Length(steps=70, steps_per_epoch=7)


def factors(settings: ScheduleSettings, length: Length = TEN_EPOCHS) -> list[float]:
    return [factor(settings, step, length) for step in range(length.steps)]


def torchs(kind: type[LRScheduler], steps: int = 70, **how: object) -> list[float]:
    """The learning rates of a scheduler of torch's over a rate of 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, rates = kind(optimizer, **how), []
    for _ in range(steps):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return rates


def test_constant_is_the_learning_rate_itself():
    assert factors(ScheduleSettings()) == [1.0] * 70


def test_multistep_in_epochs_is_torchs_in_steps():
    settings = ScheduleSettings(name="multistep", milestones=(3, 5.5, 8), gamma=0.2)
    expected = torchs(MultiStepLR, milestones=[21, 39, 56], gamma=0.2)
    assert factors(settings) == pytest.approx(expected)  # 5.5 epochs are 38.5 steps


def test_multistep_in_iterations_is_torchs():
    settings = ScheduleSettings(name="multistep", unit="iterations", milestones=(10, 64))
    expected = torchs(MultiStepLR, milestones=[10, 64], gamma=0.1)
    assert factors(settings) == pytest.approx(expected)


@pytest.mark.parametrize("floor", [0.0, 0.05])
def test_cosine_is_torchs(floor: float):
    settings = ScheduleSettings(name="cosine", floor=floor)
    expected = torchs(CosineAnnealingLR, T_max=70, eta_min=floor)
    assert factors(settings) == pytest.approx(expected, abs=1e-12)


def test_a_linear_warm_up_is_torchs():
    settings = ScheduleSettings(warmup=2, warmup_factor=0.1)
    expected = torchs(LinearLR, start_factor=0.1, total_iters=14)
    assert factors(settings) == pytest.approx(expected)


def test_a_constant_warm_up_is_torchs():
    settings = ScheduleSettings(
        warmup=9, unit="iterations", warmup_shape="constant", warmup_factor=0.1
    )
    expected = torchs(ConstantLR, factor=0.1, total_iters=9)
    assert factors(settings) == pytest.approx(expected)


def test_cosine_after_a_warm_up_begins_where_the_warm_up_ends():
    settings = ScheduleSettings(name="cosine", warmup=2, warmup_factor=0.01, floor=0.1)
    up = torchs(LinearLR, steps=14, start_factor=0.01, total_iters=14)
    down = torchs(CosineAnnealingLR, steps=56, T_max=56, eta_min=0.1)
    assert factors(settings) == pytest.approx([*up, *down])


def test_multistep_counts_its_milestones_from_the_runs_beginning_not_the_warm_ups_end():
    settings = ScheduleSettings(name="multistep", milestones=(4,), warmup=3, warmup_factor=0.01)
    up = torchs(LinearLR, steps=21, start_factor=0.01, total_iters=21)
    assert factors(settings) == pytest.approx([*up, *[1.0] * 7, *[0.1] * 42])


@pytest.mark.parametrize(("unit", "warmup"), [("epochs", 3), ("iterations", 21)])
def test_onecycle_is_straight_up_and_straight_down(unit: str, warmup: float):
    settings = ScheduleSettings(
        name="onecycle", unit=unit, warmup=warmup, warmup_factor=0.02, floor=0.004
    )
    expected = np.interp(np.arange(70), [0, 21, 70], [0.02, 1, 0.004])
    assert factors(settings) == pytest.approx(expected)


def test_the_110_layer_net_of_the_paper_warms_up_for_400_iterations():
    # 1512.03385 §4.2: 0.01 for 400 iterations, then 0.1, divided by 10 at 32k and 48k of 64k.
    settings = ScheduleSettings(
        name="multistep",
        unit="iterations",
        milestones=(32_000, 48_000),
        warmup=400,
        warmup_shape="constant",
        warmup_factor=0.1,
    )
    length = Length(steps=64_000, steps_per_epoch=391)
    rates = {
        step: 0.1 * factor(settings, step, length)
        for step in (0, 399, 400, 31_999, 32_000, 47_999, 48_000, 63_999)
    }
    assert list(rates.values()) == pytest.approx([0.01, 0.01, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


@pytest.mark.parametrize("name", ["constant", "multistep", "cosine", "onecycle"])
def test_no_step_of_any_schedule_is_lost_to_a_rate_of_zero(name: str):
    milestones = (5,) if name == "multistep" else ()
    settings = ScheduleSettings(name=name, warmup=2, milestones=milestones)
    assert min(factors(settings)) > 0


@pytest.mark.parametrize("name", ["constant", "cosine", "onecycle"])
@pytest.mark.parametrize("steps", [1, 5, 14, 15])
def test_a_run_shorter_than_its_warm_up_only_warms_up(name: str, steps: int):
    settings = ScheduleSettings(name=name, warmup=2, warmup_factor=0.1)
    found = factors(settings, Length(steps=steps, steps_per_epoch=7))
    up = torchs(LinearLR, steps=steps, start_factor=0.1, total_iters=14)
    assert found == pytest.approx(up)


def test_a_step_past_the_end_stays_at_the_floor():
    settings = ScheduleSettings(name="cosine", floor=0.1)
    assert factor(settings, 71, TEN_EPOCHS) == pytest.approx(0.1)


def test_a_runs_length_is_known_in_epochs():
    assert Length(steps=70, steps_per_epoch=28).epochs == 2.5
