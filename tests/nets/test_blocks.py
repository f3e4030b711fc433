"""Units against the papers' equations, written a second time in ``reference_nets``."""

from dataclasses import replace

import pytest
import torch
from reference_nets import fill, preact_logits, reordered_logits, residual_logits, weighed
from torch import nn

from resnet_hub.architecture import Architecture
from resnet_hub.nets.resnet import ResNet
from resnet_hub.nets.shortcuts import PadShortcut
from resnet_hub.zoo import find_row

DEPTHS = (2, 1, 2)
SMALL = {"depths": DEPTHS, "width": 8, "classes": 5}
STEMS = ["cifar", "imagenet"]
BLOCKS = ["basic", "bottleneck"]
REORDERED = ["bn_after_addition", "relu_before_addition", "relu_only_preact"]  # Fig. 4 b, c, d
FORMS = ["residual", "preact", *REORDERED]


def double_net(architecture: Architecture) -> ResNet:
    return fill(ResNet(architecture)).double()


def images(stem: str) -> torch.Tensor:
    # An odd side, so that rounding of halved sides is seen too.
    side = 13 if stem == "cifar" else 37
    return torch.randn(2, 3, side, side, dtype=torch.float64)


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("shortcut", ["A", "B", "C"])
@pytest.mark.parametrize("zeros", ["split", "end"])
def test_a_residual_net_computes_equation_1_and_2(stem, block, shortcut, zeros):
    net = double_net(Architecture(**SMALL, block=block, stem=stem, shortcut=shortcut, zeros=zeros))
    x = images(stem)
    expected = residual_logits(
        net.state_dict(), x, depths=DEPTHS, stem=stem, shortcut=shortcut, zeros=zeros
    )
    torch.testing.assert_close(net(x), expected)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("stem", STEMS)
def test_a_plain_net_is_the_same_without_shortcuts(stem, block):
    net = double_net(Architecture(**SMALL, block=block, stem=stem, form="plain"))
    x = images(stem)
    expected = residual_logits(net.state_dict(), x, depths=DEPTHS, stem=stem, shortcut=None)
    torch.testing.assert_close(net(x), expected)
    assert not any("downsample" in name for name in net.state_dict())


@pytest.mark.parametrize("stride_in", ["1x1", "3x3"])
def test_a_bottleneck_strides_where_its_architecture_says(stride_in):
    net = double_net(Architecture(**SMALL, block="bottleneck", stride_in=stride_in))
    x = images("imagenet")
    expected = residual_logits(
        net.state_dict(), x, depths=DEPTHS, stem="imagenet", shortcut="B", stride_in=stride_in
    )
    torch.testing.assert_close(net(x), expected)


def test_groups_divide_the_3x3_convolution():
    net = double_net(Architecture(**SMALL, block="bottleneck", groups=4, group_width=16))
    # Of width 8 a quarter, 2 channels, a group; 4 groups.
    assert net.layer1[0].conv2.weight.shape == (8, 2, 3, 3)
    x = images("imagenet")
    expected = residual_logits(
        net.state_dict(), x, depths=DEPTHS, stem="imagenet", shortcut="B", groups=4
    )
    torch.testing.assert_close(net(x), expected)


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("shortcut", ["A", "B", "C"])
@pytest.mark.parametrize("stride_in", ["1x1", "3x3"])
def test_a_preactivation_net_computes_equation_9(stem, block, shortcut, stride_in):
    net = double_net(
        Architecture(
            **SMALL, block=block, stem=stem, shortcut=shortcut, form="preact", stride_in=stride_in
        )
    )
    x = images(stem)
    expected = preact_logits(net.state_dict(), x, depths=DEPTHS, stem=stem, stride_in=stride_in)
    torch.testing.assert_close(net(x), expected)


