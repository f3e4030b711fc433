"""Layer responses against their definition, and what is said of them."""

from dataclasses import replace

import pytest
import torch
from reference_nets import fill
from torch.nn import functional as F

from resnet_hub.data.batches import Selection
from resnet_hub.data.digits import Digits
from resnet_hub.data.settings import DataSettings
from resnet_hub.errors import Diverged, InvalidSetting
from resnet_hub.nets.resnet import ResNet
from resnet_hub.randomness import permutation
from resnet_hub.studies.response_pages import check_comparable
from resnet_hub.studies.responses import Responses, limits, measure, sentences

CPU = {"accelerator": "cpu"}


def digits(net: ResNet, batch_size: int = 64) -> Digits:
    data = Digits(DataSettings(batch_size=batch_size), preprocess=net.preprocess)
    data.open()
    return data


def own_net(name: str = "cifar_resnet20") -> ResNet:
    return fill(ResNet(name, classes=10, in_channels=1))


def measured(net: ResNet, *, batch_size: int = 64, images: int = 100) -> Responses:
    data = digits(net, batch_size)
    return measure(net, data, label="a", model="a", images=images, trainer=CPU)


def test_they_are_the_spread_of_what_each_norm_gives():
    net = own_net()
    found = measured(net)
    data = digits(net)
    split = data.split("test").as_evaluated(data.preprocess)
    drawn = permutation(len(split), "responses")[:100]
    x = data.prepare(split[Selection(0, drawn)], train=False).images
    block = net.layer1[0]
    with torch.no_grad():
        first = net.bn1(net.conv1(x))
        second = block.bn1(block.conv1(F.relu(first)))
        third = block.bn2(block.conv2(F.relu(second)))
    expected = [float(response.double().std(correction=0)) for response in (first, second, third)]
    assert found.std[:3] == pytest.approx(expected, rel=1e-5)
    assert found.names[:3] == ("conv1", "layer1.0.conv1", "layer1.0.conv2")
    assert (found.n, len(found.std), found.data) == (100, 19, "Digits test")


def test_batches_add_up_whatever_their_size():
    assert measured(own_net(), batch_size=7).std == pytest.approx(measured(own_net()).std, rel=1e-5)


def test_all_images_are_taken_where_there_are_fewer():
    assert measured(own_net(), images=10**6).n == 360


def test_bottlenecks_answer_by_their_3x3_layers():
    found = measured(own_net("cifar_preact_resnet164"), images=4)
    assert found.names[:3] == ("conv1", "layer1.0.conv2", "layer1.1.conv2")
    assert len(found.std) == 1 + 54


def test_what_cannot_be_measured_is_refused():
    net = own_net()
    with pytest.raises(InvalidSetting, match="--images: 0 is not at least 1"):
        measured(net, images=0)
    net.layer1[0].bn1.weight.data[0] = torch.inf
    with pytest.raises(Diverged, match="not finite"):
        measured(net)


def given(name: str, std: list[float], **changed: object) -> Responses:
    net = ResNet(name)
    names = tuple(f"layer{number}" for number in range(len(std)))
    own = Responses(name, name, net.architecture, names, tuple(std), "X test", 9, "", "", "", "cpu")
    return replace(own, **changed)


def test_residual_nets_are_set_beside_plain_ones_of_the_same_layers():
    plain, residual = given("cifar_plain20", [2, 2, 2]), given("cifar_resnet20", [1, 1, 3])
    said = " ".join(sentences([plain, residual]))
    assert "answers less strongly than cifar_plain20 in 2 of 3 layers" in said
    assert "generally smaller, as 1512.03385" in said
    said = " ".join(sentences([plain, given("cifar_resnet20", [1, 3, 3])]))
    assert "in 1 of 3 layers" in said
    assert "not generally smaller, which" in said
    assert "No plain net" not in " ".join(limits([plain, residual]))
    assert "No plain net" in limits([residual])[0]


def test_depths_are_compared_by_their_averages():
    shallow, deep = given("cifar_resnet20", [2, 2]), given("cifar_resnet56", [1, 1, 1])
    assert "2.000 with 20 layers, 1.000 with 56 layers" in sentences([deep, shallow])[-1]
    assert "change their signal less" in sentences([deep, shallow])[-1]
    said = sentences([given("cifar_resnet56", [3.0, 3.0]), shallow])[-1]
    assert "do not answer less" in said


def test_nets_of_different_data_do_not_stand_in_one_picture():
    one = given("cifar_resnet20", [1, 1])
    with pytest.raises(InvalidSetting, match="give --data for all"):
        check_comparable([one, replace(one, data="Y test")])
    with pytest.raises(InvalidSetting, match="8 nets in one picture"):
        check_comparable([one] * 8)
