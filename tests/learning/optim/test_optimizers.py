"""How much each parameter learns and decays, and what the optimizers do with it."""

import math
from pathlib import Path

import pytest
import timm
import timm.optim
import torch
from small_runs import checkpoint, command, failure, fit, untimed_rows
from torch import nn

from resnet_hub.errors import InvalidSetting
from resnet_hub.learning.optim.optimizers import build_optimizer, effective_lr, parameter_groups
from resnet_hub.learning.settings import OptimizerSettings
from resnet_hub.nets.resnet import ResNet

MODES = ("all", "no_norm_bias", "conv_only")


def counts(net: nn.Module, mode: str) -> dict[str, int]:
    settings = OptimizerSettings(decay=mode, weight_decay=0.01)
    groups = parameter_groups(net, settings, lr=0.1)
    decays = {"decayed": 0.01, "free": 0.0}
    assert [g["weight_decay"] for g in groups] == [decays[g["name"]] for g in groups]
    return {group["name"]: len(group["params"]) for group in groups}


@pytest.mark.parametrize(
    ("name", "convolutions", "norms"),
    [
        # 1 + 3 stages × 3 units × 2 convolutions; option A has no parameters.
        ("cifar_resnet20", 19, 19),
        # 1 + 16 units × 3 + 4 projections, each with a norm.
        ("resnet50", 53, 53),
        # The last unit's norm comes after the addition; projections have none.
        ("preact_resnet50", 53, 49),
        ("cifar_plain20", 19, 19),
        # 3 + 8 units × 3 + 4 projections, each with a norm; the units' attention has none.
        ("ecaresnet26t", 39, 31),
    ],
)
def test_the_groups_of_each_mode_are_what_one_counts_by_hand(
    name: str, convolutions: int, norms: int
):
    with torch.device("meta"):
        net = ResNet(name)
    everything = convolutions + 2 * norms + 2
    assert counts(net, "all") == {"decayed": everything}
    assert counts(net, "no_norm_bias") == {
        "decayed": convolutions + 1,
        "free": 2 * norms + 1,
    }
    assert counts(net, "conv_only") == {"decayed": convolutions, "free": 2 * norms + 2}


def test_of_squeeze_and_excitation_the_weights_decay_and_the_biases_do_not():
    with torch.device("meta"):
        net = ResNet("seresnet18")
    settings = OptimizerSettings(decay="no_norm_bias")
    decayed, _ = (group["params"] for group in parameter_groups(net, settings, lr=0.1))
    kept = {id(parameter) for parameter in decayed}
    own = {n: p for n, p in net.named_parameters() if ".se." in n}
    assert len(own) == 8 * 4
    assert all(
        (id(parameter) in kept) == name.endswith("weight") for name, parameter in own.items()
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "name", ["resnet18", "resnext50_32x4d", "cifar_preact_resnet164", "resnetv2_50"]
)
def test_every_parameter_is_in_exactly_one_group(name: str, mode: str):
    with torch.device("meta"):
        net = ResNet(name, shortcut="C")
    groups = parameter_groups(net, OptimizerSettings(decay=mode), lr=0.1)
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(parameter) for parameter in net.parameters()}


def test_frozen_parameters_are_in_their_groups_too_so_that_they_can_be_thawed():
    net = ResNet("cifar_resnet20")
    before = counts(net, "no_norm_bias")
    net.requires_grad_(False)
    net.fc.requires_grad_(True)
    assert counts(net, "no_norm_bias") == before


@pytest.mark.parametrize("name", ["sgd", "adamw", "lamb"])
def test_without_gradients_only_what_decays_moves(name: str):
    net = ResNet("cifar_resnet20")
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(1.0)
            parameter.grad = torch.zeros_like(parameter)
    settings = OptimizerSettings(name=name, weight_decay=0.5, decay="conv_only")
    build_optimizer(net, settings, lr=0.1).step()
    values = {n: p.unique().tolist() for n, p in net.named_parameters()}
    for parameter, (value,) in values.items():
        # SGD and AdamW begin with w − lr·decay·w: SGD's first step has no momentum yet. LAMB's
        # is as long as the weights times the learning rate, whatever the decay.
        moved = 0.9 if name == "lamb" else 0.95
        assert value == pytest.approx(moved if "conv" in parameter else 1.0), parameter


