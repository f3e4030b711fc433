"""The net class: every row of the table, its initialisation, its options and what it gives."""

import logging
import warnings
from dataclasses import replace

import pytest
import torch
from reference_nets import fill
from torch import nn

from resnet_hub.architecture import Architecture
from resnet_hub.counting import natural_size, parameters
from resnet_hub.errors import InvalidSetting, UnknownName
from resnet_hub.nets.resnet import ResNet
from resnet_hub.preprocess import Preprocess
from resnet_hub.randomness import sample_keys
from resnet_hub.zoo import ARCHITECTURES, find_row

SMALL = Architecture(depths=(2, 2, 2), block="basic", stem="cifar", width=8, classes=5)
REORDERED = ["bn_after_addition", "relu_before_addition", "relu_only_preact"]
RESIDUAL = [n for n, row in ARCHITECTURES.items() if row.architecture.form != "plain"]


def on_meta(name: str | Architecture, **options) -> ResNet:
    with torch.device("meta"):
        return ResNet(name, **options)


def learnable(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_row_builds_and_counts_as_the_closed_form_says(name):
    net = on_meta(name)
    architecture = find_row(name).architecture
    assert net.architecture == architecture
    assert learnable(net) == parameters(architecture)
    assert all(tensor.is_meta for tensor in net.state_dict().values())
    size = natural_size(architecture)
    logits = net.eval()(torch.empty(2, 3, size, size, device="meta"))
    assert logits.shape == (2, architecture.classes)


@pytest.mark.parametrize("option", ["A", "B", "C"])
@pytest.mark.parametrize("name", RESIDUAL)
def test_every_shortcut_option_counts_as_the_closed_form_says(name, option):
    own = find_row(name).architecture
    if own.shortcut == option:
        return  # the row itself, counted above
    net = on_meta(name, shortcut=option)
    assert net.architecture == replace(own, shortcut=option)
    assert learnable(net) == parameters(net.architecture)


@pytest.mark.parametrize("form", ["residual", "preact", *REORDERED])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"shortcut": "C"},
        {"shortcut_scale": 0},
        {"shortcut_scale": 0.5, "residual_scale": 0.5},
        {"shortcut_gate": "exclusive", "gate_bias": -6},
        {"shortcut_gate": "shortcut_only"},
        {"shortcut_dropout": 0.5},
    ],
    ids=str,
)
def test_two_steps_move_every_weight_of_a_twisted_net(form, options):
    torch.manual_seed(0)
    net = ResNet(SMALL, form=form, **{"shortcut": "A", **options})
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(2):
        logits = net(torch.randn(4, 3, 16, 16), torch.arange(4))
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits, torch.arange(4)).backward()
        optimizer.step()
    for name, parameter in net.named_parameters():
        assert parameter.isfinite().all()
        assert not torch.equal(parameter, before[name]), name


@pytest.mark.parametrize(
    ("name", "form", "same"),
    [
        ("cifar_resnet56", "plain", "cifar_plain56"),
        ("cifar_plain56", "residual", "cifar_resnet56"),
        ("cifar_resnet164", "preact", "cifar_preact_resnet164"),
        ("resnetv2_50", "residual", "resnet50"),
    ],
)
def test_the_form_replaces_the_rows(name, form, same):
    assert on_meta(name, form=form).architecture == find_row(same).architecture


def test_an_option_that_is_not_given_stays_the_architectures():
    own = replace(SMALL, form="preact", shortcut_gate="exclusive", shortcut_scale=0.5)
    assert on_meta(own).architecture == own
    assert on_meta(own, shortcut_gate="none").architecture == replace(own, shortcut_gate="none")
    assert on_meta(own, shortcut_scale=0).architecture.shortcut_scale == 0


