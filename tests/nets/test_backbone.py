"""Backbones: maps by name, fixed norms, frozen stages, dilated ones, and torchvision's detector."""

import re
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from reference_nets import fill
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import BackboneWithFPN

from resnet_hub.architecture import Architecture
from resnet_hub.errors import InvalidSetting
from resnet_hub.nets.backbone import FrozenBatchNorm2d
from resnet_hub.nets.resnet import ResNet
from resnet_hub.weights.convert import convert

TINY = {
    "v1.5": Architecture(depths=(1, 2, 1, 2), block="bottleneck", width=8),
    "v1": Architecture(depths=(1, 2, 1, 2), block="bottleneck", width=8, stride_in="1x1"),
    "basic": Architecture(depths=(1, 2, 1, 2), block="basic", width=8),
    "plain": Architecture(depths=(1, 2, 1, 2), block="basic", width=8, form="plain"),
    "wide": Architecture(depths=(1, 1, 1, 1), block="bottleneck", width=8, group_width=128),
    "resnext": Architecture(
        depths=(1, 1, 1, 1), block="bottleneck", width=16, groups=4, group_width=8
    ),
    "preact": Architecture(depths=(1, 2, 1, 2), block="bottleneck", width=8, form="preact"),
    "resnetv2": Architecture(
        depths=(1, 2, 1, 2), block="basic", width=8, form="preact", entry="own"
    ),
    "cifar": Architecture(depths=(2, 1, 2), block="basic", width=8, stem="cifar", shortcut="A"),
    "resnet-d": Architecture(
        depths=(1, 2, 1, 2), block="bottleneck", width=8, stem="deep", shortcut="D"
    ),
    "wide stem": Architecture(
        depths=(1, 2, 1, 2), block="basic", width=8, stem="deep_wide", shortcut="D"
    ),
    "resnetv2-d": Architecture(
        depths=(1, 2, 1, 2),
        block="bottleneck",
        width=8,
        form="preact",
        entry="own",
        stem="deep_tiered",
        shortcut="D",
    ),
    "averaged": Architecture(
        depths=(1, 2, 1, 2), block="basic", width=8, antialias="average", shortcut="D"
    ),
    "blurred": Architecture(depths=(1, 2, 1, 2), block="bottleneck", width=8, antialias="blur"),
    "resnet-rs": Architecture(
        depths=(1, 2, 1, 2),
        block="bottleneck",
        width=8,
        stem="deep",
        stem_pool="convolution",
        shortcut="D",
        attention="se",
        reduction=4,
    ),
    "eca": Architecture(depths=(1, 2, 1, 2), block="basic", width=8, attention="eca"),
    "BN after addition": Architecture(
        depths=(1, 2, 1, 2), block="bottleneck", width=8, form="bn_after_addition"
    ),
    "ReLU before addition": Architecture(
        depths=(1, 2, 1, 2), block="basic", width=8, form="relu_before_addition"
    ),
    "ReLU-only": Architecture(
        depths=(1, 2, 1, 2), block="basic", width=8, form="relu_only_preact", shortcut="A"
    ),
    "gated": Architecture(
        depths=(1, 2, 1, 2), block="bottleneck", width=8, shortcut_gate="exclusive"
    ),
    "gated before": Architecture(
        depths=(1, 2, 1, 2), block="basic", width=8, form="preact", shortcut_gate="shortcut_only"
    ),
    "projecting": Architecture(
        depths=(1, 2, 2), block="basic", width=8, stem="cifar", shortcut="C"
    ),
}
every_form = pytest.mark.parametrize("form", TINY)


def filled(form: str, seed: int = 0) -> ResNet:
    return fill(ResNet(TINY[form]), seed)


def images(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-5) -> None:
    scale = float(expected.abs().max())  # random weights give large maps
    assert float(expected.std()) > 1e-3 * scale
    torch.testing.assert_close(found / scale, expected / scale, rtol=0, atol=tolerance)


