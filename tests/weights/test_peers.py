"""What torchvision and timm call our nets and their tensors."""

from dataclasses import replace

import pytest
import timm
import torch
import torchvision

from resnet_hub.errors import InvalidSetting
from resnet_hub.nets.resnet import ResNet
from resnet_hub.weights.peers import (
    PEER_NETS,
    from_resnetv2,
    peer_name,
    peer_tensors,
    to_resnetv2,
)
from resnet_hub.zoo import ARCHITECTURES, find_row


def theirs(peer: str, name: str) -> torch.nn.Module:
    build = torchvision.models.get_model if peer == "torchvision" else timm.create_model
    with torch.device("meta"):
        return build(name)


@pytest.mark.parametrize(
    ("peer", "name"), [(peer, name) for peer, names in PEER_NETS.items() for name in sorted(names)]
)
def test_a_librarys_net_has_the_names_and_shapes_that_ours_is_given(peer, name):
    with torch.device("meta"):
        net = ResNet(name)
    found = peer_tensors(net.state_dict(), net.architecture, peer)
    expected = theirs(peer, name).state_dict()
    assert {n: t.shape for n, t in found.items()} == {n: t.shape for n, t in expected.items()}


def test_no_net_of_the_table_that_a_library_has_is_left_out():
    assert set(ARCHITECTURES) & set(torchvision.models.list_models()) == PEER_NETS["torchvision"]
    assert set(ARCHITECTURES) & set(timm.list_models()) == PEER_NETS["timm"]


@pytest.mark.parametrize("net", ["resnetv2_50", "resnetv2_50t"])
def test_each_name_of_a_resnetv2_goes_there_and_back(net):
    for name in theirs("timm", net).state_dict():
        ours = from_resnetv2(name, pooled=net.endswith("t"))
        assert to_resnetv2(ours) == name
        assert (ours == name) == name.startswith("norm.")


@pytest.mark.parametrize(
    ("foreign", "ours"),
    [
        ("stem.conv.weight", "conv1.weight"),
        ("stages.0.blocks.0.norm1.running_var", "layer1.0.bn1.running_var"),
        ("stages.3.blocks.12.conv2.weight", "layer4.12.conv2.weight"),
        ("stages.2.blocks.0.downsample.conv.weight", "layer3.0.downsample.0.weight"),
        ("stem.conv1.weight", "conv1.0.weight"),
        ("stem.norm2.bias", "conv1.4.bias"),
        ("stem.conv3.weight", "conv1.6.weight"),
        ("norm.bias", "norm.bias"),
        ("head.fc.bias", "fc.bias"),
        ("stages.x.blocks.0.conv1.weight", "stages.x.blocks.0.conv1.weight"),
    ],
)
def test_the_names_of_resnetv2(foreign, ours):
    assert from_resnetv2(foreign) == ours


def test_a_name_holds_for_any_number_of_classes_and_only_for_the_librarys_function():
    resnet50 = find_row("resnet50").architecture
    assert peer_name(replace(resnet50, classes=7), "torchvision") == "resnet50"
    assert peer_name(replace(resnet50, in_channels=1), "timm") == "resnet50"
    assert peer_name(replace(resnet50, in_channels=1), "torchvision") is None
    assert peer_name(replace(resnet50, shortcut="C"), "timm") is None
    for name in ("resnet50_v1", "preact_resnet50", "plain18", "cifar_resnet20"):
        for peer in PEER_NETS:
            assert peer_name(find_row(name).architecture, peer) is None


def test_a_net_that_a_library_does_not_have_is_refused_with_those_it_has():
    with torch.device("meta"):
        nets = (
            ResNet("preact_resnet18"),
            ResNet(replace(find_row("resnet18").architecture, width=8)),
        )
    for net, words in zip(nets, ("preact_resnet18", "net of 18 layers"), strict=True):
        with pytest.raises(InvalidSetting, match=f"timm has no {words} .*: ecaresnet101d, .* more"):
            peer_tensors(net.state_dict(), net.architecture, "timm")
