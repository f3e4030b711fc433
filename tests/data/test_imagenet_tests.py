from pathlib import Path

import pytest
import torch
from pictures import class_folders

from resnet_hub.data.imagenet_tests import ImageNetTest
from resnet_hub.data.module import open_data
from resnet_hub.data.settings import DataSettings
from resnet_hub.errors import BadData, DataMissing, InvalidSetting
from resnet_hub.evaluation.restricted import answering
from resnet_hub.evaluation.scoring import score
from resnet_hub.labels import imagenet_classes
from resnet_hub.nets.resnet import ResNet

TENCH, GOLDFISH, CRANE, MAILLOT = "n01440764", "n01443537", "n02012849", "n03710721"
NAMES = tuple(imagenet_classes().values())


def opened(name: str, root: Path, **settings) -> ImageNetTest:
    plain = {"eval_size": 32, "eval_resize": 32, **settings}
    data = open_data(DataSettings(name=name, root=str(root), **plain))
    assert isinstance(data.open(), ImageNetTest)
    return data


def test_v2s_folders_are_labels_as_numbers_not_as_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "imagenetv2-top-images-format-val"
    class_folders(root, {"0": 1, "2": 2, "10": 1, "999": 1})
    data = opened("ImageNetV2", root)
    assert data.split("test").targets.tolist().count(2) == 2
    assert sorted(data.split("test").targets.tolist()) == [0, 2, 2, 10, 999]
    assert (tuple(data.labels), data.outputs) == (NAMES, None)
    assert data.measured == "ImageNetV2 top-images (other files) test"
    monkeypatch.setattr(type(data), "official", 5)
    assert data.measured == "ImageNetV2 top-images test"


@pytest.mark.parametrize("name", ["ImageNetA", "ImageNetR"])
def test_of_a_and_r_a_net_chooses_among_the_classes_there_alone(name: str, tmp_path: Path) -> None:
    class_folders(tmp_path, {CRANE: 3, TENCH: 2, MAILLOT: 1})
    (tmp_path / "README.txt").write_text("words")
    data = opened(name, tmp_path)
    assert data.outputs == (0, 134, 639)
    assert data.labels == [NAMES[number] for number in data.outputs]
    torch.manual_seed(0)
    net = ResNet("cifar_resnet20", classes=NAMES).eval()
    part = answering(net, data)
    images = torch.randn(5, 3, 32, 32)
    torch.testing.assert_close(part(images), net(images)[:, list(data.outputs)])
    assert (net.architecture.classes, part.labels) == (1000, tuple(data.labels))
    right, split = 0, data.split("test")
    for batch in data.test_dataloader():
        logits = net(data.prepare(batch, train=False).images)[:, list(data.outputs)]
        right += int((logits.argmax(1) == batch.labels).sum())
    found = score(net, data, trainer={"accelerator": "cpu"})
    assert (found.n, found.top1, found.top5) == (len(split), right / 6, 1.0)


def test_sketches_are_answered_among_all_classes(tmp_path: Path) -> None:
    class_folders(tmp_path, {CRANE: 1, TENCH: 1})
    data = opened("ImageNetSketch", tmp_path)
    net = ResNet("cifar_resnet20", classes=NAMES)
    assert answering(net, data) is net
    assert data.split("test").targets.tolist() == [0, 134]


def test_data_classes_leaves_images_out_and_keeps_the_labels(tmp_path: Path) -> None:
    class_folders(tmp_path, {CRANE: 3, TENCH: 2, MAILLOT: 1})
    data = opened("ImageNetA", tmp_path, classes=(CRANE,))
    assert data.outputs == (0, 134, 639)
    assert data.split("test").targets.tolist() == [1, 1, 1]


def test_what_is_no_such_set_or_no_net_for_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match=r"ImageNetA: no class folders in .*imagenet-a"):
        opened("ImageNetA", tmp_path / "nowhere")
    class_folders(tmp_path, {CRANE: 1, TENCH: 1})
    with pytest.raises(BadData, match="no class folder of ImageNetV2"):
        opened("ImageNetV2", tmp_path)
    with pytest.raises(BadData, match=f"no folder {MAILLOT}"):
        opened("ImageNetR", tmp_path, classes=(MAILLOT,))
    data = opened("ImageNetR", tmp_path)
    with pytest.raises(InvalidSetting, match="10 classes are not ImageNet's 1,000"):
        answering(ResNet("cifar_resnet20"), data)
    with pytest.raises(DataMissing, match="no train images"):
        data.split("train")
