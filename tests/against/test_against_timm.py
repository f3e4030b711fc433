"""timm's classic rows load directly, its resnetv2 rows through the renaming table."""

import pytest
import timm
import torch
from reference_nets import fill

from resnet_hub.nets.resnet import ResNet
from resnet_hub.weights.convert import convert
from resnet_hub.weights.match import matched

CLASSIC = [
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnet200"),
    *("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d"),
    *("wide_resnet50_2", "wide_resnet101_2"),
]
COMPUTED = ["resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2"]
RESNETV2 = ["resnetv2_18", "resnetv2_34", "resnetv2_50", "resnetv2_101", "resnetv2_152"]


def pair(name: str) -> tuple[torch.nn.Module, ResNet]:
    with torch.device("meta"):
        return timm.create_model(name), ResNet(name).eval()


def assert_equal_logits(theirs: torch.nn.Module, ours: ResNet) -> None:
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, found = theirs(x), ours(x)
    scale = float(expected.abs().max())  # random weights give large logits
    assert float(expected.std()) > 0.1
    torch.testing.assert_close(found / scale, expected / scale, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", CLASSIC)
def test_a_classic_row_has_timms_names_in_its_order_and_its_shapes(name):
    theirs, ours = (net.state_dict() for net in pair(name))
    assert [(n, t.shape) for n, t in ours.items()] == [(n, t.shape) for n, t in theirs.items()]


@pytest.mark.parametrize("name", COMPUTED)
def test_a_classic_row_gives_timms_logits(name):
    theirs, ours = pair(name)
    ours.load_state_dict(fill(theirs).state_dict(), strict=True, assign=True)
    assert_equal_logits(theirs, ours)


@pytest.mark.parametrize("name", RESNETV2)
def test_a_resnetv2_row_gives_timms_logits_after_renaming(name):
    theirs, ours = pair(name)
    converted = convert(fill(theirs).state_dict())
    assert converted.form == "timm resnetv2"
    ours.load_state_dict(matched(converted.tensors, ours.state_dict(), name), assign=True)
    assert_equal_logits(theirs, ours)


def test_the_papers_entry_is_another_function_than_timms():
    with torch.device("meta"):
        theirs, ours = timm.create_model("resnetv2_18"), ResNet("preact_resnet18").eval()
    converted = convert(theirs.state_dict())
    names, own = set(converted.tensors), set(ours.state_dict())
    assert {n.rpartition(".")[0] for n in names - own} == {"layer1.0.bn1"}
    assert {n.rpartition(".")[0] for n in own - names} == {"bn1"}
