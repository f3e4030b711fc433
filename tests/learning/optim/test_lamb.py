"""LAMB against timm's, step by step."""

import pytest
import timm.optim
import torch
from torch import nn
from torch.nn import functional as F

from resnet_hub.learning.optim.lamb import Lamb
from resnet_hub.learning.optim.optimizers import build_optimizer, parameter_groups
from resnet_hub.learning.settings import OptimizerSettings
from resnet_hub.nets.resnet import ResNet


def small_net() -> nn.Module:
    torch.manual_seed(0)
    own = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(72, 4)
    )
    nn.init.zeros_(own[4].weight)  # its norm is zero, of which there is no ratio
    return own


def groups(net: nn.Module, weight_decay: float) -> list[dict]:
    return parameter_groups(
        net, OptimizerSettings(weight_decay=weight_decay, decay="no_norm_bias"), lr=0.01
    )


def train(net: nn.Module, optimizer: torch.optim.Optimizer, scale: float) -> list[dict]:
    """Take twenty steps by a falling learning rate; return the weights after each."""
    draw, found = torch.Generator().manual_seed(1), []
    for step in range(20):
        images = torch.randn(16, 3, 5, 5, generator=draw)
        labels = torch.randint(4, (16,), generator=draw)

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = scale * F.cross_entropy(net(images), labels)  # noqa: B023 - called at once
            loss.backward()
            return loss

        for group in optimizer.param_groups:
            group["lr"] = 0.02 * (1 - step / 20)
        optimizer.step(closure)
        found.append({name: p.detach().clone() for name, p in net.named_parameters()})
    return found


@pytest.mark.parametrize("scale", [0.05, 30.0], ids=["gradients below 1", "gradients shortened"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.02])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.99)])
def test_twenty_steps_are_timms(scale: float, weight_decay: float, betas: tuple[float, float]):
    one, two = small_net(), small_net()
    ours = Lamb(groups(one, weight_decay), lr=1.0, betas=betas)
    timms = timm.optim.Lamb(groups(two, weight_decay), lr=1.0, betas=betas)
    for own, other in zip(train(one, ours, scale), train(two, timms, scale), strict=True):
        for name, weight in own.items():
            torch.testing.assert_close(weight, other[name], rtol=2e-5, atol=2e-6)


def test_what_does_not_decay_takes_adams_step_and_what_does_one_as_long_as_its_weights():
    net = ResNet("cifar_resnet20")
    settings = OptimizerSettings(name="lamb", weight_decay=1e-9, decay="conv_only")
    optimizer = build_optimizer(net, settings, lr=0.1)
    assert isinstance(optimizer, Lamb)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    net(torch.randn(4, 3, 8, 8)).logsumexp(1).sum().backward()
    optimizer.step()
    for name, p in net.named_parameters():
        moved = (p.detach() - before[name]).norm()
        if p.ndim == 4:
            torch.testing.assert_close(moved, 0.1 * before[name].norm(), rtol=1e-4, atol=0)
        else:  # the first of Adam's steps is ±lr, where the gradient is far from epsilon
            assert float(moved) <= 0.1 * p.numel() ** 0.5 * 1.001, name


def test_a_tensor_without_a_gradient_stays_and_gets_no_state():
    net = small_net()
    net[0].requires_grad_(False)
    before = net[0].weight.clone()
    optimizer = Lamb(net.parameters(), lr=0.1)
    train(net, optimizer, 1.0)
    assert torch.equal(net[0].weight, before)
    assert net[0].weight not in optimizer.state
    assert float(optimizer.state[net[4].weight]["step"]) == 20