@pytest.mark.parametrize("form", REORDERED)
@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("shortcut", ["A", "B", "C"])
@pytest.mark.parametrize("stride_in", ["1x1", "3x3"])
def test_a_net_of_another_order_computes_its_panel_of_figure_4(
    form, block, stem, shortcut, stride_in
):
    net = double_net(
        Architecture(
            **SMALL, block=block, stem=stem, shortcut=shortcut, form=form, stride_in=stride_in
        )
    )
    x = images(stem)
    expected = reordered_logits(
        net.state_dict(), x, form=form, depths=DEPTHS, stem=stem, stride_in=stride_in
    )
    torch.testing.assert_close(net(x), expected)


@pytest.mark.parametrize("form", REORDERED)
def test_another_order_of_the_layers_has_the_same_tensors_and_is_another_function(form):
    nets = [fill(ResNet("cifar_resnet20", form=other)) for other in (form, "residual")]
    assert list(nets[0].state_dict()) == list(nets[1].state_dict())
    x = torch.randn(2, 3, 8, 8)
    assert not torch.allclose(nets[0](x), nets[1](x), rtol=0.1)


WEIGHED = {  # gate, on the shortcut, on F
    "half and half": ("none", 0.5, 0.5),
    "half the shortcut": ("none", 0.5, 1.0),
    "exclusive": ("exclusive", 1.0, 1.0),
    "shortcut only": ("shortcut_only", 1.0, 1.0),
    "gated and scaled": ("exclusive", 0.5, 2.0),
}


@pytest.mark.parametrize("case", WEIGHED)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_branch_and_shortcut_are_weighed_as_figure_2_has_it(case, form, block, shortcut):
    gate, on_shortcut, on_f = WEIGHED[case]
    own = {"shortcut_gate": gate, "shortcut_scale": on_shortcut, "residual_scale": on_f}
    net = double_net(Architecture(**SMALL, block=block, form=form, shortcut=shortcut, **own))
    state, x = net.state_dict(), images("imagenet")
    join = weighed(state, gate=gate, on_shortcut=on_shortcut, on_f=on_f)
    options = {"depths": DEPTHS, "stem": "imagenet", "join": join}
    if form == "residual":
        expected = residual_logits(state, x, shortcut=shortcut, **options)
    elif form == "preact":
        expected = preact_logits(state, x, **options)
    else:
        expected = reordered_logits(state, x, form=form, **options)
    torch.testing.assert_close(net(x), expected)


def test_a_shortcut_times_zero_is_the_plain_net():
    # 1603.05027 Table 1, the row of 0 and 1: "This is a plain net".
    net = fill(ResNet("cifar_resnet20", shortcut_scale=0))
    plain = ResNet("cifar_plain20").eval()
    plain.load_state_dict(net.state_dict())
    x = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(net(x), plain(x))


def test_a_gate_that_is_shut_leaves_the_residual_net():
    # 1603.05027 §3.1: the more negative its bias, the closer 1 − g is to 1.
    net = fill(ResNet("cifar_resnet20", shortcut_gate="shortcut_only"))
    for unit in net.blocks:
        unit.gate.bias.data.fill_(-1000)
    residual = ResNet("cifar_resnet20").eval()
    state = {name: t for name, t in net.state_dict().items() if ".gate." not in name}
    residual.load_state_dict(state)
    x = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(net(x), residual(x))


def test_option_c_puts_a_1x1_convolution_on_every_shortcut():
    # 1603.05027 Table 1's "1×1 conv shortcut" replaces the identities too.
    with torch.device("meta"):
        net = ResNet("cifar_resnet110", shortcut="C")
    assert len(net.blocks) == 54
    assert all(unit.downsample[0].kernel_size == (1, 1) for unit in net.blocks)


def test_the_first_preactivation_unit_has_no_activation_of_its_own():
    names = ResNet(Architecture(**SMALL, block="basic", form="preact")).state_dict()
    assert "bn1.weight" in names
    assert "layer1.0.bn1.weight" not in names
    assert "layer1.1.bn1.weight" in names


