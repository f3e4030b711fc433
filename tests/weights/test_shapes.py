"""The tensors that a net must have, told from its architecture alone."""

from dataclasses import replace

import pytest
import torch

from resnet_hub.architecture import Architecture
from resnet_hub.nets.resnet import ResNet
from resnet_hub.weights.shapes import expected_tensors
from resnet_hub.zoo import ARCHITECTURES

BOTTLENECK = ARCHITECTURES["resnet50"].architecture


def facts(architecture: Architecture) -> list[tuple]:
    with torch.device("meta"):
        state = ResNet(architecture).state_dict()
    return [(name, tensor.shape, tensor.dtype) for name, tensor in state.items()]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_net_of_the_table_has_the_tensors_that_are_expected_of_it_in_their_order(name):
    architecture = ARCHITECTURES[name].architecture
    expected = expected_tensors(architecture)
    assert all(tensor.is_meta for tensor in expected.values())
    assert [(n, t.shape, t.dtype) for n, t in expected.items()] == facts(architecture)


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": 7, "in_channels": 1},
        {"shortcut": "C"},
        {"shortcut": "A", "block": "basic"},
        {"form": "preact", "shortcut": "C", "entry": "shared"},
        {"form": "preact", "entry": "own", "block": "basic"},
        {"stem": "deep_wide", "shortcut": "C", "attention": "se", "reduction": 2, "in_channels": 1},
        {"stem": "deep_tiered", "stem_pool": "convolution", "attention": "eca", "shortcut": "D"},
        {"form": "preact", "shortcut": "D", "stem": "deep"},
        {"block": "basic", "shortcut": "D", "antialias": "blur", "stem": "cifar", "width": 5},
        {"depths": (1, 1), "width": 32, "groups": 4, "group_width": 16, "stem": "cifar"},
        {"form": "bn_after_addition", "shortcut": "A", "block": "basic"},
        {"form": "relu_only_preact", "shortcut_gate": "exclusive", "shortcut": "D"},
        {"form": "preact", "shortcut_gate": "shortcut_only", "shortcut_scale": 0.5},
        {"attention": "se", "shortcut_gate": "exclusive", "shortcut": "C"},
    ],
    ids=str,
)
def test_so_have_nets_that_no_row_names(changes):
    architecture = replace(BOTTLENECK, **changes)
    expected = expected_tensors(architecture)
    assert [(n, t.shape, t.dtype) for n, t in expected.items()] == facts(architecture)
