"""Exported programs: every form of net, any number of images, in silence, the net untouched."""

import logging
import warnings

import pytest
import torch
from reference_nets import fill

from resnet_hub.architecture import Architecture
from resnet_hub.errors import InvalidSetting
from resnet_hub.nets import exporting
from resnet_hub.nets.exporting import EXPORTERS, find_exporter
from resnet_hub.nets.resnet import ResNet
from resnet_hub.preprocess import Preprocess
from resnet_hub.weights.provenance import Provenance

NETS = {
    "option A": Architecture(
        depths=(1, 1), block="basic", stem="cifar", shortcut="A", width=8, classes=3
    ),
    "plain": Architecture(depths=(1, 1), block="basic", form="plain", width=8, classes=3),
    "grouped": Architecture(
        depths=(1, 1), block="bottleneck", width=16, groups=4, group_width=8, classes=3
    ),
    "preact": Architecture(depths=(1, 1), block="bottleneck", form="preact", width=8, classes=3),
    "resnet-d": Architecture(
        depths=(1, 1), block="bottleneck", stem="deep", shortcut="D", width=8, classes=3
    ),
    "resnet-rs": Architecture(
        depths=(1, 1),
        block="bottleneck",
        stem="deep_tiered",
        stem_pool="convolution",
        shortcut="D",
        attention="se",
        reduction=4,
        width=8,
        classes=3,
    ),
    "averaged": Architecture(
        depths=(1, 1), block="basic", antialias="average", attention="eca", width=8, classes=3
    ),
    "blurred": Architecture(depths=(1, 1), block="basic", antialias="blur", width=8, classes=3),
    "BN after addition": Architecture(
        depths=(1, 1), block="basic", form="bn_after_addition", width=8, classes=3
    ),
    "ReLU before addition": Architecture(
        depths=(1, 1), block="basic", form="relu_before_addition", width=8, classes=3
    ),
    "ReLU-only": Architecture(
        depths=(1, 1), block="bottleneck", form="relu_only_preact", width=8, classes=3
    ),
    "gated": Architecture(
        depths=(1, 1), block="basic", shortcut_gate="exclusive", width=8, classes=3
    ),
    "scaled": Architecture(
        depths=(1, 1), block="basic", shortcut_scale=0.5, residual_scale=0.5, width=8, classes=3
    ),
    "grey resnetv2": Architecture(
        depths=(1, 1), block="basic", form="preact", entry="own", width=8, in_channels=1
    ),
}
every_form = pytest.mark.parametrize("form", EXPORTERS)


def small(kind: str) -> ResNet:
    net = fill(ResNet(NETS[kind]))
    mean = net.preprocess.mean
    net.preprocess = Preprocess(size=24, resize=None, mean=mean, std=mean)
    return net


@every_form
@pytest.mark.parametrize("kind", NETS)
def test_a_program_gives_the_nets_logits_for_any_number_of_images(form, kind):
    net, exporter = small(kind), find_exporter(form)
    run = exporter.read(exporter.write(net, Provenance()))
    for count in (1, 2, 7):
        x = torch.randn(count, net.architecture.in_channels, 24, 24)
        with torch.inference_mode():
            expected = net(x)
        found = run(x).detach()
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.std()))


@every_form
def test_writing_changes_no_net_and_is_of_the_net_in_evaluation(form):
    net, exporter = small("plain"), find_exporter(form)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    x = torch.randn(2, 3, 24, 24)
    expected = net(x).detach()
    run = exporter.read(exporter.write(net.train(), Provenance()))
    assert net.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    found = run(x).detach()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.std()))


@every_form
def test_nothing_is_printed_and_logs_and_warnings_are_as_before(form, capfd):
    exporter, filters = find_exporter(form), list(warnings.filters)
    exporter.read(exporter.write(small("plain"), Provenance()))
    assert capfd.readouterr() == ("", "")
    assert logging.root.manager.disable == 0
    assert warnings.filters == filters


def test_a_card_that_cannot_be_is_refused():
    net = small("plain")
    net.labels = ("one",)
    with pytest.raises(InvalidSetting, match="1 names for 3 classes"):
        find_exporter("torch-export").write(net, Provenance())


@pytest.mark.parametrize("missing", ["onnx", "onnxscript", "onnxruntime"])
def test_one_missing_package_is_named_with_what_installs_it(monkeypatch, missing):
    found = exporting.find_spec
    monkeypatch.setattr(exporting, "find_spec", lambda n: None if n == missing else found(n))
    with pytest.raises(InvalidSetting) as caught:
        find_exporter("onnx")
    assert str(caught.value) == (
        f"onnx: needs {missing}; install with `pip install 'resnet-hub[onnx]'`"
    )
    assert find_exporter("torch-export").runtime == "torch"
