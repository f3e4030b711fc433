"""Which parameters decay, counted by hand, and what the optimizers do with them."""

import pytest
import torch
from torch import nn

from resnet_hub.errors import InvalidSetting
from resnet_hub.learning.optimizers import build_optimizer, effective_lr, parameter_groups
from resnet_hub.learning.settings import OptimizerSettings
from resnet_hub.nets.resnet import ResNet

MODES = ("all", "no_norm_bias", "conv_only")


def counts(net: nn.Module, mode: str) -> dict[str, int]:
    settings = OptimizerSettings(decay=mode, weight_decay=0.01)
    groups = parameter_groups(net, settings)
    decays = {"decayed": 0.01, "free": 0.0}
    assert [g["weight_decay"] for g in groups] == [decays[g["name"]] for g in groups]
    return {group["name"]: len(group["params"]) for group in groups}


@pytest.mark.parametrize(
    ("name", "convolutions", "norms"),
    [
        # 1 + 3 stages × 3 units × 2 convolutions; option A has no parameters.
        ("cifar_resnet20", 19, 19),
        # 1 + 16 units × 3 + 4 projections, each with a norm.
        ("resnet50", 53, 53),
        # The last unit's norm comes after the addition; projections have none.
        ("preact_resnet50", 53, 49),
        ("cifar_plain20", 19, 19),
        # 3 + 8 units × 3 + 4 projections, each with a norm; the units' attention has none.
        ("ecaresnet26t", 39, 31),
    ],
)
def test_the_groups_of_each_mode_are_what_one_counts_by_hand(
    name: str, convolutions: int, norms: int
):
    with torch.device("meta"):
        net = ResNet(name)
    everything = convolutions + 2 * norms + 2
    assert counts(net, "all") == {"decayed": everything}
    assert counts(net, "no_norm_bias") == {
        "decayed": convolutions + 1,
        "free": 2 * norms + 1,
    }
    assert counts(net, "conv_only") == {"decayed": convolutions, "free": 2 * norms + 2}


def test_of_squeeze_and_excitation_the_weights_decay_and_the_biases_do_not():
    with torch.device("meta"):
        net = ResNet("seresnet18")
    settings = OptimizerSettings(decay="no_norm_bias")
    decayed, _ = (group["params"] for group in parameter_groups(net, settings))
    kept = {id(parameter) for parameter in decayed}
    own = {n: p for n, p in net.named_parameters() if ".se." in n}
    assert len(own) == 8 * 4
    assert all(
        (id(parameter) in kept) == name.endswith("weight") for name, parameter in own.items()
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "name", ["resnet18", "resnext50_32x4d", "cifar_preact_resnet164", "resnetv2_50"]
)
def test_every_parameter_is_in_exactly_one_group(name: str, mode: str):
    with torch.device("meta"):
        net = ResNet(name, shortcut="C")
    groups = parameter_groups(net, OptimizerSettings(decay=mode))
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(parameter) for parameter in net.parameters()}


def test_frozen_parameters_are_left_out_and_no_group_is_empty():
    net = ResNet("cifar_resnet20")
    net.requires_grad_(False)
    net.fc.requires_grad_(True)
    assert counts(net, "no_norm_bias") == {"decayed": 1, "free": 1}
    assert counts(net, "conv_only") == {"free": 2}
    assert counts(net, "all") == {"decayed": 2}


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_without_gradients_only_what_decays_moves(name: str):
    net = ResNet("cifar_resnet20")
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(1.0)
            parameter.grad = torch.zeros_like(parameter)
    settings = OptimizerSettings(name=name, weight_decay=0.5, decay="conv_only")
    build_optimizer(net, settings, lr=0.1).step()
    values = {n: p.unique().tolist() for n, p in net.named_parameters()}
    for parameter, (value,) in values.items():
        # Both begin with w − lr·decay·w: SGD's first step has no momentum yet.
        assert value == pytest.approx(0.95 if "conv" in parameter else 1.0), parameter


def test_sgd_takes_the_recipes_momentum_and_nesterov():
    settings = OptimizerSettings(momentum=0.8, nesterov=True)
    optimizer = build_optimizer(ResNet("cifar_resnet20"), settings, lr=0.3)
    assert isinstance(optimizer, torch.optim.SGD)
    assert {(g["lr"], g["momentum"], g["nesterov"]) for g in optimizer.param_groups} == {
        (0.3, 0.8, True)
    }


def test_adamw_takes_the_recipes_betas():
    settings = OptimizerSettings(name="adamw", betas=(0.8, 0.95))
    optimizer = build_optimizer(ResNet("cifar_resnet20"), settings, lr=0.002)
    assert isinstance(optimizer, torch.optim.AdamW)
    assert {(g["lr"], g["betas"]) for g in optimizer.param_groups} == {(0.002, (0.8, 0.95))}


@pytest.mark.parametrize(
    ("scaled", "images", "expected"),
    [(False, 32, 0.1), (False, 8192, 0.1), (True, 256, 0.1), (True, 32, 0.0125), (True, 8192, 3.2)],
)
def test_the_learning_rate_grows_with_the_images_a_step_only_where_asked(
    scaled: bool, images: int, expected: float
):
    # 8192 images at 3.2: 1706.02677 §2.1.
    settings = OptimizerSettings(lr=0.1, scaled=scaled)
    assert effective_lr(settings, images) == pytest.approx(expected)


def test_a_learning_rate_that_single_precision_cannot_hold_is_refused():
    assert effective_lr(OptimizerSettings(lr=3e38), 512) == 3e38
    with pytest.raises(InvalidSetting, match=r"optimizer.lr: 6e\+38 is more than single"):
        effective_lr(OptimizerSettings(lr=3e38, scaled=True), 512)
