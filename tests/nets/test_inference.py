"""Nets that answer alone: every form gives its net's logits, whichever way is taken."""

import logging
import pickle
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from reference_nets import fill
from torch import nn

from resnet_hub.architecture import Architecture
from resnet_hub.errors import InvalidSetting
from resnet_hub.nets.inference import kernels
from resnet_hub.nets.resnet import ResNet
from resnet_hub.preprocess import Preprocess

BASIC = Architecture(depths=(1, 2), block="basic", width=16, classes=5)
DEEP = Architecture(depths=(1, 2), block="bottleneck", width=16, classes=5)
FORMS = {
    "basic": BASIC,
    "bottleneck": DEEP,
    "stride in the 1x1": replace(DEEP, stride_in="1x1"),
    "grouped": replace(DEEP, groups=4, group_width=16),
    "option A": replace(BASIC, stem="cifar", shortcut="A"),
    "option C": replace(BASIC, shortcut="C"),
    "plain": replace(BASIC, form="plain"),
    "plain with attention": replace(BASIC, form="plain", attention="se"),
    "preact": replace(DEEP, form="preact"),
    "preact, option A": replace(BASIC, form="preact", stem="cifar", shortcut="A"),
    "grey resnetv2": replace(DEEP, form="preact", entry="own", in_channels=1),
    "deep resnetv2": replace(DEEP, form="preact", entry="own", stem="deep", shortcut="D"),
    "resnet-c": replace(DEEP, stem="deep"),
    "resnet-d": replace(DEEP, stem="deep", shortcut="D"),
    "resnet-rs": replace(
        DEEP, stem="deep_tiered", stem_pool="convolution", shortcut="D", attention="se", reduction=4
    ),
    "eca": replace(DEEP, attention="eca"),
    "averaged": replace(BASIC, antialias="average"),
    "blurred": replace(DEEP, antialias="blur"),
    "BN after addition": replace(DEEP, form="bn_after_addition"),
    "ReLU before addition": replace(BASIC, form="relu_before_addition"),
    "ReLU-only": replace(DEEP, form="relu_only_preact"),
    "gated": replace(BASIC, shortcut_gate="exclusive"),
    "gated shortcut": replace(BASIC, form="preact", shortcut_gate="shortcut_only"),
    "scaled": replace(BASIC, shortcut_scale=0.5, residual_scale=0.25),
}
needs_fused = pytest.mark.skipif(not kernels.has_fused(), reason="no fused kernels here")
TOLERANCE = {"32-true": 1e-5, "bf16-true": 5e-2}


def small(form: str = "basic") -> ResNet:
    net = fill(ResNet(FORMS[form]))
    mean = net.preprocess.mean
    net.preprocess = Preprocess(size=24, resize=None, mean=mean, std=mean)
    return net


def images(net: ResNet, count: int = 2, height: int = 24, width: int = 24) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randn(count, net.architecture.in_channels, height, width, generator=generator)


def deviation(net: ResNet, other: nn.Module, x: torch.Tensor) -> float:
    with torch.no_grad():
        expected = net(x)
    found = other(x)
    assert (found.dtype, found.shape, found.requires_grad) == (torch.float32, expected.shape, False)
    return float((found - expected).abs().max() / expected.abs().max())


@needs_fused
@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_fused_and_gives_the_nets_logits(form, precision):
    net = small(form)
    fast = net.for_inference(precision=precision)
    assert fast.way == "fused"
    for count in (1, 2, 7):
        assert deviation(net, fast, images(net, count)) <= TOLERANCE[precision]


@pytest.mark.parametrize("form", FORMS)
def test_without_the_operators_norms_are_folded_all_the_same_and_it_is_said(
    form, monkeypatch, caplog
):
    monkeypatch.setattr(kernels, "has_fused", lambda: False)
    net = small(form)
    fast = net.for_inference()
    assert fast.way == "folded"
    assert [record.getMessage() for record in caplog.records] == [
        "for_inference: not fused, which is slower: this torch or CPU lacks oneDNN's kernels for it"
    ]
    assert deviation(net, fast, images(net)) <= TOLERANCE["32-true"]


def test_an_operator_of_another_signature_is_not_called(monkeypatch):
    monkeypatch.setattr(kernels, "_FUSED", ("mkldnn::_no_such_operator(Tensor x) -> Tensor",))
    assert not kernels.has_fused()
    monkeypatch.setattr(kernels, "_FUSED", ("aten::relu(Tensor self, int n) -> Tensor",))
    assert not kernels.has_fused()


