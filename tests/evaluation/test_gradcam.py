"""Grad-CAM against its definition: by the classifier's weights, and by nudging channels."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from reference_nets import fill
from torch import Tensor
from torch.nn import functional as F

from resnet_hub.data.images import read_image
from resnet_hub.errors import BadData, Diverged, InvalidSetting, UnknownName
from resnet_hub.evaluation.gradcam import gradcam, placed
from resnet_hub.nets.resnet import ResNet
from resnet_hub.preprocess import Preprocess


def images(count: int = 3, size: int = 32) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["cifar_resnet20", "cifar_plain20", "cifar_preact_resnet20"])
def test_at_the_last_stage_it_is_the_class_activation_map(name: str):
    net = fill(ResNet(name))
    x, classes = images(), torch.tensor([3, 0, 7])
    found = gradcam(net, x, classes=classes)
    with torch.no_grad():
        last = net.features(x)["C4"]
        weighed = torch.einsum("nk,nkhw->nhw", net.fc.weight[classes], last) / last[0, 0].numel()
        logits = net(x)
    assert found.maps.any()
    torch.testing.assert_close(found.maps, F.relu(weighed))
    assert torch.equal(found.logits, logits)
    assert torch.equal(found.classes, classes)


@pytest.mark.parametrize("layer", ["layer1", "layer2"])
def test_at_earlier_stages_channels_weigh_what_nudging_them_does_to_the_logits(layer: str):
    net = fill(ResNet("cifar_resnet20")).double()
    x, nudge = images(1).double(), 1e-6
    found = gradcam(net, x.expand(10, -1, -1, -1), classes=torch.arange(10), layer=layer)
    block = getattr(net, layer)[-1]
    with torch.no_grad():
        own = net.features(x)[f"C{int(layer[-1]) + 1}"]

        def logits(added: Tensor) -> Tensor:
            handle = block.register_forward_hook(lambda module, inputs, output: output + added)
            try:
                return net(x)[0]
            finally:
                handle.remove()

        weights = []  # a row a channel, a column a class
        for channel in range(own.shape[1]):
            added = torch.zeros_like(own[:, :, :1, :1])
            added[:, channel] = nudge
            weights.append((logits(added) - logits(-added)) / (2 * nudge) / own[0, 0].numel())
        expected = F.relu(torch.einsum("kc,khw->chw", torch.stack(weights), own[0])).float()
    assert 0 < (expected > 0).sum() < expected.numel()
    assert (found.maps - expected).abs().max() < 1e-4 * expected.max()


def test_without_classes_each_image_is_asked_about_its_likeliest_and_knows_of_no_other():
    net = fill(ResNet("cifar_resnet20"))
    together = gradcam(net, images())
    assert torch.equal(together.classes, together.logits.argmax(1))
    for n in range(3):
        alone = gradcam(net, images()[n : n + 1])
        torch.testing.assert_close(alone.maps[0], together.maps[n])


def test_a_net_stays_as_it_is_and_frozen_weights_are_no_obstacle():
    net = fill(ResNet("cifar_resnet20"))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    free = gradcam(net.train(), images())
    assert not net.training
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    x = images()
    frozen = gradcam(net.requires_grad_(False), x)
    assert torch.equal(frozen.maps, free.maps)
    assert not x.requires_grad
    with torch.no_grad():
        assert torch.equal(gradcam(net, x).maps, free.maps)


def test_what_no_net_can_answer_is_refused():
    net = fill(ResNet("cifar_resnet20"))
    with pytest.raises(UnknownName, match="no stage 'layer4'; did you mean 'layer"):
        gradcam(net, images(), layer="layer4")
    with pytest.raises(UnknownName, match="no stage 'C3'; it has layer1, layer2, layer3"):
        gradcam(net, images(), layer="C3")
    for classes in (torch.tensor([1, 2]), torch.tensor([0, 1, 10]), torch.tensor([0, -1, 1])):
        with pytest.raises(InvalidSetting, match="classes: "):
            gradcam(net, images(), classes=classes)
    with torch.no_grad():
        net.fc.bias[0] = torch.nan
    with pytest.raises(Diverged, match="not finite"):
        gradcam(net, images())


def test_a_map_lies_over_what_the_net_saw():
    found = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
    spread = placed(found, (2.0, 0.0, 6.0, 4.0), height=4, width=8)
    assert spread[:, :2].isnan().all()
    assert spread[:, 6:].isnan().all()
    expected = F.interpolate(found[None, None], (4, 4), mode="bilinear", align_corners=False)
    torch.testing.assert_close(spread[:, 2:6], expected[0, 0])


def test_a_padded_crop_gives_a_picture_the_middle_of_the_map():
    found = torch.arange(8.0).expand(8, 8)
    spread = placed(found, (-2.0, -2.0, 6.0, 6.0), height=4, width=4)
    torch.testing.assert_close(spread, found[2:6, 2:6])
    with pytest.raises(BadData, match="has no area"):
        placed(found, (1.0, 1.0, 1.0, 2.0), height=4, width=4)


@pytest.mark.parametrize(("width", "height"), [(61, 40), (40, 97), (30, 30)])
def test_the_hottest_place_is_where_the_object_is_in_the_picture(width: int, height: int):
    """A net that answers to brightness alone, so that its map is the picture's bright spot."""
    net = ResNet("cifar_resnet20").eval()
    net.preprocess = Preprocess(size=32, resize=36, mean=(0.5,) * 3, std=(0.5,) * 3)
    with torch.no_grad():
        net.conv1.weight.fill_(1 / 27)
        net.fc.weight.fill_(1)
        for block in net.blocks:
            block.last.weight.zero_()
    x, y = width // 2 + 5, height // 2 - 6
    picture = Image.new("RGB", (width, height))
    picture.paste((255, 255, 255), (x - 2, y - 2, x + 3, y + 3))
    found = gradcam(net, net.preprocess(picture)[None], layer="layer1")
    window = net.preprocess.window(height, width)
    heat = placed(found.maps[0], window, height=height, width=width).nan_to_num(0)
    rows, columns = (heat == heat.max()).nonzero().double().mean(0).tolist()
    assert abs(columns - x) <= 1
    assert abs(rows - y) <= 1


@pytest.mark.data
def test_on_a_real_photograph_it_is_the_class_activation_map_too(real_data: Path):
    (path,) = (real_data / "imagenet-sample/val/n02099712").glob("*.JPEG")
    net = fill(ResNet("resnet18"))
    x = net.preprocess(read_image(path))[None]
    found = gradcam(net, x)
    with torch.no_grad():
        last = net.features(x)["C5"]
        weighed = (net.fc.weight[found.classes[0]][:, None, None] * last[0]).sum(0) / 49
    assert found.maps.shape == (1, 7, 7)
    torch.testing.assert_close(found.maps[0], F.relu(weighed), rtol=1e-4, atol=1e-6)
