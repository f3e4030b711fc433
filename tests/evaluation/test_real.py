import json
from pathlib import Path

import pytest
import torch
from pictures import class_folders

from resnet_hub.data.module import open_data
from resnet_hub.data.settings import DataSettings
from resnet_hub.errors import BadData, CorruptFile, DataMissing, InvalidSetting
from resnet_hub.evaluation.real import read_real, real_score


def imagenet(root: Path, numbers: list[int]):
    class_folders(root / "val", {"n01440764": 2, "n02012849": 1})
    paths = sorted((root / "val").rglob("*.png"))
    for path, number in zip(paths, numbers, strict=True):
        path.rename(path.with_name(f"ILSVRC2012_val_{number:08d}.JPEG"))
    return open_data(DataSettings(name="ImageNet", root=str(root))).open()


def test_an_answer_is_right_if_it_is_among_the_labels_of_its_own_image(tmp_path: Path) -> None:
    labels = [[number % 1000] for number in range(50_000)]
    labels[6], labels[49_999], labels[2] = [134, 5], [], [7, 9]  # images 7, 50,000 and 3
    path = tmp_path / "real.json"
    path.write_text(json.dumps(labels))
    data, real = imagenet(tmp_path, [7, 50_000, 3]), read_real(path)
    every = torch.arange(3)
    found = real_score(torch.tensor([5, 0, 8]), every, data, real)
    assert (found.n, found.top1_error.value) == (2, 0.5)
    assert real_score(torch.tensor([9]), every[2:], data, real).top1_error.value == 0
    with pytest.raises(BadData, match="none of the images has a label"):
        real_score(torch.tensor([0]), every[1:2], data, real)


def test_other_images_and_other_files_are_refused(tmp_path: Path) -> None:
    class_folders(tmp_path / "val", {"n01440764": 1, "n02012849": 1})
    data = open_data(DataSettings(name="ImageNet", root=str(tmp_path))).open()
    real = tuple((0,) for _ in range(50_000))
    with pytest.raises(InvalidSetting, match="no validation image of ImageNet"):
        real_score(torch.zeros(2, dtype=torch.int64), torch.arange(2), data, real)
    path = tmp_path / "real.json"
    with pytest.raises(DataMissing, match="no such file"):
        read_real(path)
    for content, message in (
        ("[", "not JSON"),
        ("[[1]]", "not a list of 50,000"),
        (json.dumps([[1000]] * 50_000), "entry 1 is no list"),
    ):
        path.write_text(content)
        with pytest.raises(CorruptFile, match=message):
            read_real(path)
