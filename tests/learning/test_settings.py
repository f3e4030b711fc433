"""What a recipe may say, and what is refused at once."""

import pytest

from resnet_hub.errors import InvalidSetting
from resnet_hub.learning.settings import (
    DistillationSettings,
    MixingSettings,
    ModelSettings,
    NetSettings,
    OptimizerSettings,
    Recipe,
    ScheduleSettings,
)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (NetSettings, {"stochastic_depth": 1.0}, "net.stochastic_depth: 1.0"),
        (NetSettings, {"shortcut_dropout": 1.0}, "net.shortcut_dropout: 1.0"),
        (NetSettings, {"weights": "w", "form": "preact"}, "leave out form$"),
        (
            NetSettings,
            {"weights": "w", "shortcut_gate": "exclusive", "gate_bias": -6, "shortcut_scale": 0.0},
            "leave out shortcut_gate, gate_bias, shortcut_scale$",
        ),
        (OptimizerSettings, {"layer_decay": 0.0}, "optimizer.layer_decay: 0.0"),
        (OptimizerSettings, {"head_lr": -1.0}, "optimizer.head_lr: -1.0"),
        (OptimizerSettings, {"agc": 0.0}, "optimizer.agc: 0.0"),
        (ScheduleSettings, {"warmup_until_error": 1.0}, "schedule.warmup_until_error: 1.0"),
        (
            ScheduleSettings,
            {"name": "cosine", "warmup_until_error": 0.8},
            "schedule.warmup_until_error: needs constant or multistep",
        ),
        (
            ScheduleSettings,
            {"warmup": 2, "warmup_until_error": 0.8},
            "schedule.warmup_until_error: needs constant or multistep, and a warmup of 0",
        ),
        (NetSettings, {"checkpoint_blocks": -1}, "net.checkpoint_blocks: -1"),
        (NetSettings, {"fresh_head": True}, "net.fresh_head: needs net.weights"),
        (NetSettings, {"weights": "w", "shortcut": "C"}, "net.weights: the weights fix the net"),
        (NetSettings, {"weights": "w", "zeros": "end"}, "net.weights: the weights fix the net"),
        (NetSettings, {"weights": "w", "zero_init_residual": True}, "net.weights: the weights fix"),
        (ModelSettings, {"label_smoothing": 1.0}, "model.label_smoothing: 1.0"),
        (ModelSettings, {"label_smoothing": -0.1}, "model.label_smoothing: -0.1"),
        (ModelSettings, {"ema_decay": 1.0}, "model.ema_decay: 1.0"),
        (ModelSettings, {"ema_every": 0}, "model.ema_every: 0"),
        (ModelSettings, {"precise_bn": -1}, "model.precise_bn: -1"),
        (ModelSettings, {"loss": "bce", "target_threshold": 1.0}, "model.target_threshold: 1.0"),
        (ModelSettings, {"target_threshold": 0.2}, "model.target_threshold, model.bce_sum: need"),
        (ModelSettings, {"bce_sum": True}, "model.target_threshold, model.bce_sum: need"),
        (ModelSettings, {"class_weights": (1.0, 0.0)}, "model.class_weights: 0.0 is not a number"),
        (ModelSettings, {"class_weights": (float("inf"),)}, "model.class_weights: inf is not a"),
        (ModelSettings, {"effective_beta": 1.0}, "model.effective_beta: 1.0"),
        (MixingSettings, {"mixup": -0.1}, "mixing.mixup: -0.1"),
        (MixingSettings, {"cutmix": float("inf")}, "mixing.cutmix: inf"),
        (MixingSettings, {"probability": 1.1}, "mixing.probability: 1.1 is not in"),
        (MixingSettings, {"cutmix_share": -1}, "mixing.cutmix_share: -1 is not in"),
        (DistillationSettings, {"temperature": 0}, "distillation.temperature: 0"),
        (DistillationSettings, {"alpha": 1.5}, "distillation.alpha: 1.5 is not in"),
        (OptimizerSettings, {"lr": 0}, "optimizer.lr: 0"),
        (OptimizerSettings, {"lr": float("nan")}, "optimizer.lr: nan"),
        (OptimizerSettings, {"lr": float("inf")}, "optimizer.lr: inf"),
        (OptimizerSettings, {"momentum": 1.0}, "optimizer.momentum: 1.0"),
        (OptimizerSettings, {"betas": (0.9, 1.0)}, "optimizer.betas: 1.0"),
        (OptimizerSettings, {"weight_decay": -1e-4}, "optimizer.weight_decay: -0.0001"),
        (OptimizerSettings, {"nesterov": True, "momentum": 0}, "optimizer.nesterov: needs sgd"),
        (OptimizerSettings, {"nesterov": True, "name": "adamw"}, "optimizer.nesterov: needs sgd"),
        (ScheduleSettings, {"name": "multistep"}, "schedule.milestones: multistep needs"),
        (ScheduleSettings, {"milestones": (2, 1)}, "schedule.milestones: must rise"),
        (ScheduleSettings, {"milestones": (0, 1)}, "schedule.milestones: 0"),
        (ScheduleSettings, {"gamma": 0}, "schedule.gamma: 0"),
        (ScheduleSettings, {"warmup": -1}, "schedule.warmup: -1"),
        (ScheduleSettings, {"warmup_factor": 1.0}, "schedule.warmup_factor: 1.0"),
        (ScheduleSettings, {"floor": -0.1}, "schedule.floor: -0.1"),
    ],
)
def test_a_value_that_cannot_work_is_refused_by_its_key(kind: type, values: dict, message: str):
    with pytest.raises(InvalidSetting, match=message) as error:
        kind(**values)
    assert "\n" not in str(error.value)


def test_a_recipe_as_plain_types_is_complete():
    values = Recipe(trainer={"max_epochs": 3}, callbacks=({"class_path": "a.B"},)).to_dict()
    assert list(values) == [
        *("seed", "net", "data", "model", "mixing", "distillation", "optimizer", "schedule"),
        *("freezing",),
        *("checkpoint", "progress", "distributed", "trainer", "callbacks", "logger"),
    ]
    assert values["optimizer"]["betas"] == [0.9, 0.999]
    assert values["schedule"]["milestones"] == []
    assert values["trainer"] == {"max_epochs": 3}
    assert values["callbacks"] == [{"class_path": "a.B"}]
