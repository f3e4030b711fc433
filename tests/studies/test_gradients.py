"""Gradients and activations against autograd and the definition, and a run that records them."""

import json
import math
from dataclasses import astuple
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from reference_nets import fill
from small_runs import fit, untimed_rows
from torch.nn import functional as F

from resnet_hub.errors import CorruptFile
from resnet_hub.nets.resnet import ResNet
from resnet_hub.studies.folder import csv_text
from resnet_hub.studies.gradients import (
    NAMES,
    Recorder,
    by_step,
    growth,
    measure,
    profile,
    read_norms,
)

RECORDER = json.dumps([{"class_path": "resnet_hub.studies.gradients.Recorder"}])
LONGER = ("--trainer.max_steps=6", "--trainer.max_epochs=-1", "--schedule.warmup=0")


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return images, torch.arange(8)


def test_gradients_are_those_of_the_loss_and_nudging_a_response_tells_the_same():
    net = fill(ResNet("cifar_resnet20"))
    images, labels = batch()
    rows = {row.name: row for row in measure(net, images, labels)}
    loss = F.cross_entropy(net.train()(images), labels)
    for name in ("conv1", "layer2.0.conv1", "fc"):
        weight = net.get_submodule(name).weight
        (gradient,) = torch.autograd.grad(loss, [weight], retain_graph=True)
        assert rows[name].weight_gradient == pytest.approx(float(gradient.norm()), rel=1e-4)
        assert rows[name].weight == pytest.approx(float(weight.detach().norm()))
    # Of the response of conv1: add a leaf of zeros to it, and derive by that.
    added = torch.zeros(8, 16, 32, 32, requires_grad=True)
    handle = net.bn1.register_forward_hook(lambda module, inputs, output: output + added)
    loss = F.cross_entropy(net(images), labels)
    handle.remove()
    (gradient,) = torch.autograd.grad(loss, [added])
    assert rows["conv1"].response_gradient == pytest.approx(float(gradient.norm()), rel=1e-4)


def test_activations_are_what_each_layer_is_given():
    net = fill(ResNet("cifar_plain20"))
    images, labels = batch()
    rows = measure(net, images, labels)
    with torch.no_grad():
        net.train()
        first = F.relu(net.bn1(net.conv1(images)))
    root = [float(x.square().mean().sqrt()) for x in (images, first)]
    assert [row.activation for row in rows[:2]] == pytest.approx(root, rel=1e-5)
    assert [row.layer for row in rows] == list(range(1, 21))
    assert rows[-1].name == "fc"


def test_measuring_changes_nothing_of_a_net_and_every_unit_takes_part():
    net = fill(ResNet("cifar_resnet20")).train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    own = measure(net, *batch())
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    net.stochastic_depth, net.checkpoint_blocks = 0.9, 3
    net.requires_grad_(False)
    assert measure(net, *batch()) == own


def test_growth_is_the_factor_a_layer_on_the_way_back():
    assert growth([8.0, 4.0, 2.0, 1.0]) == pytest.approx(2)
    assert growth([1.0, 1.0, 1.0]) == pytest.approx(1)
    assert growth([0.01, 0.1, 1.0]) == pytest.approx(0.1)


def test_he_initialised_plain_nets_with_batchnorm_explode_as_theory_says():
    """Each rectified and normalised layer multiplies by sqrt(pi / (pi - 1)) (1902.08129 §3)."""
    torch.manual_seed(0)
    images = torch.randn(64, 3, 16, 16)
    net = ResNet("cifar_plain56")
    norms = profile([measure(net, images, torch.arange(64) % 10)])
    assert norms is not None
    within = growth(norms[2:18])  # one stage: the shapes are alike
    assert within == pytest.approx(math.sqrt(math.pi / (math.pi - 1)), rel=0.08)


def test_a_run_records_steps_that_double_and_learns_as_if_it_did_not(tmp_path: Path):
    flags = ("--trainer.limit_train_batches=4", *LONGER)
    watched = fit(tmp_path / "watched", *flags, f"--callbacks={RECORDER}")
    alone = fit(tmp_path / "alone", *flags)
    rows = by_step(read_norms(watched / "gradients.csv"))
    assert list(rows) == [0, 1, 2, 4, 6]
    assert len({len(layers) for layers in rows.values()}) == 1
    assert rows[0][0].weight != rows[6][0].weight
    assert untimed_rows(watched) == untimed_rows(alone)
    weights = [run / "model" / "model.safetensors" for run in (watched, alone)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_another_file_is_refused_and_not_read_as_numbers(tmp_path: Path):
    path = tmp_path / "gradients.csv"
    path.write_text("step,layer\n0,many\n")
    with pytest.raises(CorruptFile, match=r"gradients\.csv: no numbers of layers"):
        read_norms(path)


def test_what_is_not_finite_has_no_profile():
    net = fill(ResNet("cifar_resnet20"))
    rows = measure(net, *batch())
    assert profile([rows]) is not None
    net.layer2[0].conv1.weight.data.fill_(torch.nan)
    assert profile([measure(net, *batch())]) is None


def test_a_run_that_goes_on_keeps_what_was_measured_and_drops_what_lies_ahead(tmp_path: Path):
    net = fill(ResNet("cifar_resnet20"))
    old = [row for step in (0, 4, 8) for row in measure(net, *batch(), step=step)]
    text = csv_text(NAMES, [astuple(row) for row in old])
    (tmp_path / "gradients.csv").write_text(text.replace("conv", "old"))
    trainer: Any = SimpleNamespace(
        global_step=5, is_global_zero=True, default_root_dir=tmp_path, max_steps=9
    )
    module: Any = SimpleNamespace(net=net)
    recorder = Recorder()
    recorder._batch = batch()
    recorder.on_train_start(trainer, module)
    for trainer.global_step in (6, 7, 8, 9):
        recorder.on_train_batch_end(trainer, module, None, None, 0)
    found = by_step(read_norms(tmp_path / "gradients.csv"))
    assert {step: layers[0].name for step, layers in found.items()} == {
        0: "old1",
        4: "old1",
        8: "conv1",
        9: "conv1",
    }
