"""Dropout of shortcuts: keyed, value by value, and in training alone."""

import pytest
import torch
from reference_nets import fill
from torch import nn

from resnet_hub.architecture import MOST_UNITS, Architecture
from resnet_hub.errors import InvalidSetting
from resnet_hub.nets import shortcut_dropout, stochastic_depth
from resnet_hub.nets.resnet import ResNet
from resnet_hub.nets.shortcut_dropout import ShortcutDropout
from resnet_hub.randomness import sample_keys

SMALL = Architecture(
    depths=(2, 2, 2), block="basic", stem="cifar", shortcut="A", width=8, classes=5
)


def in_training(**options) -> ResNet:
    """A net whose units draw as in training, and whose norms do not mix the samples."""
    net = fill(ResNet(SMALL, **options)).double()
    net.training = True
    return net


def test_values_are_dropped_at_the_rate_and_the_expectation_stays():
    count, shape, rate = 40, (8, 5, 5), 0.3
    x = torch.ones(count, *shape)
    dropped = ShortcutDropout(torch.arange(count), rate, 1).drop(x)
    assert sorted(set(dropped.flatten().tolist())) == pytest.approx([0, 1 / (1 - rate)])
    error = (rate * (1 - rate) / x.numel()) ** 0.5
    assert abs(float((dropped == 0).float().mean()) - rate) < 5 * error
    assert abs(float(dropped.mean()) - 1) < 5 * error / (1 - rate)


def test_values_units_and_samples_are_dropped_independently():
    keys = torch.arange(2000)
    x = torch.ones(len(keys), 2, 2, 2)
    masks = [ShortcutDropout(keys, 0.5, unit).drop(x).flatten(1).T for unit in (1, 2, 54)]
    values = torch.cat(masks)  # 8 values of 3 units, of each sample
    assert torch.corrcoef(values).fill_diagonal_(0).abs().max() < 5 / 2000**0.5
    of_samples = ShortcutDropout(torch.arange(8), 0.5, 1).drop(torch.ones(8, 2000, 1, 1))
    assert torch.corrcoef(of_samples.flatten(1)).fill_diagonal_(0).abs().max() < 5 / 2000**0.5


def test_the_draws_are_no_other_draws():
    # Stochastic depth draws from the same keys, one stream a unit.
    assert shortcut_dropout._STREAM - stochastic_depth._STREAM > MOST_UNITS


def test_each_units_shortcut_is_dropped_and_its_branch_is_not():
    net, keys = in_training(shortcut_dropout=0.5), torch.arange(3)
    draws = net.draws(torch.zeros(3, 3, 8, 8), keys)
    for number, (unit, (keep, dropout)) in enumerate(
        zip(net.blocks, (draw for stage in draws for draw in stage), strict=True), 1
    ):
        assert keep is None
        assert (dropout.rate, dropout.unit) == (0.5, number)
        x = torch.randn(3, unit.conv1.in_channels, 6, 6, dtype=torch.float64)
        carried = unit.downsample(x)
        mask = ShortcutDropout(keys, 0.5, number).drop(torch.ones_like(carried))
        assert 0 < (mask == 0).double().mean() < 1
        expected = (unit.residual(x) + mask * carried).relu()
        torch.testing.assert_close(unit(x, keep, dropout), expected)


