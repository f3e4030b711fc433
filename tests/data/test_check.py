"""Damage in a data set is found before it is trained on."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from cifar_files import KINDS, batch_record, python2_pickle, write_cifar
from pictures import cut, damage, pattern, save
from PIL import Image
from small_runs import environment
from torch.utils.data import get_worker_info
from torchvision.datasets import ImageFolder

from resnet_hub.data import check, jpegs
from resnet_hub.data import damage as one_file
from resnet_hub.data.check import Finding, Report, check_data
from resnet_hub.data.cifar import Cifar10
from resnet_hub.data.damage import Examined, examine
from resnet_hub.data.module import open_data
from resnet_hub.data.settings import DataSettings
from resnet_hub.errors import BadData, DataMissing, WorkerLost

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]

BIG = (320, 240)
"""Of pictures whose JPEGs are some times longer than the damage to them."""


def pictures(root: Path, ending: str = ".jpg", *, count: int = 3) -> Path:
    """``train/`` and ``val/`` with the classes ant and bee, no picture twice."""
    seed = 0
    for split in ("train", "val"):
        for name in ("ant", "bee"):
            for number in range(count):
                seed += 1
                save(root / split / name / f"{number}{ending}", pattern(*BIG, seed=seed))
    return root


def checked(root: Path, name: str = "Folder", *, workers: int = 1, timeout: float = 60) -> Report:
    settings = DataSettings(name=name, root=str(root), workers=workers, timeout=timeout)  # type: ignore[arg-type]
    return check_data(open_data(settings))


@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp", ".bmp"])
def test_nothing_is_found_in_whole_pictures(tmp_path: Path, ending: str):
    report = checked(pictures(tmp_path, ending), workers=2)
    assert report == Report(data="Folder", samples={"train": 6, "val": 6})
    assert report.damaged == 0


@pytest.mark.fault("D2")
def test_a_jpeg_damaged_in_its_middle_loads_elsewhere_and_is_found_here(tmp_path: Path):
    root = pictures(tmp_path)
    paths = [root / "train/ant/1.jpg", root / "val/bee/0.jpg"]
    whole = [np.asarray(Image.open(path)).copy() for path in paths]
    for path in paths:
        damage(path)
    assert len([picture for picture, _ in ImageFolder(root / "train")]) == 6  # without a word
    for path, before in zip(paths, whole, strict=True):
        assert (np.asarray(Image.open(path)) != before).mean() > 0.1
    report = checked(root)
    assert [finding.path for finding in report.findings] == list(map(str, paths))
    for finding in report.findings:
        assert finding.damage
        assert finding.reason.startswith("the decoder warns: Corrupt JPEG data: ")
        assert finding.reason.isprintable()


@pytest.mark.fault("D2")
@pytest.mark.parametrize("kind", ["L", "CMYK", "progressive", "4:4:4"])
def test_jpegs_of_every_kind_are_checked(tmp_path: Path, kind: str):
    path, mode = tmp_path / "a.jpg", kind if kind in ("L", "CMYK") else "RGB"
    options = {"progressive": True} if kind == "progressive" else {}
    subsampling = 0 if kind == "4:4:4" else 2
    picture = pattern(*BIG).convert(mode)
    picture.save(path, subsampling=subsampling, **options)
    found = examine(str(path))
    assert found.damage is None
    assert found.digest is not None
    damage(path)
    assert examine(str(path)).damage is not None


@pytest.mark.fault("D2")
def test_a_png_damaged_in_its_middle_is_found_by_its_checksums(tmp_path: Path):
    root = pictures(tmp_path, ".png")
    content = bytearray((path := root / "val/ant/2.png").read_bytes())
    content[len(content) // 2] ^= 1  # one bit is enough
    path.write_bytes(content)
    (finding,) = checked(root).findings
    assert (finding.path, finding.damage) == (str(path), True)
    assert "the decoder warns" not in finding.reason


def test_what_training_could_not_read_has_the_reason_that_training_would_give(tmp_path: Path):
    root = pictures(tmp_path, ".png")
    cut(root / "train/ant/0.png")
    (root / "train/bee/1.png").write_bytes(b"no picture at all")
    report = checked(root)
    assert [finding.path for finding in report.findings] == [
        str(root / "train/ant/0.png"),
        str(root / "train/bee/1.png"),
    ]
    assert report.damaged == 2
    assert report.findings[1].reason.startswith("not a readable image; formats are JPEG, PNG")


def test_a_name_that_is_not_printable_is_reported_as_it_is(tmp_path: Path):
    root = pictures(tmp_path, ".png")
    path = save(root / "train/ant/a\nb.png")
    path.write_bytes(b"")
    (finding,) = checked(root).findings
    assert finding.path == str(path)
    assert finding.reason.startswith("not a readable image")


def test_a_class_of_which_nothing_is_sound_is_named(tmp_path: Path):
    root = pictures(tmp_path)
    for path in (root / "val/bee").iterdir():
        cut(path)
    report = checked(root)
    assert report.damaged == 3
    assert report.findings[-1] == Finding(
        path=f"{root}, val, class 'bee'",
        reason="not one of its 3 images is sound",
        damage=False,
    )


def test_the_same_picture_in_two_splits_or_under_two_classes_is_a_warning(tmp_path: Path):
    root = pictures(tmp_path)
    first = root / "train/ant/0.jpg"
    shutil.copy(first, root / "train/ant/same class.jpg")
    shutil.copy(first, root / "train/bee/x.jpg")
    shutil.copy(first, root / "val/ant/x.jpg")
    report = checked(root)
    assert report.damaged == 0
    assert report.findings == [
        Finding(
            path=str(root / "train/bee/x.jpg"),
            reason=f"in train as 'bee', and the same picture is in train as 'ant': {first}",
            damage=False,
            in_two_classes=True,
        ),
        Finding(
            path=str(root / "val/ant/x.jpg"),
            reason=f"in val as 'ant', and the same picture is in train as 'ant': {first}",
            damage=False,
            splits=("train", "val"),
        ),
    ]


def test_findings_and_progress_are_told_as_they_come(tmp_path: Path):
    root = pictures(tmp_path)
    damage(root / "train/ant/1.jpg")
    told: list[Finding | tuple[int, int]] = []
    settings = DataSettings(name="Folder", root=str(root), workers=2)
    report = check_data(
        open_data(settings), tell=told.append, advance=lambda *counts: told.append(counts)
    )
    assert told == [(1, 12), *report.findings, *((n, 12) for n in range(2, 13))]


def test_without_a_number_of_workers_there_is_one_a_core(monkeypatch, tmp_path: Path):
    made = []

    class Loader(check.DataLoader):
        def __init__(self, *arguments, num_workers: int, **options):
            made.append(num_workers)
            super().__init__(*arguments, num_workers=num_workers, **options)

    monkeypatch.setattr(check, "DataLoader", Loader)
    assert checked(pictures(tmp_path, count=1), workers=0).findings == []
    assert made == [len(os.sched_getaffinity(0))]


def test_folders_that_make_no_data_set_are_refused(tmp_path: Path):
    with pytest.raises(DataMissing, match="no folder"):
        checked(tmp_path / "nowhere")
    root = pictures(tmp_path)
    shutil.rmtree(root / "val/bee")
    with pytest.raises(BadData, match="no class folder 'bee'"):
        checked(root)


def dies(path: str, **options: object) -> Examined:
    assert get_worker_info() is not None
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def test_a_process_that_is_lost_is_one_line(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(one_file, "examine", dies)
    with pytest.raises(WorkerLost, match=r"^Folder: a process that reads it was lost"):
        checked(pictures(tmp_path, count=1))


def refuses(content: torch.Tensor, mode: object) -> torch.Tensor:
    raise RuntimeError("decode_jpeg: torchvision not compiled with libjpeg support")


@pytest.mark.parametrize("decoder", [refuses, None])
def test_a_decoder_that_does_not_warn_is_told_of_and_not_used(
    tmp_path: Path, monkeypatch, decoder: Callable[[torch.Tensor, object], torch.Tensor] | None
):
    assert jpegs.decoder_warns()
    monkeypatch.setattr(jpegs, "decode_jpeg", decoder)
    assert not jpegs.decoder_warns()
    report = checked(pictures(tmp_path, count=1))
    assert [finding.path for finding in report.findings] == ["torchvision"]
    assert report.damaged == 0


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_standard_error_is_given_back(tmp_path: Path, capfd):
    path = damage(save(tmp_path / "a.jpg", pattern(*BIG)))
    handles = open_files()
    assert examine(str(path)).damage
    os.write(2, b"mine\n")
    assert capfd.readouterr().err == "mine\n"
    assert open_files() == handles


def test_what_runs_in_workers_imports_no_lightning():
    code = "import sys, resnet_hub.data.damage; sys.exit('lightning' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), timeout=120)
    assert done.returncode == 0


def test_digits_are_sound(tmp_path: Path):
    assert checked(tmp_path, "Digits") == Report(
        data="Digits", samples={"train": 1257, "val": 180, "test": 360}
    )


@pytest.mark.parametrize(("name", "train"), [("Cifar10", 100), ("Cifar100", 20)])
def test_files_in_cifars_layout_that_are_not_the_official_ones_are_named(
    tmp_path: Path, name: str, train: int
):
    folder = write_cifar(tmp_path, name)
    report = checked(tmp_path, name)
    assert report.samples == {"train": train, "test": 20}
    assert report.official == []
    assert [finding.path for finding in report.findings] == [
        str(folder / file) for file in KINDS[name].layout.sums
    ]
    assert {finding.reason for finding in report.findings} == {
        "not the official file (by its MD5 sum): damaged, or of another set"
    }


def bad_label(folder: Path) -> str:
    record = batch_record("Cifar10", 20)
    record[b"labels"][7] = 10  # type: ignore[index]
    (folder / "data_batch_3").write_bytes(python2_pickle(record))
    return "image 7 has the label 10, not one of 0 to 9"


def torn(folder: Path) -> str:
    cut(folder / "data_batch_3")
    return ""


@pytest.mark.parametrize("fault", [bad_label, torn])
def test_a_damaged_cifar_file_is_named_and_the_others_are_read(
    tmp_path: Path, fault: Callable[[Path], str]
):
    folder = write_cifar(tmp_path)
    reason = fault(folder)
    report = checked(tmp_path, "Cifar10")
    found = {Path(finding.path).name: finding.reason for finding in report.findings}
    assert len(found) == len(report.findings) == 7
    assert reason in found["data_batch_3"]
    assert "official" not in found["data_batch_3"]
    assert report.samples == {"train": 80, "test": 20}


def test_official_cifar_files_are_told_by_their_checksums(tmp_path: Path, monkeypatch):
    folder = write_cifar(tmp_path)
    sums = Cifar10.layout.sums
    official = {str(folder / file): md5 for file, md5 in sums.items() if file != "data_batch_2"}
    # The official bytes are not ours to ship: what is replaced is their sum alone.
    monkeypatch.setattr("resnet_hub.data.cifar._md5", lambda path: official.get(str(path), ""))
    report = checked(tmp_path, "Cifar10")
    assert report.official == list(official)
    assert [finding.path for finding in report.findings] == [str(folder / "data_batch_2")]


@pytest.mark.data
@pytest.mark.fault("D2")
def test_real_photographs_are_sound_and_their_damage_is_mostly_found(
    real_data: Path, tmp_path: Path
):
    sample = real_data / "imagenet-sample"
    report = checked(sample, "ImageNet", workers=2)
    assert report == Report(data="ImageNet", samples={"val": report.samples["val"]})
    assert report.samples["val"] >= 500
    paths = []
    for folder in sorted((sample / "val").iterdir())[:20]:
        source = min(folder.iterdir())
        paths.append(tmp_path / "val" / folder.name / source.name)
        paths[-1].parent.mkdir(parents=True)
        paths[-1].write_bytes(source.read_bytes())
        damage(paths[-1])
    assert checked(tmp_path, "ImageNet").damaged >= 15
