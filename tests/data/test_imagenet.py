import csv
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import class_folders, save

from resnet_hub.data.files import ImageFiles
from resnet_hub.data.imagenet import ImageNet
from resnet_hub.data.module import open_data
from resnet_hub.data.settings import DataSettings
from resnet_hub.errors import BadData, CorruptFile, DataMissing, InvalidSetting, ResNetHubError
from resnet_hub.labels import imagenet_classes

TENCH, GOLDFISH, CRANE, MAILLOT = "n01440764", "n01443537", "n02012849", "n03710721"
LABELS = {TENCH: 0, GOLDFISH: 1, CRANE: 134, MAILLOT: 639}


def imagenet(root: Path, **settings: Any) -> ImageNet:
    data = open_data(DataSettings(name="ImageNet", root=str(root), **settings))
    assert isinstance(data, ImageNet)
    data.open()
    return data


def samples(data: ImageNet, split: Any) -> dict[str, int]:
    """Label of each path of a split, relative to the root."""
    files = data.split(split)
    assert isinstance(files, ImageFiles)
    return {
        os.path.relpath(files.path(i), data.root): int(files.labels[i]) for i in range(len(files))
    }


def refused(kind: type[ResNetHubError], root: Path, **settings: Any) -> str:
    with pytest.raises(kind) as caught:
        imagenet(root, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four of the classes in train, three of them in val."""
    class_folders(tmp_path / "train", {MAILLOT: 2, TENCH: 4, GOLDFISH: 4, CRANE: 2})
    class_folders(tmp_path / "val", {MAILLOT: 1, CRANE: 2, TENCH: 1})
    return tmp_path


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """Three images in a flat val/, without their labels."""
    for number in (1, 2, 3):
        save(tmp_path / f"val/ILSVRC2012_val_{number:08d}.JPEG")
    return tmp_path


def write_kaggle(root: Path, *wnids: str) -> Path:
    """The list in another order than the images, with the boxes that follow each class."""
    path = root / "LOC_val_solution.csv"
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["ImageId", "PredictionString"])
        for number, wnid in reversed(list(enumerate(wnids, 1))):
            boxes = f"{wnid} 85 1 499 272 {wnid} 3 4 5 6 " if number % 2 else f"{wnid} 1 2 3 4 "
            table.writerow([f"ILSVRC2012_val_{number:08d}", boxes])
    return path


def write_devkit(root: Path, truth: str) -> Path:
    """The devkit's folder: numbers in an order of their own, and nodes above the classes."""
    savemat = pytest.importorskip("scipy.io").savemat
    folder = root / "ILSVRC2012_devkit_t12/data"
    folder.mkdir(parents=True)
    rows = [(1, MAILLOT, 0), (2, TENCH, 0), (3, CRANE, 0), (4, "n00001740", 3)]
    fields = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    table = np.array([(i, wnid, "a word", n) for i, wnid, n in rows], dtype=fields)
    savemat(folder / "meta.mat", {"synsets": table.reshape(-1, 1)})
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text(truth)
    return folder


def test_a_thousand_classes_are_named_in_the_official_order() -> None:
    names = imagenet_classes()
    assert len(names) == len(set(names.values())) == 1000
    assert list(names) == sorted(names)
    known = {TENCH: "tench", GOLDFISH: "goldfish", "n15075141": "toilet tissue"}
    assert {wnid: names[wnid] for wnid in known} == known
    assert list(names)[999] == "n15075141"
    assert {wnid: list(names).index(wnid) for wnid in LABELS} == LABELS


def test_names_are_timms_and_torchvisions() -> None:
    timm_data = pytest.importorskip("timm.data")
    from torchvision.models._meta import _IMAGENET_CATEGORIES

    names, info = imagenet_classes(), timm_data.ImageNetInfo()
    assert list(names) == info.label_names()
    assert list(names.values()) == _IMAGENET_CATEGORIES
    differ = [
        name
        for number, name in enumerate(names.values())
        if name.lower() not in info.index_to_description(number).lower().split(", ")
    ]
    assert differ == ["crane bird", "maillot tank suit"]  # told apart from their namesakes


def test_a_subset_of_the_classes_keeps_the_official_labels(root: Path) -> None:
    data = imagenet(root)
    assert len(data.labels) == 1000
    assert data.labels[134] == "crane bird"
    for split in ("train", "val"):
        found = samples(data, split)
        assert all(label == LABELS[path.split("/")[1]] for path, label in found.items())
    assert len(data.split("train")) == 12
    assert len(data.split("val")) == 4


def test_the_official_validation_images_choose_no_checkpoint(root: Path) -> None:
    data = imagenet(root)
    assert set(data.splits) == {"train", "val"}
    assert (data.watched, data.tested, data.selects) == ("val", "val", False)


def test_held_out_training_images_do_and_the_official_ones_become_the_test(root: Path) -> None:
    data = imagenet(root, held_out=6)
    assert {split: len(files) for split, files in data.splits.items()} == {
        "train": 6, "val": 6, "test": 4,
    }  # fmt: skip
    assert (data.watched, data.tested, data.selects) == ("val", "test", True)
    held = list(samples(data, "val").values())
    assert {label: held.count(label) for label in LABELS.values()} == {0: 2, 1: 2, 134: 1, 639: 1}
    assert not samples(data, "val").keys() & samples(data, "train").keys()
    assert all(path.startswith("val/") for path in samples(data, "test"))
    assert "data.held_out: 12" in refused(InvalidSetting, root, held_out=12)


@pytest.mark.parametrize("held_out", [None, 50])
def test_without_train_it_can_be_tested_on(root: Path, held_out: int | None) -> None:
    (root / "train").rename(root / "elsewhere")
    data = imagenet(root, held_out=held_out)
    assert len(data.split(data.tested)) == 4
    assert not data.selects
    assert sum(len(batch.labels) for batch in data.test_dataloader()) == 4
    with pytest.raises(DataMissing, match=f"no train images in {root}; expected train/<wnid>"):
        data.train_dataloader()


def test_without_val_it_can_be_trained_on_and_says_what_is_missing(root: Path) -> None:
    (root / "val").rename(root / "elsewhere")
    data = imagenet(root)
    assert set(data.splits) == {"train"}
    with pytest.raises(DataMissing, match=r"expected train/<wnid>/\*\.JPEG and val/<wnid>"):
        data.val_dataloader()
    assert imagenet(root, held_out=4).watched == "val"


def test_a_missing_data_set_says_where_it_was_looked_for_and_how_to_get_it(tmp_path: Path) -> None:
    said = refused(DataMissing, tmp_path / "sets")
    assert f"neither train/ nor val/ in {tmp_path}/sets" in said
    assert "https://image-net.org" in said
    (tmp_path / "train").mkdir()
    assert f"no class folders in {tmp_path}/train" in refused(DataMissing, tmp_path)


@pytest.mark.fault("D6")
@pytest.mark.parametrize("name", ["cat", "n00000000", "n014407640"])
def test_a_folder_that_is_no_class_is_refused_by_name(root: Path, name: str) -> None:
    class_folders(root / "val", {name: 1})
    assert f"{root}/val/{name}: not a wnid of ImageNet" in refused(BadData, root)


@pytest.mark.fault("D6")
def test_hidden_folders_are_ignored_and_empty_ones_named(root: Path) -> None:
    save(root / "train/.ipynb_checkpoints/a.JPEG")
    assert len(imagenet(root).split("train")) == 12
    (root / "train/n01484850").mkdir()
    said = refused(BadData, root)
    assert said.startswith(f"{root}/train/n01484850: a class folder without images")


def test_classes_limit_to_these_wnids(root: Path) -> None:
    data = imagenet(root, classes=(MAILLOT, TENCH))
    assert len(data.labels) == 1000
    assert set(samples(data, "train").values()) == set(samples(data, "val").values()) == {0, 639}
    assert "data.classes: 'n01440765' is no wnid of ImageNet; did you mean 'n014407" in refused(
        BadData, root, classes=("n01440765",)
    )
    assert f"no folder {GOLDFISH} in {root}/val" in refused(BadData, root, classes=(GOLDFISH,))
    assert "no images of data.classes" in refused(DataMissing, root, classes=())


def test_a_flat_val_is_labelled_by_the_devkit(flat: Path) -> None:
    write_devkit(flat, "3\n1\n2\n2\n")
    found = samples(imagenet(flat), "val")
    assert list(found.values()) == [LABELS[CRANE], LABELS[MAILLOT], LABELS[TENCH]]
    assert next(iter(found)) == "val/ILSVRC2012_val_00000001.JPEG"


def test_a_flat_val_is_labelled_by_kaggles_list(flat: Path) -> None:
    write_kaggle(flat, TENCH, CRANE, GOLDFISH, CRANE)
    assert list(samples(imagenet(flat), "val").values()) == [0, 134, 1]
    assert list(samples(imagenet(flat, classes=(CRANE,)), "val").values()) == [134]
    assert list(samples(imagenet(flat, held_out=9), "test").values()) == [0, 134, 1]
    assert "no image of data.classes" in refused(BadData, flat, classes=(MAILLOT,))


def test_a_flat_val_without_labels_says_where_they_were_looked_for(flat: Path) -> None:
    said = refused(DataMissing, flat)
    assert f"{flat}/val is flat, and its labels are not in {flat}" in said
    assert "ILSVRC2012_devkit_t12" in said
    assert "LOC_val_solution.csv" in said


def test_a_flat_val_needs_scipy_for_the_devkit_alone(
    flat: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_devkit(flat, "3\n1\n2\n")
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    assert "pip install scipy, or put LOC_val_solution.csv in the root" in refused(
        DataMissing, flat
    )
    write_kaggle(flat, TENCH, TENCH, TENCH)
    assert len(imagenet(flat).split("val")) == 3


@pytest.mark.fault("D9")
@pytest.mark.parametrize(
    ("truth", "said"),
    [
        ("3\n1001\n2\n", r":2: '1001' is no class number from 1 to 3"),
        ("3\n2\n-1\n", r":3: '-1' is no class number"),
        ("3\nhello\n1\n", r":2: 'hello' is no class number"),
        ("3\n4\n1\n", r":2: '4' is no class number"),
        ("3\n1\n", "val/ILSVRC2012_val_00000003.JPEG: the ground truth does not name"),
    ],
)
def test_a_wrong_label_is_refused_with_its_place(flat: Path, truth: str, said: str) -> None:
    write_devkit(flat, truth)
    assert said in refused(BadData, flat)


def test_damaged_ground_truth_is_named(flat: Path) -> None:
    path = write_kaggle(flat, TENCH, "n00000000", CRANE)
    assert f"{path}:3: 'n00000000' is none of ImageNet's classes" in refused(BadData, flat)
    for text in (
        "ImageId\nILSVRC2012_val_00000001\n",
        "a,b\n1,2\n",
        "ImageId,PredictionString\n1,\n",
    ):
        path.write_text(text)
        assert f"{path}: not Kaggle's list" in refused(CorruptFile, flat)
    path.write_bytes(b"\xff\xfe\x00")
    assert f"{path}: not Kaggle's list" in refused(CorruptFile, flat)
    path.unlink()
    folder = write_devkit(flat, "3\n1\n2\n")
    (folder / "ILSVRC2012_validation_ground_truth.txt").unlink()
    assert "ILSVRC2012_validation_ground_truth.txt is missing" in refused(DataMissing, flat)
    for content in (b"", b"MATLAB 5.0 MAT-file, cut", bytes(range(256)) * 2):
        (folder / "meta.mat").write_bytes(content)
        said = refused(CorruptFile, flat)
        assert f"{folder}/meta.mat: not the devkit's table of synsets" in said


def test_a_val_that_is_half_sorted_is_refused(flat: Path) -> None:
    class_folders(flat / "val", {TENCH: 1})
    write_kaggle(flat, TENCH, TENCH, TENCH)
    assert "holds both images (ILSVRC2012_val_00000001.JPEG) and folders" in refused(BadData, flat)


@pytest.mark.data
def test_the_real_sample_is_read_with_the_labels_of_its_file_names(real_data: Path) -> None:
    data = imagenet(real_data / "imagenet-sample", batch_size=20)
    found = samples(data, "val")
    assert len(found) == len(set(found.values())) == 500
    named = {path: Path(path).stem.split("_", 1)[1].replace("_", " ") for path in found}
    differ = {name for path, name in named.items() if name != data.labels[found[path]]}
    assert differ == {"crane"}  # which is our "crane bird"
    batch = next(iter(data.test_dataloader()))
    assert batch.images.shape == (20, 3, 224, 224)
    assert 80 < batch.images.float().mean() < 160
    assert data.prepare(batch, train=False).images.std() == pytest.approx(1, abs=0.3)


@pytest.mark.data
def test_real_images_are_cropped_by_every_augmentation(real_data: Path, tmp_path: Path) -> None:
    sample = real_data / "imagenet-sample/val"
    for split in ("train", "val"):
        (tmp_path / split).symlink_to(sample)
    for augment in ("none", "resized_crop_flip", "scale_crop_flip"):
        data = imagenet(tmp_path, augment=augment, batch_size=8)
        batch = next(iter(data.train_dataloader()))
        assert batch.images.shape == (8, 3, 224, 224)
        assert batch.skipped == 0