@pytest.mark.parametrize("name", ["cifar_resnet20", "cifar_plain20", "cifar_preact_resnet20"])
def test_a_fresh_net_trains_a_step_on_the_cpu(name):
    torch.manual_seed(0)
    net = ResNet(name)
    logits = net(torch.randn(4, 3, 32, 32))
    nn.functional.cross_entropy(logits, torch.arange(4)).backward()
    assert logits.dtype == torch.float32
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("name", ["cifar_preact_resnet20", "resnet18"])
def test_convolutions_begin_by_hes_rule(name):
    # 1502.01852 Eq. 14: standard deviation sqrt(2 / (k² c)), c here the outputs (fan-out).
    torch.manual_seed(0)
    for module in ResNet(name).modules():
        if isinstance(module, nn.Conv2d):
            weight = module.weight.detach()
            count = weight.numel()
            expected = (2 / (module.kernel_size[0] ** 2 * module.out_channels)) ** 0.5
            ratio = float(weight.std()) / expected
            assert abs(ratio - 1) < 5 / (2 * count) ** 0.5  # five standard errors
            assert abs(float(weight.mean())) < 5 * expected / count**0.5
        elif isinstance(module, nn.BatchNorm2d):
            assert module.weight.eq(1).all()
            assert module.bias.eq(0).all()


def test_classes_and_image_channels_replace_the_rows():
    net = ResNet("cifar_resnet20", classes=7, in_channels=4)
    assert (net.architecture.classes, net.architecture.in_channels) == (7, 4)
    assert net.preprocess.channels == 4
    assert net(torch.randn(2, 4, 16, 16)).shape == (2, 7)


def test_classes_may_be_named():
    net = ResNet("cifar_resnet20", classes=["ant", "bee"])
    assert (net.architecture.classes, net.labels) == (2, ("ant", "bee"))


@pytest.mark.parametrize("classes", ["ant", ["ant", 1], 2.5, True])
def test_classes_that_are_neither_a_number_nor_names_are_refused(classes):
    with pytest.raises(InvalidSetting, match="is neither a number nor a list of names"):
        ResNet("cifar_resnet20", classes=classes)


def test_the_zeros_placement_replaces_the_rows():
    nets = [fill(ResNet("cifar_resnet20", zeros=zeros)) for zeros in ("split", "end")]
    x = torch.randn(2, 3, 16, 16)
    assert list(nets[0].state_dict()) == list(nets[1].state_dict())
    assert not torch.allclose(nets[0](x), nets[1](x))
    assert torch.equal(nets[0](x), fill(ResNet("cifar_resnet20"))(x))


def test_an_imagenet_net_has_imagenet_preprocessing_and_a_cifar_net_its_own():
    assert on_meta("resnet18").preprocess == Preprocess()
    assert on_meta("cifar_resnet20").preprocess.size == 32
    assert on_meta("cifar_resnet20").preprocess.resize is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"classes": 0}, "classes: 0"),
        ({"classes": -5}, "classes: -5"),
        ({"in_channels": 0}, "in_channels: 0"),
        ({"shortcut": "E"}, "shortcut: 'E'"),
        ({"zeros": "middle"}, "zeros: 'middle'"),
        ({"form": "postact"}, "form: 'postact'"),
        ({"shortcut_gate": "highway"}, "shortcut_gate: 'highway'"),
        ({"residual_scale": 0}, "residual_scale: 0"),
        ({"stochastic_depth": 1.0}, "stochastic_depth: 1.0"),
        ({"stochastic_depth": -0.1}, "stochastic_depth: -0.1"),
        ({"stochastic_depth": float("nan")}, "stochastic_depth: nan"),
        ({"checkpoint_blocks": -1}, "checkpoint_blocks: -1"),
    ],
)
def test_a_value_that_no_net_can_have_is_refused_by_its_name(options, words):
    with pytest.raises(InvalidSetting, match=words):
        on_meta("cifar_resnet20", **options)


def test_a_plain_net_takes_no_shortcut():
    with pytest.raises(InvalidSetting, match="shortcut: a plain net has none"):
        on_meta("cifar_plain20", shortcut="B")
    with pytest.raises(InvalidSetting, match="shortcut: a plain net has none"):
        on_meta("cifar_resnet20", form="plain", shortcut="B")
    assert on_meta("cifar_plain20", form="residual", shortcut="B").architecture.shortcut == "B"


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UnknownName, match="did you mean 'resnet50'"):
        ResNet("resnet51")


# Feature maps