def test_sgd_takes_the_recipes_momentum_and_nesterov():
    settings = OptimizerSettings(momentum=0.8, nesterov=True)
    optimizer = build_optimizer(ResNet("cifar_resnet20"), settings, lr=0.3)
    assert isinstance(optimizer, torch.optim.SGD)
    assert {(g["lr"], g["momentum"], g["nesterov"]) for g in optimizer.param_groups} == {
        (0.3, 0.8, True)
    }


def test_adamw_takes_the_recipes_betas():
    settings = OptimizerSettings(name="adamw", betas=(0.8, 0.95))
    optimizer = build_optimizer(ResNet("cifar_resnet20"), settings, lr=0.002)
    assert isinstance(optimizer, torch.optim.AdamW)
    assert {(g["lr"], g["betas"]) for g in optimizer.param_groups} == {(0.002, (0.8, 0.95))}


@pytest.mark.parametrize(
    ("scaled", "images", "expected"),
    [(False, 32, 0.1), (False, 8192, 0.1), (True, 256, 0.1), (True, 32, 0.0125), (True, 8192, 3.2)],
)
def test_the_learning_rate_grows_with_the_images_a_step_only_where_asked(
    scaled: bool, images: int, expected: float
):
    # 8192 images at 3.2: 1706.02677 §2.1.
    settings = OptimizerSettings(lr=0.1, scaled=scaled)
    assert effective_lr(settings, images) == pytest.approx(expected)


def test_a_learning_rate_that_single_precision_cannot_hold_is_refused():
    assert effective_lr(OptimizerSettings(lr=3e38), 512) == 3e38
    with pytest.raises(InvalidSetting, match=r"optimizer.lr: 6e\+38 is more than single"):
        effective_lr(OptimizerSettings(lr=3e38, scaled=True), 512)


def test_what_a_file_brings_lies_in_memory_as_the_weights_do_so_that_its_norms_are_the_same():
    def one_step() -> torch.optim.Optimizer:
        net = ResNet("cifar_resnet20").to(memory_format=torch.channels_last)
        net(torch.randn(2, 3, 8, 8)).logsumexp(1).sum().backward()
        optimizer = build_optimizer(net, OptimizerSettings(name="lamb"), lr=0.1)
        optimizer.step()
        return optimizer

    own, saved = one_step(), one_step().state_dict()
    for state in saved["state"].values():
        state.update({name: moment.contiguous() for name, moment in state.items()})
    own.load_state_dict(saved)
    for weight, state in own.state.items():
        assert state["exp_avg"].stride() == state["exp_avg_sq"].stride() == weight.stride()
    assert sum(weight.stride(1) == 1 for weight in own.state if weight.ndim == 4) == 19


# Layers that learn at rates of their own


def rates(net: nn.Module, **settings: object) -> dict[str, tuple[float, float]]:
    """Each parameter's learning rate and decay, of a rate of 1 and a decay of 0.1."""
    own = OptimizerSettings(weight_decay=0.1, decay="no_norm_bias", **settings)
    optimizer = build_optimizer(net, own, lr=1.0)
    names = {parameter: name for name, parameter in net.named_parameters()}
    return {
        names[parameter]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }


def test_the_layers_rates_are_powers_of_the_decay_from_the_head_down():
    found = rates(ResNet("cifar_resnet20"), layer_decay=0.5)
    units = [f"layer{stage}.{unit}" for stage in (1, 2, 3) for unit in (0, 1, 2)]
    for depth, layer in enumerate(["conv1", *units, "fc"]):
        weight = f"{layer}.weight" if "." not in layer else f"{layer}.conv2.weight"
        assert found[weight] == (0.5 ** (10 - depth), 0.1)
    assert found["bn1.bias"] == (0.5**10, 0.0)
    assert found["layer2.1.bn2.weight"] == (0.5**5, 0.0)
    assert found["fc.bias"] == (1.0, 0.0)


