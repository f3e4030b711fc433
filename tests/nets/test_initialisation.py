"""First values: the gates' biases, and units that begin as their shortcuts."""

import pytest
import torch
from torch import nn

from resnet_hub.architecture import Architecture
from resnet_hub.errors import InvalidSetting
from resnet_hub.nets.resnet import ResNet

SMALL = {"depths": (2, 1), "width": 8, "stem": "cifar", "shortcut": "A", "classes": 5}
GATES = ["exclusive", "shortcut_only"]


@pytest.mark.parametrize("gate", GATES)
def test_every_gate_begins_with_the_bias_that_is_asked_for(gate):
    net = ResNet("cifar_resnet20", shortcut_gate=gate, gate_bias=-6)
    assert all(unit.gate.bias.eq(-6).all() for unit in net.blocks)
    assert all(
        unit.gate.bias.eq(0).all() for unit in ResNet("cifar_resnet20", shortcut_gate=gate).blocks
    )


def test_the_bias_is_a_first_value_and_no_part_of_the_net():
    nets = [ResNet("cifar_resnet20", shortcut_gate="exclusive", gate_bias=b) for b in (0, -6)]
    assert nets[0].architecture == nets[1].architecture


def test_gates_change_no_first_value_of_a_net_without_them():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    own = ResNet("cifar_resnet20").state_dict()
    torch.set_rng_state(before)
    asked = ResNet("cifar_resnet20", shortcut_gate="none", shortcut_scale=0.5).state_dict()
    assert all(torch.equal(asked[name], tensor) for name, tensor in own.items())


@pytest.mark.parametrize("bias", [float("nan"), float("inf")])
def test_a_bias_that_is_no_number_is_refused(bias):
    with pytest.raises(InvalidSetting, match=f"gate_bias: {bias} is no finite number"):
        ResNet("cifar_resnet20", shortcut_gate="exclusive", gate_bias=bias)


def test_a_bias_without_gates_is_refused():
    with pytest.raises(InvalidSetting, match="gate_bias: needs a shortcut_gate"):
        ResNet("cifar_resnet20", gate_bias=-6)


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_zero_init_residual_begins_units_of_other_orders_as_their_shortcuts(block):
    for form in ("bn_after_addition", "relu_only_preact"):
        own = Architecture(**{**SMALL, "shortcut": "B"}, block=block, form=form)
        net = ResNet(own, zero_init_residual=True)
        for unit in net.blocks:
            x = torch.randn(4, unit.conv1.in_channels, 6, 6).relu()
            carried = unit.downsample(x)
            if form == "bn_after_addition":
                carried = nn.functional.batch_norm(carried, None, None, training=True).relu()
            torch.testing.assert_close(unit(x), carried)


def test_units_that_would_never_learn_are_refused():
    with pytest.raises(InvalidSetting, match="zero_init_residual: no gradient passes a ReLU"):
        ResNet("cifar_resnet20", form="relu_before_addition", zero_init_residual=True)
