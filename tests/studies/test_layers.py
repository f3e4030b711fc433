"""Which layers a net has, and where their responses are read."""

import pytest
import torch

from resnet_hub.nets.resnet import ResNet
from resnet_hub.studies.layers import layers_of, watched


def answering(net: ResNet) -> dict[str, str]:
    """Return the name of what answers for each layer."""
    names = {module: name for name, module in net.named_modules()}
    return {layer.name: names[layer.answers] for layer in layers_of(net)}


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("cifar_resnet20", 19),
        ("cifar_plain56", 55),
        ("resnet50", 49),
        ("cifar_preact_resnet20", 19),
    ],
)
def test_a_net_has_a_layer_for_each_convolution_on_its_way(name: str, count: int):
    net = ResNet(name)
    assert len(layers_of(net)) == count == net.architecture.layers - 1


def test_layers_come_in_order_and_shortcuts_and_attention_are_none():
    found = layers_of(ResNet("resnet50d"))
    names = [layer.name for layer in found]
    assert names[:4] == ["conv1.0", "conv1.3", "conv1.6", "layer1.0.conv1"]
    assert not [name for name in names if "downsample" in name]
    assert [layer.kernel for layer in found[:6]] == [3, 3, 3, 1, 3, 1]
    assert not [layer.name for layer in layers_of(ResNet("seresnet50")) if ".se." in layer.name]


def test_the_norm_after_a_convolution_answers_for_it():
    found = answering(ResNet("cifar_resnet20", shortcut="C"))
    assert found["conv1"] == "bn1"
    assert found["layer2.0.conv1"] == "layer2.0.bn1"
    assert found["layer2.0.conv2"] == "layer2.0.bn2"


def test_where_no_norm_follows_before_the_addition_the_convolution_answers():
    found = answering(ResNet("cifar_preact_resnet20"))
    assert found["layer2.1.conv1"] == "layer2.1.bn2"
    assert found["layer2.1.conv2"] == "layer2.1.conv2"
    net = ResNet("cifar_resnet20", form="bn_after_addition")
    assert answering(net)["layer2.1.conv2"] == "layer2.1.conv2"
    assert answering(net)["layer2.1.conv1"] == "layer2.1.bn1"


def test_to_look_for_layers_changes_nothing_and_leaves_no_hook():
    net = ResNet("cifar_resnet20").train()
    net.layer1.eval()
    modes = [module.training for module in net.modules()]
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    layers_of(net)
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())


def test_responses_are_given_before_an_activation_overwrites_them():
    net = ResNet("cifar_resnet20").eval()
    signs: dict[int, bool] = {}
    with watched(layers_of(net), lambda n, response: signs.update({n: bool((response < 0).any())})):
        net(torch.randn(2, 3, 32, 32))
    assert signs == dict.fromkeys(range(19), True)
    assert not any(module._forward_hooks for module in net.modules())
