"""Shortcuts: option A's zeros and option D's pooling; B and C are in ``test_blocks``."""

from dataclasses import replace

import pytest
import torch
from reference_nets import fill, norm
from torch import nn
from torch.nn import functional as F

from resnet_hub.architecture import Architecture
from resnet_hub.nets.shortcuts import PadShortcut, shortcut

SMALL = Architecture(depths=(1, 2), block="bottleneck", width=8, shortcut="D")


def test_option_a_splits_its_zeros_evenly_before_and_after():
    x = torch.arange(1.0, 9).view(1, 2, 2, 2)
    split = PadShortcut(2, 5, stride=2, split=True)(x)
    end = PadShortcut(2, 5, stride=2, split=False)(x)
    assert split.flatten().tolist() == [0, 1, 5, 0, 0]
    assert end.flatten().tolist() == [1, 5, 0, 0, 0]


@pytest.mark.parametrize("size", [(8, 8), (7, 9)])
def test_option_d_averages_then_projects_without_a_stride(size):
    unit = list(SMALL.stages())[1][0]
    carried = fill(shortcut(unit, SMALL))
    x = torch.randn(2, 32, *size)
    state = carried.state_dict()
    assert next(iter(state)) == "1.weight"
    weight = state["1.weight"]
    means = F.avg_pool2d(x, 2, 2, ceil_mode=True, count_include_pad=False)
    torch.testing.assert_close(carried(x), norm(state, "2", F.conv2d(means, weight)))


def test_option_d_where_nothing_strides_has_its_projection_at_the_same_name():
    unit = next(SMALL.stages())[0]
    carried = shortcut(unit, SMALL)
    assert isinstance(carried[0], nn.Identity)
    assert next(iter(carried.state_dict())) == "1.weight"
    b = shortcut(next(replace(SMALL, shortcut="B").stages())[0], SMALL)
    assert next(iter(b.state_dict())) == "0.weight"


def test_an_identity_stays_one_and_a_plain_unit_has_none():
    assert isinstance(shortcut(list(SMALL.stages())[1][1], SMALL), nn.Identity)
    plain = replace(SMALL, form="plain")
    assert shortcut(next(plain.stages())[0], plain) is None
