"""A pack is the data set that it was made of: same images, labels, names, order and splits."""

import gc
import json
import pickle
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from pictures import class_folders, cut, damage, pattern, save
from PIL import Image
from torchvision.datasets import ImageFolder

from resnet_hub.data import packing
from resnet_hub.data.batches import Batch, Selection
from resnet_hub.data.check import check_data
from resnet_hub.data.files_module import ImageFilesDataModule
from resnet_hub.data.images import read_image
from resnet_hub.data.module import DataModule, Split, open_data
from resnet_hub.data.pack_index import INDEX, TABLE, Prepared, read_index
from resnet_hub.data.packing import Made, pack
from resnet_hub.data.settings import DataSettings
from resnet_hub.errors import (
    BadData,
    CorruptFile,
    DataMissing,
    InvalidSetting,
    ResNetHubError,
    WorkerLost,
)
from resnet_hub.labels import imagenet_classes

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]


def data_of(root: Path, name: str = "Folder", *, seed: int = 0, **settings: Any) -> DataModule:
    whole = DataSettings(name=name, root=str(root), eval_size=24, **settings)  # type: ignore[arg-type]
    return open_data(whole, seed=seed)


def packed(root: Path, out: Path, name: str = "Folder", **how: Any) -> Made:
    own = {key: how.pop(key) for key in ("prepared", "shard_images") if key in how}
    data = data_of(root, name, **{"workers": 1, **how})
    assert isinstance(data, ImageFilesDataModule)
    return pack(data, out, **own)


def batches(data: DataModule, split: Split) -> list[Batch]:
    data.open()
    loader = data.train_dataloader() if split == "train" else data.val_dataloader()
    return list(loader)


def same(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        all(torch.equal(getattr(a, n), getattr(b, n)) for n in ("images", "labels", "keys"))
        for a, b in zip(one, other, strict=True)
    )