@pytest.mark.parametrize("name", ["resnet50", "resnet18", "resnext50_32x4d"])
def test_layer_decay_is_timms(name: str):
    with torch.device("meta"):
        ours, timms = ResNet(name), timm.create_model(name)
    names = {parameter: own for own, parameter in timms.named_parameters()}
    groups = timm.optim.param_groups_layer_decay(timms, weight_decay=0.1, layer_decay=0.75)
    expected = {
        names[parameter]: (pytest.approx(group["lr_scale"]), group["weight_decay"])
        for group in groups
        for parameter in group["params"]
    }
    assert rates(ours, layer_decay=0.75) == expected


def test_the_last_norm_of_a_pre_activation_net_learns_as_its_last_unit_does():
    with torch.device("meta"):
        found = rates(ResNet("preact_resnet50"), layer_decay=0.75)
    assert found["norm.weight"][0] == found["layer4.2.conv3.weight"][0] == 0.75


@pytest.mark.parametrize("layer_decay", [1.0, 0.75])
def test_the_head_learns_faster_where_asked(layer_decay: float):
    net = ResNet("cifar_resnet20")
    plain = rates(net, layer_decay=layer_decay)
    found = rates(net, layer_decay=layer_decay, head_lr=10)
    for name, (lr, decay) in plain.items():
        assert found[name] == (10 * lr if name.startswith("fc.") else lr, decay)


def test_groups_are_named_for_their_layer_and_for_what_decays():
    def names(**settings: float) -> list[str]:
        own = OptimizerSettings(decay="no_norm_bias", **settings)
        return [group["name"] for group in parameter_groups(net, own, lr=0.1)]

    net = ResNet("cifar_resnet20")
    assert names() == ["decayed", "free"]
    assert names(head_lr=2) == ["body decayed", "body free", "head decayed", "head free"]
    both = names(layer_decay=0.5)
    assert both[:4] == ["stem decayed", "stem free", "layer1.0 decayed", "layer1.0 free"]
    assert len(both) == 2 * 11


LAYERED = (
    *("--trainer.max_epochs=2", "--trainer.limit_train_batches=3", "--optimizer.lr=0.1"),
    *("--optimizer.layer_decay=0.5", "--optimizer.head_lr=10", "--optimizer.scaled=false"),
    *("--optimizer.decay=no_norm_bias", "--schedule=cosine", "--schedule.floor=0"),
    "--schedule.warmup=0",
)


def test_the_schedule_multiplies_every_layers_rate_and_the_logged_one_is_the_recipes(
    tmp_path: Path,
):
    run = fit(tmp_path / "run", *LAYERED)
    groups = checkpoint(run)["optimizer_states"][0]["param_groups"]
    assert [group["lr"] for group in groups] == [0.0] * 22  # a cosine's end
    assert [g["initial_lr"] for g in groups[::2]] == pytest.approx(
        [*(0.1 * 0.5**depth for depth in range(10, 0, -1)), 1.0]
    )
    logged = [row["lr"] for row in untimed_rows(run) if row["lr"]]
    cosine = [0.05 * (1 + math.cos(math.pi * step / 6)) for step in range(6)]
    assert [float(lr) for lr in logged] == pytest.approx(cosine)


def test_an_allowed_change_of_the_layers_rates_is_in_force_and_one_of_the_groups_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run = fit(tmp_path / "run", *LAYERED, "--schedule=constant", "--trainer.max_epochs=1")
    recipe = run / "recipe.yaml"
    text = recipe.read_text().replace("max_epochs: 1", "max_epochs: 2")
    recipe.write_text(text.replace("head_lr: 10", "head_lr: 4"))
    assert command("fit", "--resume", run, "--allow-changed") == 0
    groups = checkpoint(run)["optimizer_states"][0]["param_groups"]
    assert groups[-1]["lr"] == pytest.approx(0.4)
    assert groups[0]["lr"] == pytest.approx(0.1 * 0.5**10)
    recipe.write_text(text.replace("layer_decay: 0.5", "layer_decay: 1.0"))
    line = failure(capsys, "fit", "--resume", run, "--allow-changed")
    assert line == (
        "resnet-hub: optimizer: the checkpoint's 22 groups of parameters are not the recipe's 4; "
        "set decay, layer_decay and head_lr back, or begin another run\n"
    )