@pytest.mark.parametrize("options", [{}, {"stochastic_depth": 0.5}])
def test_a_samples_logits_do_not_depend_on_who_is_in_the_batch(options):
    net = in_training(shortcut_dropout=0.5, **options)
    x, keys = torch.randn(6, 3, 8, 8, dtype=torch.float64), sample_keys(3, 1, torch.arange(6))
    logits = net(x, keys)
    alone = torch.cat([net(x[i : i + 1], keys[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(alone, logits)
    torch.testing.assert_close(net(x.flip(0), keys.flip(0)).flip(0), logits)
    maps = net.features(x, keys)["C4"].mean((2, 3)) @ net.fc.weight.T + net.fc.bias
    torch.testing.assert_close(maps, logits)
    assert not torch.allclose(net(x, keys + 100), logits)


def test_the_layout_of_the_memory_changes_no_draw():
    net, keys = in_training(shortcut_dropout=0.5), torch.arange(2)
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    expected = net(x, keys)
    net.to(memory_format=torch.channels_last)
    torch.testing.assert_close(net(x.to(memory_format=torch.channels_last), keys), expected)


def test_without_keys_the_draws_follow_torchs_seed():
    net, x = in_training(shortcut_dropout=0.5), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    logits = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        logits.append(net(x))
    assert torch.equal(logits[0], logits[1])
    assert not torch.allclose(logits[0], logits[2])


def test_evaluation_drops_nothing():
    x, keys = torch.randn(2, 3, 8, 8), torch.arange(2)
    net = fill(ResNet(SMALL, shortcut_dropout=0.9))
    assert torch.equal(net(x, keys), fill(ResNet(SMALL))(x))


def test_with_a_scale_it_is_the_dropout_that_evaluation_halves():
    # Hinton et al. 2012: values dropped as they are in training, all of them halved in evaluation.
    net = in_training(shortcut_dropout=0.5, shortcut_scale=0.5)
    unit, x = net.blocks[1], torch.randn(2, 8, 6, 6, dtype=torch.float64)
    dropout = ShortcutDropout(torch.arange(2), 0.5, 2)
    kept = dropout.drop(torch.ones_like(x)) > 0
    torch.testing.assert_close(unit(x, None, dropout), (unit.residual(x) + x * kept).relu())
    torch.testing.assert_close(unit(x), (unit.residual(x) + x / 2).relu())


def test_it_takes_effect_when_set_and_a_rate_that_cannot_be_is_refused():
    net, x, keys = in_training(), torch.randn(2, 3, 8, 8, dtype=torch.float64), torch.arange(2)
    whole = net(x, keys)
    net.shortcut_dropout = 0.5
    assert not torch.allclose(net(x, keys), whole)
    for rate in (1, -0.1, float("nan")):
        with pytest.raises(InvalidSetting, match=f"shortcut_dropout: {rate} is not in"):
            net.shortcut_dropout = rate


def test_a_plain_net_has_no_shortcut_to_drop():
    with pytest.raises(InvalidSetting, match="shortcut_dropout: a plain net has no shortcut"):
        ResNet("cifar_plain20", shortcut_dropout=0.5)
    ResNet("cifar_plain20", shortcut_dropout=0.0)


def test_under_autocast_units_stay_in_half_precision():
    net, kinds = ResNet(SMALL, shortcut_dropout=0.5, shortcut_gate="exclusive"), []
    for unit in net.blocks:
        unit.register_forward_hook(lambda _, inputs, output: kinds.append(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        net(torch.randn(2, 3, 8, 8))
    assert set(kinds) == {torch.bfloat16}


def test_training_with_it_compiles_without_a_graph_break():
    torch._dynamo.reset()
    net = ResNet(SMALL, shortcut_dropout=0.5, stochastic_depth=0.2)
    x, keys = torch.randn(4, 3, 8, 8), torch.arange(4)
    net.compile(fullgraph=True, backend="eager")
    compiled = net(x, keys)
    nn.functional.cross_entropy(compiled, torch.arange(4)).backward()
    torch.testing.assert_close(compiled, net.forward(x, keys))
    assert all(parameter.grad is not None for parameter in net.parameters())


@pytest.mark.gpu
def test_a_gpu_drops_the_same_values():
    keys, x = torch.arange(4), torch.randn(4, 8, 6, 6)
    ours = ShortcutDropout(keys, 0.3, 7).drop(x)
    theirs = ShortcutDropout(keys.cuda(), 0.3, 7).drop(x.cuda())
    assert torch.equal(theirs.cpu(), ours)