@pytest.mark.parametrize(
    ("name", "side", "channels", "strides"),
    [
        ("cifar_resnet20", 32, [16, 16, 32, 64], [1, 1, 2, 4]),
        ("cifar_preact_resnet164", 32, [16, 64, 128, 256], [1, 1, 2, 4]),
        ("cifar_resnet18", 32, [64, 64, 128, 256, 512], [1, 1, 2, 4, 8]),
        ("resnet18", 64, [64, 64, 128, 256, 512], [2, 4, 8, 16, 32]),
        ("resnet50", 64, [64, 256, 512, 1024, 2048], [2, 4, 8, 16, 32]),
        ("preact_resnet18", 64, [64, 64, 128, 256, 512], [2, 4, 8, 16, 32]),
        ("plain18", 64, [64, 64, 128, 256, 512], [2, 4, 8, 16, 32]),
    ],
)
def test_features_have_the_names_channels_and_strides_of_the_stages(name, side, channels, strides):
    maps = on_meta(name).eval().features(torch.empty(2, 3, side, side, device="meta"))
    assert list(maps) == [f"C{i + 1}" for i in range(len(channels))]
    shapes = [tuple(feature.shape) for feature in maps.values()]
    assert shapes == [(2, c, side // s, side // s) for c, s in zip(channels, strides, strict=True)]


@pytest.mark.parametrize("form", ["residual", "plain", "preact", *REORDERED])
def test_the_last_feature_map_is_what_the_classifier_pools(form):
    net = fill(ResNet(replace(SMALL, form=form)))
    x = torch.randn(2, 3, 16, 16)
    last = net.features(x)["C4"]
    torch.testing.assert_close(net.fc(last.mean((2, 3))), net(x))
    if form != "relu_before_addition":  # whose projections are not activated
        assert last.min() >= 0  # activated, in a pre-activation net too


@pytest.mark.parametrize("form", ["residual", "plain", "preact", *REORDERED])
@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_feature_maps_are_not_written_over_by_later_layers(form, stem):
    net = fill(ResNet(replace(SMALL, form=form, stem=stem)))
    maps = net.features(torch.randn(2, 3, 32, 32))
    x = maps["C1"] if stem == "cifar" else net.maxpool(maps["C1"])
    for number, stage in enumerate(net.stages[:-1], 2):
        x = stage[1](stage[0](x))
        torch.testing.assert_close(x, maps[f"C{number}"])


# Stochastic depth


def factors(net: ResNet, keys: torch.Tensor | None, count: int) -> torch.Tensor:
    """What each unit's branch is multiplied by, ``(units, count)``."""
    seen = []
    hooks = [
        unit.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1].flatten()))
        for unit in net.blocks
    ]
    with torch.no_grad():
        net(torch.zeros(count, 3, 1, 1), keys)
    for hook in hooks:
        hook.remove()
    return torch.stack(seen)


def test_branches_are_left_out_at_rates_that_grow_linearly():
    # 1603.09382 §3: unit l of L survives with 1 - l/L (1 - p_L); tested by the train-time mean.
    count, rate = 4000, 0.6
    kept = factors(ResNet(SMALL, stochastic_depth=rate), torch.arange(count), count)
    for number, row in enumerate(kept, 1):
        survival = 1 - rate * number / 6
        assert sorted(set(row.tolist())) == pytest.approx([0, 1 / survival])
        error = (survival * (1 - survival) / count) ** 0.5
        assert abs(float((row > 0).float().mean()) - survival) < 5 * error
        assert abs(float(row.mean()) - 1) < 5 * error / survival  # the expectation is unchanged


def test_units_are_left_out_independently_of_each_other():
    kept = factors(ResNet(SMALL, stochastic_depth=0.5), torch.arange(4000), 4000)
    correlation = torch.corrcoef((kept > 0).float())
    assert correlation.fill_diagonal_(0).abs().max() < 5 / 4000**0.5


def test_a_samples_draws_depend_on_its_key_alone():
    net = ResNet(SMALL, stochastic_depth=0.5)
    keys = sample_keys(3, 1, torch.arange(64))
    whole = factors(net, keys, 64)
    order = torch.randperm(64)
    assert torch.equal(factors(net, keys[order], 64), whole[:, order])
    assert torch.equal(factors(net, keys[5:9], 4), whole[:, 5:9])
    assert not torch.equal(factors(net, sample_keys(3, 2, torch.arange(64)), 64), whole)


