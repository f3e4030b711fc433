"""Activation checkpointing: less memory, and nothing else that differs."""

from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from resnet_hub.architecture import Architecture
from resnet_hub.errors import InvalidSetting
from resnet_hub.nets.resnet import ResNet

IMAGES = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(0))
KEYS = torch.arange(4)


def small(form: str = "residual", **options) -> ResNet:
    torch.manual_seed(0)
    architecture = Architecture(
        depths=(3, 2), block="basic", form=form, stem="cifar", width=8, classes=5
    )
    return ResNet(architecture, **options).train()


def step(net: nn.Module) -> torch.Tensor:
    loss = net(IMAGES, KEYS).square().sum()
    loss.backward()
    return loss.detach()


def assert_same_step(one: ResNet, other: ResNet) -> None:
    """One training step gives both the same loss, gradients and statistics."""
    torch.testing.assert_close(step(one), step(other))
    gradients = [{n: p.grad for n, p in net.named_parameters()} for net in (one, other)]
    torch.testing.assert_close(*gradients)
    torch.testing.assert_close(one.state_dict(), other.state_dict())


@pytest.mark.parametrize("segment", [1, 2, 7])
@pytest.mark.parametrize(
    "form",
    [
        *("residual", "preact", "plain"),
        *("bn_after_addition", "relu_before_addition", "relu_only_preact"),
    ],
)
def test_a_step_is_the_same_with_and_without(form, segment):
    assert_same_step(small(form), small(form, checkpoint_blocks=segment))


@pytest.mark.parametrize("segment", [1, 2])
@pytest.mark.parametrize(
    "options",
    [
        {"stochastic_depth": 0.5},
        {"shortcut_dropout": 0.5},
        {"stochastic_depth": 0.5, "shortcut_dropout": 0.5, "shortcut_gate": "exclusive"},
    ],
)
def test_a_step_is_the_same_with_what_units_draw(options, segment):
    assert_same_step(small(**options), small(**options, checkpoint_blocks=segment))


def test_a_step_is_the_same_where_statistics_are_plain_averages():
    nets = small(), small(checkpoint_blocks=2)
    for net in nets:
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
    for _ in range(2):  # the second step would show a count that went astray in the first
        assert_same_step(*nets)


def test_a_step_is_the_same_under_autocast():
    nets = small(stochastic_depth=0.5), small(stochastic_depth=0.5, checkpoint_blocks=2)
    with torch.autocast("cpu", torch.bfloat16):
        assert_same_step(*nets)


@pytest.mark.parametrize("segment", [1, 5])
def test_statistics_move_once_a_step(segment):
    net = small(checkpoint_blocks=segment)
    step(net)
    after_one = {n: b.clone() for n, b in net.named_buffers()}
    assert {int(b) for n, b in after_one.items() if n.endswith("tracked")} == {1}
    reference = small()
    reference(IMAGES, KEYS)
    torch.testing.assert_close(after_one, dict(reference.named_buffers()))


def test_synchronised_batchnorm_moves_once_too():
    net = nn.SyncBatchNorm.convert_sync_batchnorm(small(checkpoint_blocks=2))
    step(net)
    assert {int(b) for n, b in net.named_buffers() if n.endswith("tracked")} == {1}


def test_two_forward_passes_before_one_backward_count_two():
    nets = small(), small(checkpoint_blocks=2)
    for net in nets:
        (net(IMAGES, KEYS).sum() + net(IMAGES.flip(0), KEYS).sum()).backward()
    torch.testing.assert_close(nets[0].state_dict(), nets[1].state_dict())
    assert int(nets[1].layer1[0].bn1.num_batches_tracked) == 2


def test_batchnorm_is_as_it_was_after_a_step():
    net = small(checkpoint_blocks=2)
    counter = net.layer1[0].bn1.num_batches_tracked
    step(net)
    assert {m.momentum for m in net.modules() if isinstance(m, nn.BatchNorm2d)} == {0.1}
    assert net.layer1[0].bn1.num_batches_tracked is counter


def test_frozen_batchnorm_stays_frozen():
    net = small(checkpoint_blocks=2)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    before = deepcopy(dict(net.named_buffers()))
    step(net)
    torch.testing.assert_close(dict(net.named_buffers()), before, rtol=0, atol=0)


def calls_of_a_convolution(net: ResNet, run) -> int:
    calls = []
    net.layer1[1].conv1.register_forward_hook(lambda *_: calls.append(1))
    run(net)
    return len(calls)


def test_units_run_again_in_the_backward_pass():
    assert calls_of_a_convolution(small(), step) == 1
    assert calls_of_a_convolution(small(checkpoint_blocks=2), step) == 2


def test_nothing_is_recomputed_where_no_gradient_is_wanted():
    net = small(checkpoint_blocks=1)
    with torch.no_grad():
        assert calls_of_a_convolution(net, lambda net: net(IMAGES)) == 1


def kept_bytes(net: ResNet) -> int:
    kept = []
    with saved_tensors_hooks(lambda t: kept.append(t.nbytes) or t, lambda t: t):
        net(IMAGES, KEYS)
    return sum(kept)


def test_less_is_kept_for_the_backward_pass():
    assert kept_bytes(small(checkpoint_blocks=1)) < 0.5 * kept_bytes(small())


def test_it_takes_effect_when_set_on_a_built_net():
    net = small()
    net.checkpoint_blocks = 1
    assert calls_of_a_convolution(net, step) == 2
    with pytest.raises(InvalidSetting, match="checkpoint_blocks: -1"):
        net.checkpoint_blocks = -1
    with pytest.raises(InvalidSetting, match=r"checkpoint_blocks: 1\.5"):
        net.checkpoint_blocks = 1.5


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_it_compiles_without_a_graph_break_and_moves_statistics_once(rate):
    torch._dynamo.reset()
    net = small(checkpoint_blocks=2, stochastic_depth=rate)
    net.compile(backend="aot_eager", fullgraph=True)
    assert_same_step(small(stochastic_depth=rate), net)


def test_features_are_the_same_and_recomputed():
    nets = small(), small(checkpoint_blocks=2)
    torch.testing.assert_close(*(net.features(IMAGES) for net in nets))

    def run(net: ResNet) -> None:
        net.features(IMAGES)["C3"].sum().backward()

    assert calls_of_a_convolution(nets[1], run) == 2