@every_form
@pytest.mark.parametrize("freeze_norms", [True, False])
def test_the_maps_are_those_of_the_net(form, freeze_norms):
    net = filled(form)
    body = net.backbone(freeze_norms=freeze_norms)
    x = images(2, 3, 64, 64)
    with torch.inference_mode():
        found, expected = body(x), net.features(x)
    assert list(found) == [name for name in expected if name != "C1"]
    for name, tensor in found.items():
        close(tensor, expected[name])
        assert tensor.shape[1] == body.channels[name]
        assert tensor.shape[2] == 64 // body.strides[name]


def test_channels_and_strides_are_the_papers():
    for name, channels in (("resnet18", [64, 128, 256, 512]), ("resnet50", [256, 512, 1024, 2048])):
        with torch.device("meta"):
            body = ResNet(name).backbone()
        assert list(body.channels.items()) == list(
            zip(("C2", "C3", "C4", "C5"), channels, strict=True)
        )
        assert list(body.strides.values()) == [4, 8, 16, 32]
    with torch.device("meta"):
        body = ResNet("cifar_resnet20").backbone()
    assert body.channels == {"C2": 16, "C3": 32, "C4": 64}
    assert body.strides == {"C2": 1, "C3": 2, "C4": 4}


@every_form
def test_the_net_is_left_as_it_was(form):
    net = filled(form)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    body = net.backbone(trainable_layers=0)
    with torch.no_grad():
        for tensor in body.state_dict().values():
            tensor.add_(1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert all(parameter.requires_grad for parameter in net.parameters())


# Norms


def test_a_frozen_norm_gives_torchvisions_numbers_and_takes_its_state():
    norm = fill(torch.nn.BatchNorm2d(5, eps=1e-3))
    ours, theirs = FrozenBatchNorm2d(norm), torchvision.ops.FrozenBatchNorm2d(5, eps=1e-3)
    theirs.load_state_dict(ours.state_dict())
    x = images(2, 5, 4, 4)
    assert torch.equal(ours(x), theirs(x))
    assert torch.equal(ours.train()(x), theirs(x))
    torch.testing.assert_close(ours(x), norm(x))
    assert not list(ours.parameters())
    assert "5, eps=0.001" in repr(ours)


@every_form
def test_the_state_of_a_net_without_its_classifier_loads_strictly(form):
    net, other = filled(form), filled(form, seed=1)
    state = {name: t for name, t in net.state_dict().items() if not name.startswith("fc.")}
    body = other.backbone()
    body.load_state_dict(state)
    x = images(1, 3, 64, 64)
    with torch.inference_mode():
        expected = net.features(x)
        for name, tensor in body(x).items():
            close(tensor, expected[name])


def test_training_moves_no_frozen_number():
    body = filled("v1.5").backbone(trainable_layers=5).train()
    before = {name: tensor.clone() for name, tensor in body.named_buffers()}
    body(images(2, 3, 64, 64))["C5"].sum().backward()
    assert before
    assert all(torch.equal(tensor, before[name]) for name, tensor in body.named_buffers())
    ordinary = filled("v1.5").backbone(freeze_norms=False).train()
    mean = ordinary.bn1.running_mean.clone()
    ordinary(images(2, 3, 64, 64))
    assert not torch.equal(ordinary.bn1.running_mean, mean)


# Freezing


@pytest.mark.parametrize("freeze_norms", [True, False])
@pytest.mark.parametrize("layers", range(6))
def test_the_same_parameters_train_as_in_torchvisions_extractor(layers, freeze_norms):
    from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor

    norm = torchvision.ops.FrozenBatchNorm2d if freeze_norms else torch.nn.BatchNorm2d
    with torch.device("meta"):
        theirs = torchvision.models.resnet18(norm_layer=norm)
        ours = ResNet("resnet18").backbone(trainable_layers=layers, freeze_norms=freeze_norms)
        body = _resnet_fpn_extractor(theirs, layers).body
    expected = {name for name, p in body.named_parameters() if p.requires_grad}
    assert {name for name, p in ours.named_parameters() if p.requires_grad} == expected


def test_all_of_a_deep_stem_trains_with_it_and_only_then():
    net = filled("resnet-rs")
    for layers in range(6):
        body = net.backbone(trainable_layers=layers, freeze_norms=False)
        parts = [*body.conv1.parameters(), *body.bn1.parameters(), *body.maxpool.parameters()]
        assert len(parts) == 3 + 2 * 2 + 2 + 1 + 2
        assert {p.requires_grad for p in parts[:7]} == {layers == 5}
        assert {p.requires_grad for p in parts[7:]} == {layers == 5}


def test_the_last_norm_of_a_preactivation_net_trains_with_the_last_stage():
    net = filled("preact")
    for layers in range(6):
        body = net.backbone(trainable_layers=layers, freeze_norms=False)
        assert body.norm.weight.requires_grad == (layers > 0)
        assert body.conv1.weight.requires_grad == (layers == 5)


@pytest.mark.parametrize(
    ("form", "options", "words"),
    [
        ("v1.5", {"trainable_layers": 6}, "trainable_layers: 6 is not 0 to 5"),
        ("v1.5", {"trainable_layers": -1}, "trainable_layers: -1 is not 0 to 5"),
        ("cifar", {"trainable_layers": 5}, "trainable_layers: 5 is not 0 to 4"),
        (
            "v1.5",
            {"replace_stride_with_dilation": [True, True]},
            r"replace_stride_with_dilation: \[True, True\] is not one of True and False for each",
        ),
        ("v1.5", {"replace_stride_with_dilation": "yes"}, "dilation: 'yes' is not one of True and"),
        ("v1.5", {"replace_stride_with_dilation": [1, 0, 1]}, r"dilation: \[1, 0, 1\] is not one"),
        ("v1.5", {"trainable_layers": True}, "trainable_layers: True is not 0 to 5"),
        ("v1.5", {"trainable_layers": 3.0}, "trainable_layers: 3.0 is not 0 to 5"),
    ],
)
def test_layers_that_a_net_does_not_have_are_refused(form, options, words):
    with pytest.raises(InvalidSetting, match=words):
        ResNet(TINY[form]).backbone(**options)


# Dilation

DILATED = [False, True, True]


@pytest.mark.parametrize("flags", [DILATED, [True, False, True], [True, True, False], (False,) * 3])
@pytest.mark.parametrize("name", ["resnet50", "resnext50_32x4d"])
def test_dilated_stages_give_torchvisions_logits(name, flags):
    with torch.device("meta"):
        theirs = torchvision.models.get_model(name, replace_stride_with_dilation=flags)
        net = ResNet(name).eval()
    net.load_state_dict(fill(theirs).state_dict(), assign=True)
    body = net.backbone(replace_stride_with_dilation=flags)
    x = images(1, 3, 64, 64)
    with torch.inference_mode():
        found = net.fc(torch.flatten(net.avgpool(body(x)["C5"]), 1))
        close(found, theirs(x))


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnetv2_50", "seresnet18", "resnet50c"])
def test_dilated_stages_of_every_block_give_timms_maps(name):
    theirs = fill(timm.create_model(name, output_stride=8))
    net = ResNet(name).eval()
    net.load_state_dict(convert(theirs.state_dict()).tensors)
    body = net.backbone(replace_stride_with_dilation=DILATED)
    x = images(1, 3, 64, 64)
    with torch.inference_mode():
        expected = theirs.forward_features(x)
        close(body(x)["C5"], expected)
    assert expected.shape[2] == 8


# Channel attention looks at a whole map, and a dilated one has other pixels too.
@pytest.mark.parametrize("form", [f for f, net in TINY.items() if net.attention == "none"])
@pytest.mark.parametrize("side", [64, 60, 33])
def test_every_second_place_of_a_dilated_map_is_the_strided_one(form, side):
    net = filled(form)
    later = len(TINY[form].depths) - 1
    flags = [False] * (later - 2) + [True, True]
    strided, dilated = net.backbone(), net.backbone(replace_stride_with_dilation=flags)
    x = images(1, 3, side, side)
    with torch.inference_mode():
        coarse, fine = strided(x), dilated(x)
    for name in coarse:
        step = strided.strides[name] // dilated.strides[name]
        close(fine[name][:, :, ::step, ::step], coarse[name])
    assert step == 4


def test_dilation_changes_no_tensor():
    net = filled("basic")
    plain, dilated = net.backbone(), net.backbone(replace_stride_with_dilation=DILATED)
    assert dilated.strides == {"C2": 4, "C3": 8, "C4": 8, "C5": 8}
    state = plain.state_dict()
    assert list(dilated.state_dict()) == list(state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in dilated.state_dict().items())


# torchvision's detection and segmentation


@every_form
def test_torchvisions_layer_getter_finds_the_same_maps(form):
    body = filled(form).backbone()
    x = images(1, 3, 64, 64)
    with torch.inference_mode():
        found, expected = IntermediateLayerGetter(body, body.return_layers)(x), body(x)
    assert list(found) == [str(i) for i in range(len(body.channels))]
    for ours, theirs in zip(expected.values(), found.values(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    "form", ["v1.5", "v1", "wide", "resnext", "preact", "basic", "resnet-rs", "ReLU-only", "gated"]
)
def test_a_faster_r_cnn_trains_a_step_on_it(form):
    torch.manual_seed(0)
    body = ResNet(TINY[form]).backbone(trainable_layers=2)
    fpn = BackboneWithFPN(body, body.return_layers, list(body.channels.values()), 16)
    detector = FasterRCNN(
        fpn,
        num_classes=3,
        min_size=64,
        max_size=64,
        rpn_pre_nms_top_n_train=50,
        rpn_post_nms_top_n_train=20,
    ).train()
    targets = [
        {"boxes": torch.tensor([[4.0, 4.0, 40.0, 36.0]]), "labels": torch.tensor([label])}
        for label in (1, 2)
    ]
    before = {name: p.detach().clone() for name, p in body.named_parameters()}
    optimizer = torch.optim.SGD([p for p in detector.parameters() if p.requires_grad], lr=0.01)
    losses = detector(list(torch.rand(2, 3, 64, 64)), targets)
    assert losses.keys() == {
        *("loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg")
    }
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    for name, parameter in detector.named_parameters():
        trained = not name.startswith("backbone.body") or "layer3" in name or "layer4" in name
        assert (parameter.grad is not None) == trained, name
        assert not trained or parameter.grad.isfinite().all()
    optimizer.step()
    moved = {name for name, p in body.named_parameters() if not torch.equal(p, before[name])}
    assert moved
    assert {name.partition(".")[0] for name in moved} == {"layer3", "layer4"}
    with torch.inference_mode():
        (found,) = detector.eval()([torch.rand(3, 64, 64)])
    assert found["boxes"].shape[1:] == (4,)


def test_a_segmenter_of_torchvision_is_built_on_it():
    from torchvision.models.segmentation.fcn import FCN, FCNHead

    body = ResNet(TINY["v1.5"]).backbone(freeze_norms=False, replace_stride_with_dilation=DILATED)
    net = FCN(IntermediateLayerGetter(body, {"layer4": "out"}), FCNHead(256, 5))
    found = net.train()(images(2, 3, 64, 64))["out"]
    assert found.shape == (2, 5, 64, 64)
    found.mean().backward()
    assert body.layer4[1].conv2.weight.grad.isfinite().all()


def test_the_how_tos_code_builds_a_detector_and_a_segmenter(tmp_path, monkeypatch):
    text = (Path(__file__).parents[2] / "docs" / "howto" / "weights.md").read_text("utf-8")
    section = text.partition("## Backbones")[2].partition("\n## ")[0]
    blocks = re.findall("```python\n(.*?)```", section, re.DOTALL)
    filled("v1.5").save_pretrained(tmp_path / "folder")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in blocks:
        exec(block, names)
    assert len(blocks) == 2
    assert names["segmenter"].eval()(images(1, 3, 64, 64))["out"].shape == (1, 21, 64, 64)
    assert len(names["detector"].eval()([torch.rand(3, 64, 64)])) == 1
