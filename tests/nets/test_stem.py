"""Stems: which convolutions, which channels, and what halves the map after them."""

import pytest
import torch
from reference_nets import conv, fill, norm, relu
from torch import nn

from resnet_hub.architecture import Architecture
from resnet_hub.nets.pooling import AveragePool, BlurPool
from resnet_hub.nets.stem import stem, stem_pool

# timm's schedules for its stem widths, and 1812.01187 Fig. 2(b)'s 32, 32, 64.
SCHEDULES = {
    "imagenet": (64,),
    "deep": (32, 32, 64),
    "deep_tiered": (24, 32, 64),
    "deep_wide": (64, 64, 128),
    "cifar": (64,),
}


def net(**changes) -> Architecture:
    return Architecture(depths=(1,), block="basic", **changes)


@pytest.mark.parametrize(("kind", "channels"), SCHEDULES.items())
def test_a_stem_has_the_channels_of_its_schedule(kind, channels):
    module = stem(net(stem=kind))
    convolutions = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
    assert tuple(c.out_channels for c in convolutions) == channels
    assert net(stem=kind).stem_channels == channels


def test_a_deep_stem_is_three_convolutions_the_first_of_which_strides():
    module = fill(stem(net(stem="deep_tiered", width=16, in_channels=2)))
    state = module.state_dict()
    x = torch.randn(2, 2, 13, 11)
    y = relu(norm(state, "1", conv(state, "0", x, 2)))
    y = conv(state, "6", relu(norm(state, "4", conv(state, "3", y))))
    torch.testing.assert_close(module(x), y)


def test_a_convolution_takes_the_place_of_the_pooling():
    module = fill(stem_pool(net(stem="deep", stem_pool="convolution", width=8)))
    state = module.state_dict()
    x = torch.randn(2, 8, 13, 11)
    torch.testing.assert_close(module(x), relu(norm(state, "1", conv(state, "0", x, 2))))


def test_anti_aliased_nets_pool_after_the_stem_as_timm_does():
    assert isinstance(stem_pool(net()), nn.MaxPool2d)
    assert isinstance(stem_pool(net(stem="cifar", antialias="blur")), nn.Identity)
    assert isinstance(stem_pool(net(antialias="average")), AveragePool)
    dense, blur = stem_pool(net(antialias="blur"))
    assert (dense.kernel_size, dense.stride, dense.padding) == (3, 1, 1)
    assert isinstance(blur, BlurPool)
