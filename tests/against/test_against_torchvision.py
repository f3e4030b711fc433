"""torchvision's ten rows: the same names in the same order, and the same logits."""

import pytest
import torch
import torchvision
from reference_nets import fill

from resnet_hub.nets.resnet import ResNet

ROWS = [
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d"),
    *("wide_resnet50_2", "wide_resnet101_2"),
]


def on_meta(build, *arguments):
    with torch.device("meta"):
        return build(*arguments)


@pytest.mark.parametrize("name", ROWS)
def test_torchvisions_state_dict_loads_strictly_and_gives_its_logits(name):
    theirs = fill(on_meta(torchvision.models.get_model, name))
    ours = on_meta(ResNet, name).eval()
    state = theirs.state_dict()
    assert list(ours.state_dict()) == list(state)
    ours.load_state_dict(state, strict=True, assign=True)
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, found = theirs(x), ours(x)
    assert expected.std() > 0.1  # weights that matter
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_feature_maps_are_torchvisions_intermediate_outputs(name):
    from torchvision.models.feature_extraction import create_feature_extractor

    theirs = fill(torchvision.models.get_model(name))
    ours = on_meta(ResNet, name).eval()
    ours.load_state_dict(theirs.state_dict(), assign=True)
    nodes = {"relu": "C1", **{f"layer{i}": f"C{i + 1}" for i in range(1, 5)}}
    extractor = create_feature_extractor(theirs, nodes)
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(ours.features(x), extractor(x), rtol=1e-5, atol=1e-5)


def test_a_saved_torchvision_file_converts_and_loads(tmp_path):
    from resnet_hub.weights.convert import convert, read_checkpoint

    theirs = fill(torchvision.models.get_model("resnet18"))
    torch.save(theirs.state_dict(), tmp_path / "resnet18-0.pth")
    ours = ResNet("resnet18")
    converted = convert(read_checkpoint(tmp_path / "resnet18-0.pth"))
    ours.eval().load_state_dict(converted.tensors)
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
