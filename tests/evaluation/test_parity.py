"""The largest difference between the logits of two forms of a net."""

import pytest
import torch
from PIL import Image
from reference_nets import akamaster, fill

from resnet_hub.errors import BadData, Diverged, WeightsMismatch
from resnet_hub.evaluation.parity import TOLERANCE, Inputs, compare, compare_converted, find_peer
from resnet_hub.nets.resnet import ResNet
from resnet_hub.weights.convert import convert
from resnet_hub.weights.provenance import Parity
from resnet_hub.zoo import find_row


@pytest.fixture(scope="module")
def net() -> ResNet:
    return fill(ResNet("cifar_resnet20", classes=4))


def off_by(net: ResNet, share: float):
    """The net with one logit changed by a share of the largest."""

    def other(x: torch.Tensor) -> torch.Tensor:
        logits = net(x)
        logits[0, 0] += share * logits.abs().max()
        return logits

    return other


def test_the_largest_difference_of_any_logit_counts(net):
    inputs = Inputs.for_net(net)
    with torch.inference_mode():
        scale = float(net(inputs.tensor).abs().max())
    found = compare(net, lambda x: net(x) + 1e-5 * scale, inputs=inputs, against="x", where="f")
    assert found.largest == pytest.approx(1e-5 * scale, rel=0.1)
    assert found == Parity(against="x, on noise", largest=found.largest, n=2)
    same = compare(net, net, inputs=inputs, against="x", where="f")
    assert same.largest == 0
    assert str(same) == "logits differ by 0 at most from x, on noise (n = 2)"


def test_more_than_rounding_is_another_function(net):
    inputs = Inputs.for_net(net)
    compare(net, off_by(net, TOLERANCE / 2), inputs=inputs, against="x", where="f")
    with pytest.raises(
        WeightsMismatch, match=r"^f: nothing is written, logits of up to .* from x,"
    ):
        compare(net, off_by(net, 2 * TOLERANCE), inputs=inputs, against="x", where="f")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_prove_nothing(net, number):
    inputs = Inputs.for_net(net)
    with pytest.raises(Diverged, match=r"^f: .*not finite"):
        compare(net, lambda x: net(x) * number, inputs=inputs, against="x", where="f")


def test_batches_of_one_and_of_more_are_compared(net):
    seen = []

    def other(x: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        return net(x)

    inputs = Inputs(torch.zeros(19, 3, 32, 32), "nothing")
    assert compare(net, other, inputs=inputs, against="x", where="f").n == 19
    assert seen == [1, 8, 8, 3]


def test_noise_is_the_same_each_time_and_no_two_images_of_it(net):
    one, two = Inputs.for_net(net), Inputs.for_net(net)
    assert torch.equal(one.tensor, two.tensor)
    assert one.tensor.shape == (2, 3, 32, 32)
    assert not torch.equal(*one.tensor)
    assert one.tensor.std() > 0.5


def test_pictures_are_preprocessed_as_the_net_does(net, tmp_path):
    Image.effect_noise((50, 40), 90).convert("RGB").save(tmp_path / "a.png")
    inputs = Inputs.for_net(net, [tmp_path / "a.png", tmp_path / "a.png"])
    with Image.open(tmp_path / "a.png") as picture:
        assert torch.equal(inputs.tensor, torch.stack([net.preprocess(picture)] * 2))
    grey = Inputs.for_net(ResNet("cifar_resnet20", in_channels=1), [tmp_path / "a.png"])
    assert grey.tensor.shape == (1, 1, 32, 32)
    with pytest.raises(BadData, match=r"no\.png"):
        Inputs.for_net(net, [tmp_path / "no.png"])


def test_the_first_library_that_has_a_net_and_is_installed_is_found():
    row = {name: find_row(name).architecture for name in ("resnet50", "resnet200", "resnet50_v1")}
    both = ("torchvision", "timm")
    assert find_peer(row["resnet50"], both) == "torchvision"
    assert find_peer(row["resnet50"], both[::-1]) == "timm"
    assert find_peer(row["resnet200"], both) == "timm"
    assert find_peer(row["resnet50_v1"], both) is None
    assert find_peer(row["resnet50"], ()) is None


@pytest.mark.parametrize(("name", "channels"), [("cifar_resnet20", 1), ("cifar_resnet56", 3)])
def test_a_cifar_checkpoint_is_the_papers_equations_and_no_other_net(name: str, channels: int):
    net = fill(ResNet(name, classes=4, in_channels=channels))
    found = convert(akamaster(net))
    inputs = Inputs.for_net(net)
    assert compare_converted(net, found, inputs=inputs, where="f").n == 2
    other = ResNet(name, classes=4, in_channels=channels, zeros="end").eval()
    other.load_state_dict(net.state_dict())
    with pytest.raises(WeightsMismatch, match=r"differ by .* from the equations of 1512\.03385"):
        compare_converted(other, found, inputs=inputs, where="f")


@pytest.mark.parametrize("name", ["resnet18d", "seresnet18", "resnetblur18"])
def test_a_variants_checkpoint_is_compared_with_timms_net_of_its_name(name):
    net = fill(ResNet(name, classes=4))
    inputs = Inputs.for_net(net)
    found = compare_converted(net, convert(net.state_dict()), inputs=inputs, where="f")
    assert found is not None
    assert f"'s {name}, on noise" in found.against
