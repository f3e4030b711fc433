"""Layers: torch's own, and nothing to fill where there is no memory."""

import pytest
import torch
from torch import nn

from resnet_hub.nets.layers import BatchNorm2d, Conv2d

PAIRS = [
    (Conv2d(3, 8, 3, bias=False), nn.Conv2d(3, 8, 3, bias=False)),
    (BatchNorm2d(8), nn.BatchNorm2d(8)),
]


@pytest.mark.parametrize(("own", "torchs"), PAIRS, ids=["Conv2d", "BatchNorm2d"])
def test_first_values_are_torchs(own: nn.Module, torchs: nn.Module):
    for layer in (own, torchs):
        torch.manual_seed(0)
        layer.reset_parameters()
    assert list(own.state_dict()) == list(torchs.state_dict())
    for name, tensor in own.state_dict().items():
        assert torch.equal(tensor, torchs.state_dict()[name])


@pytest.mark.parametrize("make", [lambda: Conv2d(3, 8, 3), lambda: BatchNorm2d(8)])
def test_on_the_meta_device_nothing_is_drawn_or_filled(make, monkeypatch):
    def called(*_: object, **__: object) -> None:
        raise AssertionError("a value was set")

    for name in ("kaiming_uniform_", "uniform_", "ones_", "zeros_"):
        monkeypatch.setattr(nn.init, name, called)
    with torch.device("meta"):
        assert make().weight.is_meta
    with pytest.raises(AssertionError, match="a value was set"):
        make()
