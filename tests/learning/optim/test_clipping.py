"""Clipped gradients: adaptive ones against timm's, and in a run, where they come unscaled."""

from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins import MixedPrecision
from timm.utils.agc import adaptive_clip_grad
from torch import Tensor, nn

from resnet_hub.data.digits import Digits
from resnet_hub.data.settings import DataSettings
from resnet_hub.learning.classifier import Classifier
from resnet_hub.learning.optim.clipping import clip_adaptively
from resnet_hub.learning.settings import OptimizerSettings
from resnet_hub.nets.resnet import ResNet


def with_gradients(scale: float) -> ResNet:
    torch.manual_seed(0)
    net = ResNet("resnet18", classes=4)
    for parameter in net.parameters():
        sizes = (scale * torch.rand(len(parameter))).reshape(-1, *[1] * (parameter.ndim - 1))
        parameter.grad = sizes * torch.randn_like(parameter)
    net.conv1.weight.grad[0] = 0
    nn.init.zeros_(net.layer1[0].conv1.weight[1].detach())
    return net


@pytest.mark.parametrize("scale", [1e-4, 1e-2, 1e3])
@pytest.mark.parametrize("factor", [0.01, 0.16])
def test_adaptive_clipping_is_timms_and_leaves_the_head_out(scale: float, factor: float):
    one, two = with_gradients(scale), with_gradients(scale)
    before = [p.grad.clone() for p in one.parameters()]
    clip_adaptively(one, factor)
    adaptive_clip_grad([p for n, p in two.named_parameters() if "fc" not in n], factor)
    for (name, p), other in zip(one.named_parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(p.grad, other.grad, rtol=1e-5, atol=1e-9, msg=name)
    names = [name for name, _ in one.named_parameters()]
    kept = {
        n: torch.equal(p.grad, old)
        for n, p, old in zip(names, one.parameters(), before, strict=True)
    }
    assert kept["fc.weight"]
    assert kept["fc.bias"]
    assert kept["layer4.0.conv1.weight"] == (scale == 1e-4)


def test_frozen_layers_have_nothing_to_clip():
    net = ResNet("resnet18", classes=4).requires_grad_(False)
    clip_adaptively(net, 0.01)
    assert all(p.grad is None for p in net.parameters())


class Gradients(Callback):
    """Keeps each step's gradients, as the optimizer got them, and the weights that they moved."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Tensor]] = []
        self.weights: list[dict[str, Tensor]] = []

    def on_train_batch_start(self, trainer: L.Trainer, module: Classifier, *_: Any) -> None:
        self.weights.append({n: p.detach().clone() for n, p in module.net.named_parameters()})

    def on_train_batch_end(self, trainer: L.Trainer, module: Classifier, *_: Any) -> None:
        self.steps.append({n: p.grad.clone() for n, p in module.net.named_parameters()})


def trained(*, half: bool = False, agc: float | None = None, **options: Any) -> Gradients:
    torch.set_num_threads(1)  # on so small images threads wait longer than they work
    torch.manual_seed(0)
    seen = Gradients()
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    plugins = [MixedPrecision("16-mixed", "cpu", scaler)] if half else []
    fitting = L.Trainer(
        accelerator="cpu",
        max_epochs=1,
        limit_train_batches=2,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[seen],
        plugins=plugins,
        **options,
    )
    classifier = Classifier(
        ResNet("cifar_resnet20", in_channels=1), optimizer=OptimizerSettings(lr=0.1, agc=agc)
    )
    fitting.fit(classifier, Digits(DataSettings(name="Digits", batch_size=32, pad=1), seed=3))
    return seen


def norm(gradients: dict[str, Tensor]) -> float:
    return float(torch.stack([g.norm() for g in gradients.values()]).norm())


@pytest.mark.parametrize("half", [False, True])
def test_the_norm_that_is_clipped_is_of_unscaled_gradients(half: bool):
    free, clipped = trained(half=half), trained(half=half, gradient_clip_val=0.05)
    assert [norm(step) for step in clipped.steps] == pytest.approx([0.05] * 2, rel=1e-3)
    before = norm(free.steps[0])
    assert 0.05 < before < 20  # as large as the loss's own, not 64 times that
    for name, gradient in clipped.steps[0].items():
        expected = free.steps[0][name] * 0.05 / before
        torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-7, msg=name)


@pytest.mark.parametrize("half", [False, True])
def test_adaptive_clipping_in_a_run_bounds_unscaled_gradients_by_the_weights(half: bool):
    free = trained(half=half)
    factor = float(shares(free, 0).median())
    clipped = trained(half=half, agc=factor)
    torch.testing.assert_close(
        shares(clipped, 0), shares(free, 0).clamp(max=factor), rtol=1e-3, atol=0
    )
    assert float(shares(clipped, 1).max()) == pytest.approx(factor, rel=1e-4)
    assert torch.equal(clipped.steps[0]["fc.weight"], free.steps[0]["fc.weight"])


def shares(seen: Gradients, step: int) -> Tensor:
    """Each filter's gradient as a share of the filter, by their norms."""
    return torch.cat(
        [
            gradient.flatten(1).norm(dim=1) / seen.weights[step][name].flatten(1).norm(dim=1)
            for name, gradient in seen.steps[step].items()
            if gradient.ndim == 4
        ]
    )
