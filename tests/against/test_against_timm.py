"""timm's classic nets load unchanged, its resnetv2 ones through the renaming table."""

import pytest
import timm
import torch
from reference_nets import fill

from resnet_hub.nets.resnet import ResNet
from resnet_hub.weights.convert import convert
from resnet_hub.weights.match import matched
from resnet_hub.weights.peers import PEER_NETS

CLASSIC = sorted(name for name in PEER_NETS["timm"] if "v2" not in name)
COMPUTED = ["resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2"]
VARIANTS = [
    *("resnet18d", "resnet50c", "resnet50s", "resnet26t", "resnext50d_32x4d"),
    *("seresnet18", "seresnet50", "seresnext26t_32x4d", "ecaresnet26t", "ecaresnetlight"),
    *("resnetaa34d", "resnetaa50", "resnetblur18", "resnetblur50d", "seresnetaa50d", "resnetrs50"),
]
RESNETV2 = ["resnetv2_18", "resnetv2_34", "resnetv2_50", "resnetv2_101", "resnetv2_152"]
RESNETV2 += ["resnetv2_18d", "resnetv2_50t"]


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


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_gives_timms_logits(name):
    theirs = fill(timm.create_model(name))  # not on meta: its blurs' filters are in no state dict
    with torch.device("meta"):
        ours = ResNet(name).eval()
    converted = convert(theirs.state_dict())
    assert "timm" in converted.peers
    ours.load_state_dict(matched(converted.tensors, ours.state_dict(), name), assign=True)
    assert_equal_logits(theirs, ours)


@pytest.mark.parametrize("name", ["seresnet18", "ecaresnet26t", "resnetblur18"])
def test_a_variant_trains_a_step_as_timms_does(name):
    # In float64: BatchNorm over the few pixels of so small a batch magnifies any rounding.
    theirs, ours = fill(timm.create_model(name)).double().train(), ResNet(name).double().train()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for net in (theirs, ours):
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
        torch.nn.functional.cross_entropy(net(x), torch.arange(3)).backward()
        optimizer.step()
    expected = theirs.state_dict()
    before = fill(timm.create_model(name)).state_dict()
    assert sum(not torch.equal(t, before[n].double()) for n, t in expected.items()) > 100
    for tensor_name, tensor in ours.state_dict().items():
        torch.testing.assert_close(tensor, expected[tensor_name])


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
