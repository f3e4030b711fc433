"""``resnet-hub data check``: what people and scripts get."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cifar_files import write_cifar
from pictures import class_folders, damage, pattern, save
from small_runs import command, environment, refusal

pytestmark = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes with a picture each to train and to validate on, and one more JPEG."""
    class_folders(tmp_path / "train", {"ant": 2, "bee": 2})
    class_folders(tmp_path / "val", {"ant": 0, "bee": 0})
    save(tmp_path / "val/ant/0.png", pattern(seed=90))
    save(tmp_path / "val/bee/0.png", pattern(seed=91))
    save(tmp_path / "train/bee/photo.jpg", pattern(320, 240, seed=92))
    return tmp_path


def told(capsys, *arguments: object) -> tuple[int, str]:
    """Run ``data check`` and return its exit code and standard output; nothing else is printed."""
    capsys.readouterr()
    code = command("data", "check", *arguments)
    out, err = capsys.readouterr()
    assert err == ""
    return code, out


def test_a_sound_folder_is_one_line_and_no_error(root: Path, capsys):
    code, out = told(capsys, "Folder", "--data.root", root, "--data.workers=1")
    assert (code, out) == (0, "Folder (train 5, val 2): nothing damaged\n")


@pytest.mark.fault("D2")
def test_each_finding_is_a_line_with_its_path_and_the_exit_code_tells(root: Path, capsys):
    path = damage(root / "train/bee/photo.jpg")
    twin = shutil.copy(root / "train/ant/0.png", root / "val/ant/twin.png")
    code, out = told(capsys, "Folder", "--data.root", root, "--data.workers=1")
    assert code == 1
    first, second, last = out.splitlines()
    assert first.startswith(f"{path}: the decoder warns: Corrupt JPEG data: ")
    assert second.startswith(f"{twin}: warning: in val as 'ant', and the same picture is in train")
    assert last == "Folder (train 5, val 3): damaged: 1, warnings: 1"


def test_warnings_alone_are_no_error(root: Path, capsys):
    shutil.copy(root / "train/ant/0.png", root / "val/ant/twin.png")
    code, out = told(capsys, "Folder", "--data.root", root, "--data.workers=1")
    assert code == 0
    assert out.splitlines()[-1] == "Folder (train 5, val 3): nothing damaged, warnings: 1"


def test_scripts_get_one_object(root: Path, capsys):
    path = damage(root / "train/bee/photo.jpg")
    code, out = told(capsys, "Folder", "--json", f"--data.root={root}", "--data.workers=1")
    assert code == 1
    assert out.count("\n") == 1
    facts = json.loads(out)
    (finding,) = facts.pop("findings")
    assert (finding["path"], finding["damage"]) == (str(path), True)
    assert "Corrupt JPEG data" in finding["reason"]
    assert facts == {
        "data": "Folder",
        "samples": {"train": 5, "val": 2},
        "official": [],
        "damaged": 1,
        "warnings": 0,
    }


def test_the_seed_chooses_the_images_that_are_held_out(tmp_path: Path, capsys):
    root = class_folders(tmp_path / "pictures", {"ant": 5, "bee": 5})
    code, out = told(capsys, "Folder", "--data.root", root, "--seed=3", "--data.workers=1")
    assert (code, out) == (0, "Folder (train 8, val 2): nothing damaged\n")


def test_cifar_files_that_are_not_official_are_told(tmp_path: Path, capsys):
    folder = write_cifar(tmp_path)
    code, out = told(capsys, "Cifar10", "--data.root", tmp_path)
    assert code == 1
    assert f"{folder / 'test_batch'}: not the official file (by its MD5 sum)" in out
    assert out.splitlines()[-1] == "Cifar10 (train 100, test 20): damaged: 7"


def test_digits_are_sound(capsys):
    code, out = told(capsys, "Digits")
    assert (code, out) == (0, "Digits (train 1,257, test 360, val 180): nothing damaged\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["chek"], "data: 'chek' is nothing to do with data; did you mean 'check'?"),
        (["check"], "data check: needs one data set (see `resnet-hub data --help`)"),
        (["check", "Digits", "Folder"], "data check: needs one data set"),
        (["check", "Foldr"], "did you mean 'Folder'?"),
        (["check", "Digits", "--data.rot=x"], "did you mean 'root'?"),
        (["check", "Digits", "--net=resnet18"], "--net: data check takes --data.KEY, --seed and"),
        (["check", "Folder", "--data.root=/nowhere/at/all"], "there is no folder"),
    ],
)
def test_what_cannot_be_checked_is_refused_in_one_line(capsys, arguments: list, message: str):
    assert message in refusal(capsys, "data", *arguments)


def test_a_folder_is_packed_checked_and_called_by_what_was_done_to_it(
    root: Path, tmp_path: Path, capsys
):
    out = tmp_path / "pack"
    arguments = ("pack", "Folder", "--data.root", root, "--out", out, "--data.workers=1")
    assert command("data", *arguments, "--short-side=64", "--quality=80") == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{out}: Folder (train 5, val 2) in 2 shards, ")
    assert first.endswith(" GB, short side 64, q80")
    assert second == f"next: resnet-hub data check Folder --data.root {out}"
    code, said = told(capsys, "Folder", "--data.root", out, "--data.workers=1")
    assert (code, said) == (0, "Folder (train 5, val 2): nothing damaged\n")
    (out / "val-000000.tar").unlink()
    code, said = told(capsys, "Folder", "--data.root", out, "--data.workers=1")
    assert code == 1
    assert said.splitlines()[0].endswith("val-000000.tar: a shard of the pack that is not there")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["Digits", "--out", "x"], "data pack: Digits is held in memory; it needs no pack"),
        (["Folder"], "the following arguments are required: --out"),
        (["--out", "x"], "data pack: needs one data set"),
        (["Folder", "--out", "x", "--quality", "80"], "--quality: is of the JPEGs that --short-"),
        (["Folder", "--out", "x", "--short-side", "0"], "--short-side: 0 is not 1 to 10,000"),
        (["Folder", "--out", "x", "--short", "0"], "--short: data pack takes --data.KEY, --seed"),
    ],
)
def test_what_cannot_be_packed_is_refused_in_one_line(
    capsys, tmp_path: Path, monkeypatch, arguments: list, message: str
):
    monkeypatch.chdir(tmp_path)
    assert message in refusal(capsys, "data", "pack", *arguments)
    assert not (tmp_path / "x").exists()


def test_the_help_says_what_cannot_be_found(capsys):
    for arguments in ((), ("--help",), ("check", "-h")):
        assert command("data", *arguments) == 0
        assert "What cannot be found: a changed bit in a JPEG" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [("--help",), ("check", "Foldr")])
def test_help_and_refusals_import_no_torch(arguments: tuple[str, ...]):
    code = (
        "import sys; from resnet_hub.cli.__main__ import main; main(['data', *sys.argv[1:]]); "
        "sys.exit(bool({'torch', 'lightning'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment(), capture_output=True
    )
    assert done.returncode == 0