def test_the_entry_of_timm_keeps_the_raw_tensor_on_the_first_shortcut():
    shared = Architecture(**SMALL, block="basic", form="preact")
    net = double_net(replace(shared, entry="own"))
    unit = net.layer1[0]
    x = torch.randn(2, 8, 6, 6, dtype=torch.float64)
    branch = unit.residual(unit.bn1(x).relu())
    torch.testing.assert_close(unit(x), x + branch)
    assert net.bn1 is None


@pytest.mark.parametrize(
    "name",
    ["cifar_resnet164", "cifar_preact_resnet164", "resnet50_v1", "resnet101_v1", "resnet152_v1"],
)
def test_the_papers_bottlenecks_stride_in_the_first_1x1(name):
    assert strides_of_the_second_stage(name) == [(2, 2), (1, 1), (1, 1)]


@pytest.mark.parametrize(
    "name",
    ["resnet50", "preact_resnet50", "preact_resnet200", "resnetv2_50", "resnext50_32x4d"],
)
def test_imagenet_and_preactivation_imagenet_bottlenecks_stride_in_the_3x3(name):
    assert strides_of_the_second_stage(name) == [(1, 1), (2, 2), (1, 1)]


def strides_of_the_second_stage(name: str) -> list[tuple[int, ...]]:
    with torch.device("meta"):
        unit = ResNet(name).layer2[0]
    return [conv.stride for conv in (unit.conv1, unit.conv2, unit.conv3)]


def test_cifar_preactivation_nets_pad_where_basic_and_project_where_bottleneck():
    assert find_row("cifar_preact_resnet110").architecture.shortcut == "A"
    with torch.device("meta"):
        basic, bottleneck = ResNet("cifar_preact_resnet20"), ResNet("cifar_preact_resnet164")
    assert isinstance(basic.layer2[0].downsample, PadShortcut)
    assert isinstance(bottleneck.layer2[0].downsample[0], nn.Conv2d)
    assert len(bottleneck.layer2[0].downsample) == 1  # activated before, so no norm after


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("form", ["residual", "preact"])
def test_zero_init_residual_begins_each_unit_as_its_shortcut(block, form):
    torch.manual_seed(0)
    architecture = Architecture(**SMALL, block=block, form=form)
    net = ResNet(architecture, zero_init_residual=True).train()
    for stage in net.stages:
        unit = stage[-1]  # of stages of one unit this is a projection, of two an identity
        x = torch.randn(2, unit.conv1.in_channels, 6, 6).relu()
        if isinstance(unit.downsample, nn.Identity):
            assert torch.equal(unit(x), x)
        carried = unit.downsample(x if form == "residual" else unit.bn1(x).relu())
        expected = carried.relu() if form == "residual" else x
        if isinstance(unit.downsample, nn.Sequential):
            expected = carried.relu() if form == "residual" else carried
        torch.testing.assert_close(unit(x), expected)
    assert all(unit.last.weight.all() for unit in ResNet(architecture).blocks)


@pytest.mark.parametrize("form", ["residual", "preact"])
def test_a_left_out_branch_leaves_the_shortcut_alone(form):
    net = fill(ResNet(Architecture(**SMALL, block="basic", form=form)))
    unit, x = net.layer1[1], torch.randn(3, 8, 5, 5).relu()
    keep = torch.tensor([0.0, 1.0, 1.25]).view(3, 1, 1, 1)
    y = unit(x, keep)
    branch = unit.residual(x if form == "residual" else unit.bn1(x).relu())
    expected = x + branch * keep
    torch.testing.assert_close(y, expected.relu() if form == "residual" else expected)
    assert torch.equal(y[0], x[0])


@pytest.mark.parametrize("form", [*FORMS, "plain"])
def test_units_do_not_change_what_they_are_given(form):
    gate = "none" if form == "plain" else "exclusive"
    own = Architecture(**SMALL, block="basic", stem="cifar", form=form, shortcut_gate=gate)
    net = fill(ResNet(own))
    for unit in net.blocks:
        x = torch.randn(2, unit.conv1.in_channels, 6, 6)
        before = x.clone()
        unit(x)
        assert torch.equal(x, before)
