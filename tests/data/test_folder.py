import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from pictures import class_folders, cut, save

from resnet_hub.data.batches import Selection
from resnet_hub.data.files import ImageFiles
from resnet_hub.data.folder import Folder
from resnet_hub.data.module import open_data
from resnet_hub.data.settings import DataSettings
from resnet_hub.errors import BadData, DataMissing, InvalidSetting, ResNetHubError


def folder(root: Path, *, seed: int = 0, **settings: Any) -> Folder:
    data = open_data(DataSettings(name="Folder", root=str(root), **settings), seed=seed)
    assert isinstance(data, Folder)
    data.open()
    return data


def paths(data: Folder, split: Any) -> list[str]:
    """Paths of a split, relative to the root, in order."""
    files = data.split(split)
    assert isinstance(files, ImageFiles)
    return [os.path.relpath(files.path(i), data.root) for i in range(len(files))]


def labels(data: Folder, split: Any) -> list[int]:
    files = data.split(split)
    assert isinstance(files, ImageFiles)
    result: list[int] = files.labels.tolist()
    return result


def refused(kind: type[ResNetHubError], root: Path, **settings: Any) -> str:
    with pytest.raises(kind) as caught:
        folder(root, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Train and val of the same three classes."""
    class_folders(tmp_path / "train", {"dog": 3, "ant": 4, "cat": 2})
    class_folders(tmp_path / "val", {"cat": 1, "dog": 2, "ant": 1})
    return tmp_path


@pytest.fixture
def single(tmp_path: Path) -> Path:
    """One root of class folders of very different sizes."""
    return class_folders(tmp_path / "single", {"few": 3, "many": 30, "some": 10})


def a_run(folder: Path) -> None:
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "recipe.yaml").write_text("seed: 1\n")
    save(folder / "curves.png")


@pytest.mark.parametrize("place", ["runs/finetune_folder/1", "mine"])
def test_runs_beside_the_classes_are_none(single: Path, root: Path, place: str) -> None:
    alone = folder(single).labels
    a_run(single / place)
    assert folder(single).labels == alone


def test_runs_beside_train_are_not_taken_for_validation(root: Path) -> None:
    shutil.rmtree(root / "val")
    a_run(root / "runs/finetune_folder/1")
    assert set(folder(root, held_out=3).splits) == {"train", "val"}


def test_a_class_may_hold_what_only_looks_like_a_run(single: Path) -> None:
    (single / "few" / "recipe.yaml").write_text("flour, eggs\n")
    (single / "many" / "checkpoints").mkdir()
    assert folder(single).labels == ["few", "many", "some"]


def test_classes_are_the_sorted_folder_names(root: Path) -> None:
    data = folder(root)
    assert data.labels == ["ant", "cat", "dog"]
    assert set(data.splits) == {"train", "val"}
    assert labels(data, "train") == [0] * 4 + [1] * 2 + [2] * 3
    assert paths(data, "val") == [
        "val/ant/0.png",
        "val/cat/0.png",
        "val/dog/0.png",
        "val/dog/1.png",
    ]
    assert (data.watched, data.selects, data.tested) == ("val", True, "val")


def test_batches_of_both_splits_can_be_read(root: Path) -> None:
    data = folder(root, eval_size=16, batch_size=4)
    for loader in (data.train_dataloader(), data.val_dataloader()):
        for batch in loader:
            assert batch.images.shape == (4, 3, 16, 16)


def test_a_test_folder_is_the_test_split(root: Path) -> None:
    class_folders(root / "test", {"ant": 1, "cat": 2, "dog": 1})
    data = folder(root)
    assert labels(data, "test") == [0, 1, 1, 2]
    assert (data.watched, data.tested) == ("val", "test")


def test_images_in_subfolders_are_read_in_a_fixed_order(root: Path) -> None:
    save(root / "train/cat/b/deep/1.png")
    save(root / "train/cat/a/2.JPG")
    cats = [path for path in paths(folder(root), "train") if "/cat/" in path]
    assert cats == [f"train/cat/{name}" for name in ("0.png", "1.png", "a/2.JPG", "b/deep/1.png")]


@pytest.mark.fault("D6")
def test_hidden_files_and_folders_and_other_files_are_ignored(root: Path) -> None:
    before = [paths(folder(root), split) for split in ("train", "val")]
    save(root / "train/.ipynb_checkpoints/a.png")
    save(root / "train/cat/.ipynb_checkpoints/a.png")
    (root / "train/cat/._0.jpg").write_bytes(b"\x00\x05\x16\x07")
    (root / ".DS_Store").touch()
    (root / "train/cat/Thumbs.db").touch()
    (root / "train/notes.txt").touch()
    data = folder(root)
    assert data.labels == ["ant", "cat", "dog"]
    assert [paths(data, split) for split in ("train", "val")] == before


@pytest.mark.fault("D6")
@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("train/cat/again", "train/cat"),
        ("train/cat/deep/again", "train/cat"),
        ("train/cat/up", "train"),
        ("train/cat/all", "/"),
        ("train/loop", "train"),
        ("val/cat/self", "val/cat/self"),
    ],
)
def test_links_that_loop_are_refused_by_name(root: Path, link: str, target: str) -> None:
    (root / link).parent.mkdir(exist_ok=True)
    (root / link).symlink_to(target if target == "/" else root / target)
    if link == "train/loop":  # a class folder, so val must have it before it is looked into
        (root / "val/loop").symlink_to(root / "val")
    said = refused(BadData, root)
    assert str(root / link) in said
    assert "link" in said


@pytest.mark.fault("D6")
def test_a_loop_through_another_folder_is_refused(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    save(other / "a.png")
    (root / "train/cat/there").symlink_to(other)
    assert "train/cat/there/a.png" in paths(folder(root), "train")
    (other / "back").symlink_to(root / "train/cat")
    assert str(root / "train/cat/there/back") in refused(BadData, root)


def test_a_class_folder_may_be_a_link(root: Path, tmp_path: Path) -> None:
    elsewhere = class_folders(tmp_path / "elsewhere", {"emu": 2})
    for split in ("train", "val"):
        (root / split / "emu").symlink_to(elsewhere / "emu")
    assert folder(root).labels == ["ant", "cat", "dog", "emu"]


def test_a_link_that_leads_nowhere_is_named(root: Path) -> None:
    (root / "val/cat/lost.jpg").symlink_to(root / "unmounted/lost.jpg")
    assert f"{root}/val/cat/lost.jpg: a link that leads nowhere" in refused(BadData, root)


@pytest.mark.fault("D6")
@pytest.mark.parametrize("side", ["val", "test"])
def test_a_class_on_one_side_only_is_named(root: Path, side: str) -> None:
    class_folders(root / "test", {"ant": 1, "cat": 1, "dog": 1})
    class_folders(root / side, {"yak": 1})
    assert refused(BadData, root) == f"{root}/{side}: class folder 'yak' is not in {root}/train"
    class_folders(root / "train", {"yak": 1, "zebu": 1})
    class_folders(root / ("val" if side == "test" else "test"), {"yak": 1, "zebu": 1})
    assert (
        refused(BadData, root) == f"{root}/{side}: no class folder 'zebu', which {root}/train has"
    )


@pytest.mark.fault("D6")
@pytest.mark.parametrize("place", ["train/emu", "val/emu"])
def test_a_class_folder_without_images_is_named(root: Path, place: str) -> None:
    class_folders(root / "train", {"emu": 1})
    class_folders(root / "val", {"emu": 1})
    (root / place / "0.png").rename(root / place / "0.txt")
    said = refused(BadData, root)
    assert said.startswith(f"{root / place}: a class folder without images (.jpg, .jpeg, .png")


def test_a_missing_root_says_what_was_expected_where(tmp_path: Path) -> None:
    said = refused(DataMissing, tmp_path / "nothing")
    assert said.startswith(f"Folder: there is no folder {tmp_path}/nothing; expected in it: train/")
    assert "<class>" in said


@pytest.mark.parametrize("stray", [(), ("a.png", "b.png"), (".hidden/a.png",)])
def test_a_root_without_class_folders_says_so(tmp_path: Path, stray: tuple[str, ...]) -> None:
    for name in stray:
        save(tmp_path / name)
    assert refused(DataMissing, tmp_path).startswith(f"Folder: no class folders in {tmp_path}; ")


def test_empty_train_and_val_say_so(tmp_path: Path) -> None:
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
    assert f"no class folders in {tmp_path}/train" in refused(DataMissing, tmp_path)


def test_one_class_folder_alone_is_most_likely_one_level_too_high(tmp_path: Path) -> None:
    class_folders(tmp_path / "pets", {"cat": 3, "dog": 3})
    said = refused(BadData, tmp_path)
    assert "'pets' is the only class folder" in said
    assert said.endswith(f"data.root is {tmp_path}/pets")


def test_the_users_home_is_expanded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(root.parent))
    assert folder(Path("~") / root.name).labels == ["ant", "cat", "dog"]


def test_a_single_root_holds_out_a_fifth_of_every_class(single: Path) -> None:
    data = folder(single)
    assert data.labels == ["few", "many", "some"]
    assert set(data.splits) == {"train", "val"}
    held = labels(data, "val")
    assert len(held) == 43 // 5
    assert [held.count(n) for n in range(3)] == [1, 5, 2]
    everything = sorted(paths(data, "train") + paths(data, "val"))
    assert len(everything) == len(set(everything)) == 43


def test_the_split_depends_on_the_seed_alone(single: Path) -> None:
    assert paths(folder(single), "val") == paths(folder(single), "val")
    assert paths(folder(single), "val") != paths(folder(single, seed=1), "val")


def test_held_out_says_how_many(single: Path) -> None:
    assert len(folder(single, held_out=20).split("val")) == 20
    whole = folder(single, held_out=0)
    assert len(whole.split("train")) == 43
    with pytest.raises(DataMissing, match="no val images"):
        whole.split("val")


def test_every_class_of_two_images_or_more_gives_one(tmp_path: Path) -> None:
    class_folders(tmp_path / "small", {"ant": 2, "bee": 2, "cat": 2})
    assert sorted(folder(tmp_path / "small").split("val").labels.tolist()) == [0, 1, 2]
    class_folders(tmp_path / "skewed", {"ant": 60, "bee": 60, "cat": 2})
    labels = folder(tmp_path / "skewed").split("val").labels
    assert (len(labels), (labels == 2).sum()) == (24, 1)


def test_a_class_that_would_lose_a_side_is_named(single: Path) -> None:
    said = refused(BadData, single, held_out=2)
    assert "of the 3 images of class 'few' none is left for validation" in said
    assert "data.held_out (now 2)" in said
    class_folders(single, {"rare": 1})
    assert "of the 1 images of class 'rare' none is left" in refused(BadData, single)
    assert "none is left for training" in refused(BadData, single, held_out=40)
    assert "data.held_out: 44" in refused(InvalidSetting, single, held_out=44)
    assert "data.held_out: -1" in refused(InvalidSetting, single, held_out=-1)


def test_train_without_val_is_split_too(root: Path) -> None:
    (root / "val").rename(root / "test")
    data = folder(root, held_out=4)
    assert {split: len(files) for split, files in data.splits.items()} == {
        "train": 5, "val": 4, "test": 4,
    }  # fmt: skip


def test_train_beside_a_misnamed_val_is_not_split_in_silence(root: Path) -> None:
    (root / "val").rename(root / "validation")
    assert f"{root}: beside train/ lies validation/ but no val/" in refused(BadData, root)


def test_held_out_beside_a_val_folder_is_refused(root: Path) -> None:
    assert "has a val/ of its own" in refused(InvalidSetting, root, held_out=2)
    assert len(folder(root, held_out=0).split("train")) == 9


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    data = folder(class_folders(tmp_path, {"bus": 5, "test": 5, "train": 5}))
    assert data.labels == ["bus", "test", "train"]
    assert len(data.split("val")) == 3


@pytest.mark.parametrize("name", ["val", "test"])
def test_a_root_without_training_images_can_be_tested_on(root: Path, name: str) -> None:
    (root / "val").rename(root / "kept")
    for path in (root / "train").rglob("*.png"):
        path.unlink()
    for path in (root / "train").iterdir():
        path.rmdir()
    (root / "train").rmdir()
    (root / "kept").rename(root / name)
    data = folder(root, held_out=5)
    assert (data.tested, len(data.split(data.tested))) == (name, 4)
    with pytest.raises(DataMissing, match=f"no train images in {root}; expected train/<class>"):
        data.train_dataloader()


def test_classes_limit_to_the_named_folders(root: Path, single: Path) -> None:
    data = folder(root, classes=("dog", "ant"))
    assert data.labels == ["ant", "dog"]
    assert labels(data, "train") == [0] * 4 + [1] * 3
    assert folder(single, classes=("many", "some")).labels == ["many", "some"]
    assert refused(BadData, root, classes=("dog", "cta")) == (
        f"data.classes: {root}/train has no folder 'cta'; did you mean 'cat'?"
    )


def test_classes_left_out_may_be_on_one_side_only(root: Path) -> None:
    class_folders(root / "val", {"yak": 1})
    assert folder(root, classes=("cat", "dog")).labels == ["cat", "dog"]
    assert f"{root}/train has no folder 'yak'" in refused(BadData, root, classes=("cat", "yak"))


@pytest.mark.fault("D1")
def test_a_truncated_image_is_named_when_it_is_read(root: Path) -> None:
    path = cut(root / "val/cat/0.png")
    with pytest.raises(BadData) as caught:
        list(folder(root).val_dataloader())
    assert str(path) in str(caught.value)


@pytest.mark.fault("D1")
def test_a_skipped_image_is_counted(root: Path) -> None:
    cut(root / "val/cat/0.png")
    batch = folder(root, on_bad_image="skip").split("val")[Selection(0, torch.arange(4))]
    assert (batch.skipped, batch.indices.tolist()) == (1, [0, 2, 3])


def test_a_folder_that_may_not_be_read_is_named(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def denied(path: str | Path) -> Any:
        if str(path).endswith("val/cat"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    assert refused(BadData, root) == f"{root}/val/cat: Permission denied"


def test_a_pipe_among_the_pictures_is_named_and_not_waited_for(tmp_path: Path):
    class_folders(tmp_path / "val", {"ant": 1, "bee": 1})
    os.mkfifo(tmp_path / "val/bee/pipe.png")
    assert f"{tmp_path}/val/bee/pipe.png: no file; remove it" in refused(BadData, tmp_path)
