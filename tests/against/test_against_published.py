"""Published CIFAR-10 checkpoints: converted, saved, loaded, and scored on real test images.

The expected counts come from the publishers' own form of the net on the same 1,017 true images.
"""

import subprocess
import sys

import pytest
import torch
from reference_nets import residual_logits

from resnet_hub.data.batches import Selection
from resnet_hub.data.cifar import Cifar10
from resnet_hub.data.settings import DataSettings
from resnet_hub.nets.resnet import ResNet
from resnet_hub.weights.convert import convert, read_checkpoint
from resnet_hub.weights.match import matched
from resnet_hub.zoo import find_row

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def lossless(real_data, tmp_path_factory):
    """The first 1,017 test images of CIFAR-10, uint8, and their labels."""
    root = tmp_path_factory.mktemp("cifar10")
    build = real_data / "cifar10" / "build.py"
    subprocess.run([sys.executable, build, "lossless", root], check=True, capture_output=True)
    settings = DataSettings(root=str(root), download=False)
    test = Cifar10(settings).open().splits["test"]
    assert len(test) == 1017
    return test[Selection(0, torch.arange(len(test)))]


def converted_net(path, name: str, folder) -> ResNet:
    """Convert a checkpoint into a model folder, and load it from there."""
    architecture = find_row(name).architecture
    converted = convert(read_checkpoint(path))
    assert converted.form == "akamaster/pytorch_resnet_cifar10"
    net = ResNet(architecture)
    net.load_state_dict(matched(converted.tensors, net.state_dict(), str(path)))
    net.preprocess, net.labels = converted.preprocess, converted.labels
    net.save_pretrained(folder)
    return ResNet.from_pretrained(folder)


@pytest.mark.parametrize(
    ("file", "name", "right"),
    [
        ("resnet20-12fca82f.th", "cifar_resnet20", 932),
        ("resnet44-014dd654.th", "cifar_resnet44", 950),
    ],
)
def test_a_published_checkpoint_scores_what_its_publishers_net_scores(
    real_data, lossless, tmp_path, file, name, right
):
    net = converted_net(real_data / "published-weights" / file, name, tmp_path / "model")
    with torch.inference_mode():
        inputs = net.preprocess.normalise(net.preprocess.crop(lossless.images))
        answers = torch.cat([net(part).argmax(1) for part in inputs.split(113)])
    assert int((answers == lossless.labels).sum()) == right


@pytest.mark.parametrize(("precision", "most"), [("32-true", 0), ("bf16-true", 1)])
@pytest.mark.parametrize(
    ("file", "name", "right"),
    [
        ("resnet20-12fca82f.th", "cifar_resnet20", 932),
        ("resnet44-014dd654.th", "cifar_resnet44", 950),
    ],
)
def test_its_inference_net_scores_the_same_within_a_tenth_of_a_point(
    real_data, lossless, tmp_path, file, name, right, precision, most
):
    net = converted_net(real_data / "published-weights" / file, name, tmp_path / "model")
    inputs = net.preprocess.normalise(net.preprocess.crop(lossless.images))
    answers = net.for_inference(precision=precision)(inputs).argmax(1)
    assert abs(int((answers == lossless.labels).sum()) - right) <= most  # of 1,017


@pytest.mark.parametrize(
    ("file", "name", "units"),
    [
        ("resnet20-12fca82f.th", "cifar_resnet20", 3),
        ("resnet44-014dd654.th", "cifar_resnet44", 7),
    ],
)
def test_a_published_checkpoint_gives_the_logits_of_the_papers_equations(
    real_data, lossless, tmp_path, file, name, units
):
    path = real_data / "published-weights" / file
    net = converted_net(path, name, tmp_path / "model")
    inputs = net.preprocess.normalise(lossless.images[:50])
    state = {n: t.double() for n, t in net.state_dict().items()}
    form = {"depths": (units,) * 3, "stem": "cifar", "shortcut": "A", "zeros": "split"}
    expected = residual_logits(state, inputs.double(), **form)
    with torch.inference_mode():
        largest = float((net(inputs) - expected).abs().max())
    assert largest < 1e-4
    assert expected.std() > 1


def test_the_labels_of_a_converted_net_are_the_data_sets(real_data, tmp_path):
    path = real_data / "published-weights" / "resnet20-12fca82f.th"
    assert converted_net(path, "cifar_resnet20", tmp_path / "model").labels == Cifar10.names


def test_zeros_at_the_end_would_not_do(real_data, lossless, tmp_path):
    # With all of option A's zeros after the old channels the same file scores 233.
    path = real_data / "published-weights" / "resnet20-12fca82f.th"
    good = converted_net(path, "cifar_resnet20", tmp_path / "model")
    net = ResNet("cifar_resnet20", zeros="end").eval()
    net.load_state_dict(good.state_dict())
    with torch.inference_mode():
        inputs = good.preprocess.normalise(lossless.images)
        answers = torch.cat([net(part).argmax(1) for part in inputs.split(113)])
    assert int((answers == lossless.labels).sum()) == 233
