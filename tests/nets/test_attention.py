"""Channel attention against the papers' equations, with each module's own weights."""

import pytest
import torch
from reference_nets import fill

from resnet_hub.architecture import Architecture
from resnet_hub.nets.attention import EfficientAttention, SqueezeExcitation, attention
from resnet_hub.nets.resnet import ResNet

SMALL = {"depths": (2, 1), "width": 8, "classes": 5}


def test_squeeze_and_excitation_computes_its_equations_2_to_4():
    module = fill(SqueezeExcitation(6, 3))
    x = torch.randn(2, 6, 4, 5)
    w1, b1, w2, b2 = (t.flatten(1) if t.dim() > 1 else t for t in module.state_dict().values())
    z = x.sum((2, 3)) / (4 * 5)
    s = 1 / (1 + torch.exp(-((z @ w1.T + b1).clamp(min=0) @ w2.T + b2)))
    torch.testing.assert_close(module(x), x * s[:, :, None, None])


@pytest.mark.parametrize("taps", [3, 5])
def test_efficient_attention_weighs_a_channel_by_its_neighbours_means(taps):
    module = fill(EfficientAttention(taps))
    x = torch.randn(2, 7, 4, 5)
    (kernel,) = (t.flatten() for t in module.state_dict().values())
    means = x.mean((2, 3))
    for channel in range(7):
        near = range(channel - taps // 2, channel + taps // 2 + 1)
        score = sum(
            kernel[i] * means[:, c]
            for i, c in enumerate(near)
            if c in range(7)  # zeros beyond
        )
        expected = x[:, channel] * torch.sigmoid(score)[:, None, None]
        torch.testing.assert_close(module(x)[:, channel], expected)


def test_a_unit_without_attention_has_none():
    unit = next(Architecture(**SMALL, block="basic").stages())[0]
    assert attention(unit) is None


@pytest.mark.parametrize("kind", ["se", "eca"])
@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_attention_weighs_the_branch_and_not_the_shortcut(block, kind):
    unit = fill(ResNet(Architecture(**SMALL, block=block, attention=kind))).layer1[1]
    x = torch.randn(2, unit.conv1.in_channels, 6, 6).relu()
    torch.testing.assert_close(unit(x), (x + unit.se(unit.residual(x))).relu())
    keep = torch.tensor([0.0, 2.0]).view(2, 1, 1, 1)
    torch.testing.assert_close(unit(x, keep), (x + keep * unit.se(unit.residual(x))).relu())
    assert not torch.allclose(unit.se(unit.residual(x)), unit.residual(x))


@pytest.mark.parametrize("kind", ["se", "eca"])
def test_a_unit_with_attention_still_begins_as_its_shortcut_where_asked(kind):
    net = ResNet(Architecture(**SMALL, block="basic", attention=kind), zero_init_residual=True)
    x = torch.randn(2, 8, 6, 6).relu()
    assert torch.equal(net.layer1[0].train()(x), x)