def test_a_samples_logits_do_not_depend_on_who_is_in_the_batch():
    net = fill(ResNet(SMALL, stochastic_depth=0.5)).double()
    net.training = True  # BatchNorm stays in evaluation: it would mix the samples
    x, keys = torch.randn(6, 3, 8, 8, dtype=torch.float64), torch.arange(6)
    logits = net(x, keys)
    alone = torch.cat([net(x[i : i + 1], keys[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(alone, logits)
    torch.testing.assert_close(net(x.flip(0), keys.flip(0)).flip(0), logits)
    torch.testing.assert_close(
        net.features(x, keys)["C4"].mean((2, 3)) @ net.fc.weight.T + net.fc.bias, logits
    )
    assert not torch.allclose(net(x, keys + 100), logits)


def test_without_keys_the_draws_follow_torchs_seed():
    net = ResNet(SMALL, stochastic_depth=0.5)
    draws = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        draws.append(factors(net, None, 64))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_evaluation_leaves_nothing_out():
    x, keys = torch.randn(2, 3, 8, 8), torch.arange(2)
    net = fill(ResNet(SMALL, stochastic_depth=0.9))
    assert torch.equal(net(x, keys), fill(ResNet(SMALL))(x))


def test_under_autocast_units_stay_in_half_precision():
    net = ResNet(SMALL, stochastic_depth=0.5)
    kinds = []
    for unit in net.blocks:
        unit.register_forward_hook(lambda _, inputs, output: kinds.append(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        net(torch.randn(2, 3, 8, 8))
    assert set(kinds) == {torch.bfloat16}


# Compilers

REPRESENTATIVE = [
    *("resnet18", "resnetv2_18", "cifar_resnet20", "cifar_preact_resnet20"),
    *("seresnet18", "ecaresnet26t", "resnetblur18", "resnetaa34d"),
]


@pytest.mark.parametrize("name", REPRESENTATIVE)
def test_a_net_exports_with_a_free_batch_size(name):
    net = fill(on_meta(name))
    dynamic = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(net, (torch.randn(2, 3, 32, 32),), dynamic_shapes=dynamic)
    x = torch.randn(3, 3, 32, 32)
    torch.testing.assert_close(program.module()(x), net(x))


@pytest.mark.parametrize("form", REORDERED)
def test_a_gated_net_of_another_order_compiles_without_a_graph_break(form):
    torch._dynamo.reset()
    net = fill(on_meta(SMALL, form=form, shortcut_gate="exclusive", shortcut_scale=0.5))
    x = torch.randn(2, 3, 16, 16)
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), net(x))


@pytest.mark.parametrize("name", REPRESENTATIVE)
def test_a_net_compiles_without_a_graph_break(name):
    torch._dynamo.reset()
    net = fill(on_meta(name))
    x = torch.randn(2, 3, 32, 32)
    expected = net(x)
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), expected)


@pytest.mark.parametrize("form", ["residual", "preact"])
def test_training_with_stochastic_depth_compiles_without_a_graph_break(form):
    torch._dynamo.reset()
    net = ResNet(replace(SMALL, form=form), stochastic_depth=0.5)
    x, keys = torch.randn(4, 3, 8, 8), torch.arange(4)
    net.compile(fullgraph=True, backend="eager")
    compiled = net(x, keys)
    compiled.sum().backward()
    torch.testing.assert_close(compiled, net.forward(x, keys))
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_compiling_in_place_leaves_the_tensor_names_clean():
    net = ResNet(SMALL)
    before = list(net.state_dict())
    net.compile(backend="eager")
    net(torch.randn(2, 3, 8, 8))
    assert list(net.state_dict()) == before


def test_building_a_net_warns_of_nothing_and_logs_nothing(caplog):
    with warnings.catch_warnings(), caplog.at_level(logging.DEBUG, "resnet_hub"):
        warnings.simplefilter("error")
        ResNet("cifar_resnet20")
    assert not caplog.records
