"""Scores on a data set's test split."""

from pathlib import Path

import pytest
import torch
from pictures import class_folders
from sklearn.metrics import accuracy_score, top_k_accuracy_score

from resnet_hub.data.digits import Digits
from resnet_hub.data.folder import Folder
from resnet_hub.data.settings import DataSettings
from resnet_hub.errors import BadData, InvalidSetting, ResNetHubError
from resnet_hub.evaluation.scoring import score
from resnet_hub.nets.resnet import ResNet

CPU = {"accelerator": "cpu"}


def digits(**settings: object) -> Digits:
    data = Digits(DataSettings(name="Digits", **settings))
    data.open()
    return data


@pytest.mark.parametrize("size", [1000, 360, 100, 7])
def test_a_score_is_scikit_learns_on_all_test_images_at_any_batch_size(net: ResNet, size: int):
    data = digits(batch_size=size)
    found = score(net, data, trainer=CPU)
    batches = list(data.test_dataloader())
    labels = torch.cat([batch.labels for batch in batches])
    with torch.inference_mode():
        logits = net(data.preprocess(torch.cat([batch.images for batch in batches])))
    assert found.n == len(labels) == 360
    assert found.data == "Digits test"
    assert found.top1 == accuracy_score(labels, logits.argmax(1))
    assert found.top5 == top_k_accuracy_score(labels, logits, k=5, labels=range(10))


def test_scoring_changes_nothing_of_the_net(net: ResNet):
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    labels, preprocess = net.labels, net.preprocess
    score(net, digits(), trainer=CPU)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert (net.labels, net.preprocess) == (labels, preprocess)
    assert not net.training


def test_a_net_of_other_classes_is_refused():
    net = ResNet("cifar_resnet20", classes=3, in_channels=1)
    with pytest.raises(InvalidSetting, match="net: 3 classes, but Digits has 10"):
        score(net, digits(), trainer=CPU)


def test_a_net_of_other_image_channels_is_refused():
    with pytest.raises(InvalidSetting, match="takes 3 image channels, but Digits has 1"):
        score(ResNet("cifar_resnet20"), digits(), trainer=CPU)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "dpp"}, "trainer: You selected an invalid strategy name"),
        ({"accelerator": "gpu"}, "trainer: No supported gpu backend found"),
        ({"no_such": 1}, "trainer: .*no_such"),
    ],
)
def test_options_that_lightning_refuses_are_one_line(net: ResNet, options: dict, message: str):
    with pytest.raises(InvalidSetting, match=message) as error:
        score(net, digits(), trainer={**CPU, **options})
    assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore:.*AMP with fp16 is not supported on CPU")
def test_16_mixed_on_a_cpu_is_refused(net: ResNet):
    with pytest.raises(InvalidSetting, match="16-mixed on a CPU would be bf16"):
        score(net, digits(), trainer={**CPU, "precision": "16-mixed"})


def test_bf16_mixed_scores_almost_alike(net: ResNet):
    one = score(net, digits(), trainer=CPU)
    two = score(net, digits(), trainer={**CPU, "precision": "bf16-mixed"})
    assert two.n == 360
    assert two.top1 == pytest.approx(one.top1, abs=0.05)


def folder(root: Path, **settings: object) -> Folder:
    own = {"name": "Folder", "root": str(root), "eval_size": 16, "batch_size": 4, **settings}
    data = Folder(DataSettings(**own))
    data.open()
    return data


def test_without_a_test_split_the_validation_split_is_scored_and_named(tmp_path: Path):
    class_folders(tmp_path / "train", {"ant": 4, "bee": 4})
    class_folders(tmp_path / "val", {"ant": 3, "bee": 2})
    net = ResNet("cifar_resnet20", classes=2)
    found = score(net, folder(tmp_path), trainer=CPU)
    assert (found.data, found.n, found.top5) == ("Folder val", 5, 1.0)


def test_a_broken_picture_is_named(tmp_path: Path):
    class_folders(tmp_path / "val", {"ant": 3, "bee": 2})
    (tmp_path / "val/bee/1.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(BadData, match=r"bee/1\.png"):
        score(ResNet("cifar_resnet20", classes=2), folder(tmp_path), trainer=CPU)


def test_pictures_left_out_are_not_counted(tmp_path: Path):
    class_folders(tmp_path / "val", {"ant": 3, "bee": 2})
    (tmp_path / "val/bee/1.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    data = folder(tmp_path, on_bad_image="skip", batch_size=8)
    assert score(ResNet("cifar_resnet20", classes=2), data, trainer=CPU).n == 4


def test_nothing_to_score_is_one_line(tmp_path: Path):
    class_folders(tmp_path / "val", {"ant": 1, "bee": 1})
    for path in tmp_path.rglob("*.png"):
        path.write_bytes(b"\x89PNG\r\n\x1a\n broken")
    data = folder(tmp_path, on_bad_image="skip", batch_size=8)
    with pytest.raises(ResNetHubError) as error:
        score(ResNet("cifar_resnet20", classes=2), data, trainer=CPU)
    assert "\n" not in str(error.value)
