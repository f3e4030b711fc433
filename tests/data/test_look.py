"""A look at a folder of pictures sees what there is."""

import shutil
from pathlib import Path

import pytest
from pictures import class_folders, cut, damage, pattern, save
from PIL import Image

from resnet_hub.data.folder import Folder
from resnet_hub.data.look import Look, look
from resnet_hub.data.settings import DataSettings
from resnet_hub.errors import BadData, DataMissing

pytestmark = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)


def seen(root: Path, **settings: object) -> Look:
    given = DataSettings(name="Folder", root=str(root), workers=1, exif="apply", **settings)
    return look(Folder(given))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes in two splits."""
    class_folders(tmp_path / "train", {"ant": 6, "bee": 2})
    for number, name in enumerate(("ant", "bee")):
        save(tmp_path / "val" / name / "0.png", pattern(seed=90 + number))
    return tmp_path


def test_classes_are_counted_by_split(root: Path):
    found = seen(root)
    assert found.labels == ("ant", "bee")
    assert found.counts == {"train": (6, 2), "val": (1, 1)}
    assert (found.pictures, found.trained, found.skew) == (10, 8, 3)
    assert (found.held_out, found.tested) == (0, "val")
    assert Path(found.example).parent.parent == root / "val"
    assert found.findings == ()


def test_a_fifth_is_held_out_where_there_is_no_val(tmp_path: Path):
    found = seen(class_folders(tmp_path, {"ant": 5, "bee": 5}))
    assert found.held_out == 2
    assert found.counts == {"train": (4, 4), "val": (1, 1)}
    assert seen(tmp_path, held_out=4).counts["train"] == (3, 3)


def test_what_is_held_out_is_counted_by_files_so_that_the_split_stays(tmp_path: Path):
    class_folders(tmp_path, {"ant": 5, "bee": 5})
    data = Folder(DataSettings(name="Folder", root=str(tmp_path))).open()
    cut(Path(data.split("val").path(0)))
    found = seen(tmp_path)
    assert (found.held_out, sum(found.counts["val"]), found.unreadable) == (2, 1, 1)


def test_sizes_are_those_of_upright_pictures(root: Path):
    save(root / "train/ant/small.png", pattern(9, 7))
    save(root / "train/ant/flat.png", pattern(100, 6))
    exif = Image.Exif()
    exif[0x0112] = 6
    pattern(200, 100).save(root / "train/bee/turned.jpg", exif=exif)
    found = seen(root)
    assert (found.smallest, found.largest) == ((9, 7), (100, 200))
    assert found.median[1] == 30
    assert (found.side, found.turned) == (30, 1)


def test_pictures_without_colour_are_grey_whatever_their_form(root: Path):
    pattern().convert("L").save(root / "train/ant/grey.png")
    pattern(seed=50).convert("L").convert("RGB").save(root / "train/bee/rgb.png")
    assert seen(root).grey == 2


def test_damage_is_told_by_what_it_means(root: Path):
    cut(root / "train/ant/0.png")
    save(root / "train/bee/photo.jpg", pattern(320, 240, seed=92))
    damage(root / "train/bee/photo.jpg")
    found = seen(root)
    assert (found.unreadable, found.damaged) == (1, 1)
    assert found.counts["train"] == (5, 3)
    assert len(found.findings) == 2


def test_the_same_picture_in_two_splits_or_under_two_classes_is_counted(root: Path):
    shutil.copy(root / "train/ant/0.png", root / "val/ant/twin.png")
    shutil.copy(root / "train/ant/1.png", root / "train/bee/twin.png")
    found = seen(root)
    assert (found.in_two_splits, found.tested_twice, found.in_two_classes) == (1, 1, 1)


def test_a_class_that_cannot_be_trained_on_is_refused(root: Path):
    for path in (root / "train/bee").iterdir():
        cut(path)
    with pytest.raises(BadData, match="not one training picture of class 'bee' can be read"):
        seen(root)


def test_a_folder_without_training_pictures_is_refused(root: Path):
    shutil.rmtree(root / "train")
    with pytest.raises(DataMissing, match="no train images"):
        seen(root)


def test_a_folder_without_pictures_to_score_on_is_refused(tmp_path: Path):
    with pytest.raises(DataMissing, match="no val images"):
        seen(class_folders(tmp_path, {"ant": 5, "bee": 5}), held_out=0)