def names(data: DataModule, split: Split) -> list[str]:
    files: Any = data.split(split)
    return [str(Path(files.path(i)).relative_to(data.root)) for i in range(len(files))]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Classes ant and bee, seven training and two validation pictures each, all kinds of names."""
    home = tmp_path / "pictures"
    class_folders(home / "train", {"ant": 5, "bee": 6})
    class_folders(home / "val", {"ant": 2, "bee": 2})
    save(home / "train/ant/a.b.c.jpg", pattern(50, 40, seed=50))
    save(home / "train/ant/0.jpg", pattern(50, 40, seed=51))  # beside 0.png
    save(home / "train/bee/deep/er/größe 1.jpeg", pattern(50, 40, seed=52))
    return home


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("augment", ["resized_crop_flip", "none"])
def test_batches_of_a_pack_are_those_of_its_folder_bit_for_bit(
    root: Path, tmp_path: Path, workers: int, augment: Any
):
    made = packed(root, tmp_path / "pack", shard_images=4)
    assert made == Made(images={"train": 14, "val": 4}, shards=5, size=made.size)
    how = {"workers": workers, "augment": augment, "batch_size": 3}
    theirs, ours = (data_of(home, seed=3, **how) for home in (root, tmp_path / "pack"))
    for split in ("train", "val"):
        assert same(batches(theirs, split), batches(ours, split))
    assert ours.labels == theirs.labels == ["ant", "bee"]
    assert ours.measured == theirs.measured == "Folder val"


def test_a_pack_keeps_names_and_order_and_a_run_may_go_on_with_it(root: Path, tmp_path: Path):
    packed(root, tmp_path / "pack", shard_images=4)
    theirs, ours = data_of(root).open(), data_of(tmp_path / "pack").open()
    assert names(ours, "train") == names(theirs, "train")
    assert "train/bee/deep/er/größe 1.jpeg" in names(ours, "train")
    assert ours.fingerprint() == theirs.fingerprint()  # what resuming holds a run's data to


def test_what_is_held_out_and_left_out_is_the_same_from_a_pack(tmp_path: Path):
    class_folders(tmp_path / "plain", {"ant": 9, "bee": 8, "cat": 7})
    packed(tmp_path / "plain", tmp_path / "pack", shard_images=5)
    for how in ({}, {"held_out": 6}, {"held_out": 0}, {"classes": ("ant", "cat")}):
        theirs, ours = (
            data_of(tmp_path / home, seed=5, **how).open()  # type: ignore[arg-type]
            for home in ("plain", "pack")
        )
        assert list(ours.splits) == list(theirs.splits)
        assert ours.fingerprint() == theirs.fingerprint()
        for split in theirs.splits:
            assert names(ours, split) == names(theirs, split)


def test_a_class_that_a_pack_does_not_have_is_refused_as_of_a_folder(root: Path, tmp_path: Path):
    packed(root, tmp_path / "pack")
    with pytest.raises(BadData, match=r"data.classes: .*pack/train has no folder 'bea'; did you"):
        data_of(tmp_path / "pack", classes=("bea",)).open()


def test_imagenets_flat_validation_folder_is_packed_with_its_labels_and_names(tmp_path: Path):
    home = tmp_path / "imagenet"
    wnids = list(imagenet_classes())
    lines = ["ImageId,PredictionString"]
    for number, label in enumerate((700, 3, 3, 500), 1):
        image = f"ILSVRC2012_val_{number:08d}"
        save(home / f"val/{image}.JPEG", pattern(seed=number))
        lines.append(f"{image},{wnids[label]} 1 2 3 4")
    (home / "LOC_val_solution.csv").write_text("\n".join(lines) + "\n")
    packed(home, tmp_path / "pack", "ImageNet")
    ours = data_of(tmp_path / "pack", "ImageNet").open()
    assert names(ours, "val") == [
        f"val/{wnids[3]}/ILSVRC2012_val_00000002.JPEG",
        f"val/{wnids[3]}/ILSVRC2012_val_00000003.JPEG",
        f"val/{wnids[500]}/ILSVRC2012_val_00000004.JPEG",
        f"val/{wnids[700]}/ILSVRC2012_val_00000001.JPEG",
    ]
    assert ours.split("val").targets.tolist() == [3, 3, 500, 700]
    assert ours.measured == "ImageNet val"


def test_a_pack_of_another_test_set_is_called_as_its_folder_was(tmp_path: Path):
    home = tmp_path / "imagenetv2-top-images-format-val"
    class_folders(home, {"7": 2, "11": 1})
    packed(home, tmp_path / "pack", "ImageNetV2")
    ours, theirs = (data_of(root, "ImageNetV2") for root in (tmp_path / "pack", home))
    assert ours.measured == theirs.measured == "ImageNetV2 top-images (other files) test"
    assert ours.fingerprint() == theirs.fingerprint()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it closes no file
def test_the_webdataset_library_reads_a_pack(root: Path, tmp_path: Path):
    webdataset = pytest.importorskip("webdataset")
    packed(root, tmp_path / "pack", shard_images=5)
    files: Any = data_of(root).open().splits["train"]
    expected = sorted(
        (Path(files.path(i)).read_bytes(), int(files.labels[i])) for i in range(len(files))
    )
    urls = [str(path) for path in sorted((tmp_path / "pack").glob("train-*.tar"))]
    samples = webdataset.WebDataset(urls, shardshuffle=False)
    found = [(sample.get("jpg") or sample["png"], int(sample["cls"])) for sample in samples]
    assert sorted(found) == expected
    del samples
    gc.collect()


def test_a_pack_unpacked_by_tar_is_class_folders_again(tmp_path: Path):
    home = tmp_path / "pictures"
    class_folders(home / "val", {"ant": 3, "bee": 2})
    class_folders(home / "train", {"ant": 3, "bee": 2})
    packed(home, tmp_path / "pack")
    (tmp_path / "out").mkdir()
    tar = tmp_path / "pack/val-000000.tar"
    subprocess.run(["tar", "xf", tar, "-C", tmp_path / "out"], check=True)
    for one, other in zip(
        ImageFolder(tmp_path / "out/val").samples, ImageFolder(home / "val").samples, strict=True
    ):
        assert Path(one[0]).read_bytes() == Path(other[0]).read_bytes()
        assert one[1] == other[1]


def test_packing_twice_gives_the_same_bytes_whoever_does_it(root: Path, tmp_path: Path):
    for name, workers in (("one", 1), ("two", 2)):
        packed(root, tmp_path / name, shard_images=4, workers=workers)
    one, two = (read_index(tmp_path / name / INDEX) for name in ("one", "two"))
    assert one == two


@pytest.fixture
def breaking_off(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Packing is broken off as it comes to its third shard; a list of those that were begun."""
    begun: list[str] = []
    real = packing.write_shard

    def write(job: Any) -> Any:
        begun.append(job.path.name)
        if len(begun) == 3:
            raise KeyboardInterrupt
        return real(job)

    monkeypatch.setattr(packing, "write_shard", write)
    return begun