@needs_fused
def test_operators_that_compute_something_else_are_found_out(monkeypatch, caplog):
    monkeypatch.setattr(
        kernels.Packed,
        "convolve",
        lambda self, by, x, *, relu: kernels.Dense().convolve(by, x + 1, relu=relu),
    )
    net = small()
    fast = net.for_inference()
    assert fast.way == "folded"
    assert "not fused, which is slower: logits of up to" in caplog.text
    assert deviation(net, fast, images(net)) <= TOLERANCE["32-true"]


@needs_fused
def test_operators_that_refuse_are_not_used(monkeypatch, caplog):
    def refuse(self, by, x, *, relu):
        raise RuntimeError("no such instruction\non this CPU")

    monkeypatch.setattr(kernels.Packed, "convolve", refuse)
    net = small()
    assert net.for_inference().way == "folded"
    assert "torch refuses it (no such instruction)" in caplog.text
    assert caplog.text.count("\n") == 1


def test_a_net_with_a_layer_of_its_users_is_run_as_it_is(caplog):
    net = small()
    net.layer2[0].conv1 = nn.Sequential(nn.Conv2d(16, 32, 3, 2, 1, bias=False), nn.Tanh())
    fast = net.for_inference()
    assert fast.way == "plain"
    assert "a layer is none of the architecture's" in caplog.text
    assert deviation(net, fast, images(net)) == 0


@needs_fused
def test_any_shape_of_images_comes_out_right_and_whole_batches_equal_their_parts(monkeypatch):
    net = small("bottleneck")
    fast = net.for_inference()
    for shape in [(1, 24, 24), (3, 32, 40), (5, 17, 23), (1, 64, 64), (3, 32, 40), (2, 24, 24)]:
        assert deviation(net, fast, images(net, *shape)) <= TOLERANCE["32-true"]
    for count in range(1, 40):  # more shapes than are kept
        assert deviation(net, fast, images(net, count, 16, 16)) <= TOLERANCE["32-true"]
    assert fast(images(net, 0)).shape == (0, 5)
    monkeypatch.setattr("resnet_hub.nets.inference.packing._MOST", 1)
    assert deviation(net, fast, images(net, 13)) <= TOLERANCE["32-true"]


@needs_fused
@pytest.mark.parametrize("form", ["basic", "preact, option A", "grey resnetv2"])
def test_neither_images_nor_net_are_changed(form):
    net = small(form).train()
    before = deepcopy(net.state_dict())
    fast = net.for_inference()
    for x in (images(net), images(net).contiguous(memory_format=torch.channels_last)):
        kept = x.clone()
        fast(x)
        assert torch.equal(x, kept)
    assert net.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in net.parameters())


def test_what_becomes_of_the_net_changes_nothing():
    net = small()
    fast, x = net.for_inference(), images(net)
    before = fast(x)
    with torch.no_grad():
        for tensor in net.state_dict().values():
            tensor.zero_()
    assert torch.equal(fast(x), before)


@needs_fused
def test_threads_may_share_it():
    net = small("bottleneck")
    fast = net.for_inference()
    batches = [images(net, 1 + number % 5, 24 + 8 * (number % 3), 24) for number in range(60)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(fast, batches))
    with torch.no_grad():
        for logits, x in zip(found, batches, strict=True):
            expected = net(x)
            assert float((logits - expected).abs().max() / expected.abs().max()) <= 1e-5


def test_it_carries_what_the_net_is_and_copies_and_pickles_answer_the_same():
    net = small()
    net.labels, net.temperature = tuple("abcde"), 1.5
    fast, x = net.for_inference(), images(net)
    assert (fast.architecture, fast.preprocess) == (net.architecture, net.preprocess)
    assert (fast.labels, fast.temperature) == (net.labels, 1.5)
    assert (fast.training, list(fast.parameters())) == (False, [])
    for other in (deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        assert torch.equal(other(x), fast(x))


def test_training_moving_and_saving_are_refused_in_one_line():
    fast = small().for_inference()
    assert fast.eval() is fast.to("cpu") is fast.float()
    for refused, message in (
        (fast.train, "an inference net cannot be trained; train the net it is made of"),
        (fast.double, "an inference net stays as it was made"),
        (lambda: fast.to("meta"), "an inference net stays as it was made"),
        (fast.state_dict, "an inference net is not saved; save the net it is made of"),
        (lambda: fast(torch.zeros(1, 3, 24, 24, device="meta")), "images: on meta, and this net"),
        (lambda: small().for_inference(precision="16-true"), "'16-true' is not 32-true or bf16"),
    ):
        with pytest.raises(InvalidSetting, match=message) as caught:
            refused()
        assert "\n" not in str(caught.value)


def test_nothing_is_logged_where_the_fastest_way_is_taken(caplog):
    caplog.set_level(logging.DEBUG)
    if small().for_inference().way == "fused":
        assert caplog.records == []