def test_packing_that_was_broken_off_goes_on_where_it_was(
    root: Path, tmp_path: Path, breaking_off: list[str]
):
    out = tmp_path / "pack"
    with pytest.raises(KeyboardInterrupt):
        packed(root, out, shard_images=4)
    assert not (out / INDEX).exists()
    with pytest.raises(DataMissing):  # and no pack yet
        data_of(out).open()
    with pytest.raises(InvalidSetting, match="was begun with other images or arguments"):
        packed(root, out, shard_images=3)
    assert packed(root, out, shard_images=4).images == {"train": 14, "val": 4}
    assert breaking_off[3:] == ["train-000002.tar", "train-000003.tar", "val-000000.tar"]
    assert {path.name for path in out.iterdir()} == {
        *(shard.name for shard in read_index(out / INDEX).shards),
        *(INDEX, TABLE),
    }
    assert check_data(data_of(out, workers=1)).damaged == 0


def test_a_folder_that_holds_other_things_is_left_alone(root: Path, tmp_path: Path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").write_text("words")
    with pytest.raises(InvalidSetting, match="holds other things"):
        packed(root, tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.txt"]
    packed(root, tmp_path / "pack")
    with pytest.raises(InvalidSetting, match="is a finished pack"):
        packed(root, tmp_path / "pack")
    with pytest.raises(InvalidSetting, match="is a pack already"):
        packed(tmp_path / "pack", tmp_path / "again")


@pytest.mark.parametrize("workers", [1, 2])
def test_what_cannot_be_read_is_refused_by_name_or_left_out(
    root: Path, tmp_path: Path, workers: int
):
    path = cut(root / "train/ant/3.png")
    with pytest.raises(BadData, match=r"train/ant/3.png: "):
        packed(root, tmp_path / "pack", shard_images=4, workers=workers)
    how = {"on_bad_image": "skip", "workers": workers}
    made = packed(root, tmp_path / "skipped", shard_images=4, **how)
    assert made.images == {"train": 13, "val": 4}
    assert [line.startswith(f"{path}: ") for line in made.refused] == [True]
    assert "train/ant/3.png" not in names(data_of(tmp_path / "skipped").open(), "train")


def test_a_process_that_is_lost_is_one_line_and_the_command_goes_on(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class Lost:
        def __init__(self, workers: int) -> None: ...

        def submit(self, *call: Any) -> Any:
            raise packing.BrokenProcessPool("it died")

        def shutdown(self, **how: Any) -> None: ...

    with monkeypatch.context() as patched:
        patched.setattr(packing, "ProcessPoolExecutor", Lost)
        with pytest.raises(WorkerLost, match="the same command goes on"):
            packed(root, tmp_path / "pack", shard_images=4, workers=2)
    assert packed(root, tmp_path / "pack", shard_images=4).shards == 5


def test_prepared_pictures_have_the_side_and_say_what_they_are(tmp_path: Path):
    home = tmp_path / "pictures"
    for split in ("train", "val"):
        save(home / split / "ant/wide.png", pattern(320, 240, seed=1))
        save(home / split / "ant/high.jpg", pattern(101, 333, seed=2))
        save(home / split / "bee/small.png", pattern(70, 60, seed=3))
        save(home / split / "bee/grey.png", pattern(200, 200, seed=4).convert("L"))
    packed(home, tmp_path / "pack", prepared=Prepared(64, 90))
    packed(home, tmp_path / "plain")
    ours, plain = (data_of(tmp_path / name).open() for name in ("pack", "plain"))
    assert ours.measured == "Folder (short side 64, q90) val"
    assert ours.fingerprint() != plain.fingerprint()
    assert ours.split("val").stamp() != plain.split("val").stamp()
    files: Any = ours.split("val")
    found = {
        Path(files.path(i)).name: read_image("it", content=files.content(i))
        for i in range(len(files))
    }
    assert found["wide.png"].size == (85, 64)  # 320 × 64 / 240, as torchvision rounds: down
    assert found["high.jpg"].size == (64, 211)
    small: Any = files.content([Path(n).name for n in names(ours, "val")].index("small.png"))
    assert small == (home / "val/bee/small.png").read_bytes()
    grey: Any = files.content([Path(n).name for n in names(ours, "val")].index("grey.png"))
    (tmp_path / "grey.jpg").write_bytes(grey)
    with Image.open(tmp_path / "grey.jpg") as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "L", (64, 64))
        assert image.quantization[0][0] == 3  # libjpeg's 16 at quality 90


def test_a_prepared_photograph_is_turned_as_its_original_is(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for split in ("train", "val"):
        for name in ("ant", "bee"):
            path = tmp_path / "pictures" / split / name / "photo.jpg"
            path.parent.mkdir(parents=True)
            pattern(200, 100).save(path, exif=exif)
    packed(tmp_path / "pictures", tmp_path / "pack", prepared=Prepared(50))
    files: Any = data_of(tmp_path / "pack").open().splits["val"]
    assert read_image("it", content=files.content(0)).size == (100, 50)
    assert read_image("it", content=files.content(0), exif="apply").size == (50, 100)


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_a_changed_bit_that_a_folder_cannot_show_is_found_in_a_pack(root: Path, tmp_path: Path):
    out = tmp_path / "pack"
    packed(root, out, shard_images=4)
    shard = read_index(out / INDEX).shards[-1]
    assert shard.name == "val-000000.tar"
    flip(out / shard.name, 512 + 100)
    report = check_data(data_of(out, workers=1))
    shown, image = [finding for finding in report.findings if finding.damage]
    assert shown.path == str(out / "val-000000.tar")
    assert shown.reason.startswith("other bytes than were written (SHA-256 ")
    assert image.path == str(out / "val/ant/0.png")
    assert image.reason == "damaged in val-000000.tar (other bytes than were packed)"
    with pytest.raises(BadData, match=r"val/ant/0.png: damaged in val-000000.tar"):
        batches(data_of(out), "val")
    (left,) = batches(data_of(out, on_bad_image="skip"), "val")
    assert (len(left.labels), left.skipped) == (3, 1)


def test_shards_that_are_gone_or_cut_are_a_line_each(root: Path, tmp_path: Path):
    out = tmp_path / "pack"
    packed(root, out, shard_images=4)
    (out / "train-000001.tar").unlink()
    cut(out / "train-000002.tar")
    report = check_data(data_of(out, workers=1))
    assert [Path(finding.path).name for finding in report.findings] == [
        "train-000001.tar",
        "train-000002.tar",
    ]
    assert report.samples == {"train": 14, "val": 4}
    with pytest.raises(DataMissing, match=r"train-000001.tar: a shard of the pack that is not"):
        data_of(out).open()


def test_a_jpeg_that_was_damaged_before_it_was_packed_is_found_too(tmp_path: Path):
    home = tmp_path / "pictures"
    for split in ("train", "val"):
        for seed, name in enumerate(("ant", "bee")):
            save(home / split / name / "a.jpg", pattern(320, 240, seed=seed + 7 * len(split)))
    damage(home / "val/bee/a.jpg")
    packed(home, tmp_path / "pack")
    (finding,) = check_data(data_of(tmp_path / "pack", workers=1)).findings
    assert finding.path == str(tmp_path / "pack/val/bee/a.jpg")
    assert finding.reason.startswith("the decoder warns: ")


@pytest.mark.parametrize(
    "change",
    [
        {"format": "another"},
        {"version": 2},
        {"shards": [{"name": "../../etc.tar", "sha256": "0" * 64, "size": 1, "images": 18}]},
        {"images": {"train": 1}},
        {"table": "x"},
        {"prepared": {"short_side": 0}},
        {"labels": None},
    ],
)
def test_an_index_that_is_none_is_refused_in_one_line(root: Path, tmp_path: Path, change: Any):
    out = tmp_path / "pack"
    packed(root, out)
    index = json.loads((out / INDEX).read_text())
    (out / INDEX).write_text(json.dumps(index | change))
    with pytest.raises(CorruptFile, match=INDEX):
        data_of(out).open()


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 9999])
def test_bytes_that_are_no_index_are_refused_in_one_line(tmp_path: Path, content: bytes):
    (tmp_path / INDEX).write_bytes(content)
    with pytest.raises(CorruptFile, match="no index of a pack"):
        data_of(tmp_path).open()


def test_a_table_that_is_another_is_refused(root: Path, tmp_path: Path):
    packed(root, tmp_path / "pack")
    flip(tmp_path / "pack" / TABLE, -1)
    with pytest.raises(CorruptFile, match=TABLE):
        data_of(tmp_path / "pack").open()


def test_a_split_read_by_a_process_that_was_started_afresh_is_the_same(root: Path, tmp_path: Path):
    packed(root, tmp_path / "pack", shard_images=4)
    files = data_of(tmp_path / "pack").open().splits["val"]
    chosen = Selection(0, torch.arange(4))
    before = files[chosen]  # its shards are open now
    assert torch.equal(pickle.loads(pickle.dumps(files))[chosen].images, before.images)


def test_a_quality_or_side_that_cannot_be_is_refused():
    for side, quality in ((0, 90), (256, 0), (256, 101), (20_000, 90)):
        with pytest.raises(ResNetHubError, match=r"--short-side|--quality"):
            Prepared(side, quality)
