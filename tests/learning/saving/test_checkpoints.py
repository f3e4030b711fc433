"""Checkpoints as folders: whole or not at all, verified before they are used."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from disks import remount, small_disk
from small_runs import environment

from resnet_hub.errors import CorruptFile, InvalidSetting, ResNetHubError
from resnet_hub.learning.saving.checkpoints import (
    FILES,
    numbered,
    read_training_checkpoint,
    sweep,
    verify,
    write_checkpoint,
)


def content(step: int, size: int = 10) -> dict:
    return {"state_dict": {"w": torch.full((size,), float(step))}, "global_step": step, "x": [1]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_checkpoint(tmp_path / "step-00000003", content(3))
    return tmp_path / "step-00000003"


def test_what_was_written_is_read(folder: Path):
    found = read_training_checkpoint(folder)
    assert torch.equal(found.pop("state_dict")["w"], torch.full((10,), 3.0))
    assert found == {"global_step": 3, "x": [1]}
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    assert json.loads((folder / "manifest.json").read_text())["step"] == 3


@pytest.mark.fault("W6")
def test_its_rights_follow_the_umask(tmp_path: Path):
    before = os.umask(0o027)
    try:
        write_checkpoint(tmp_path / "c", content(1))
    finally:
        os.umask(before)
    assert (tmp_path / "c").stat().st_mode & 0o777 == 0o750
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "c").iterdir()} == {0o640}


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_a_cut_and_a_missing_file_are_found(folder: Path, name: str):
    path = folder / name
    whole = path.read_bytes()
    places = random.Random(name).sample(range(len(whole)), 20)
    for place in places if name != "manifest.json" else range(len(whole) - 1):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << (place % 8)
        path.write_bytes(flipped)
        with pytest.raises(CorruptFile, match=f"^{folder}"):
            read_training_checkpoint(folder)
    for cut in (0, len(whole) // 2, len(whole) - 2):
        path.write_bytes(whole[:cut])
        with pytest.raises(CorruptFile, match=f"^{folder}"):
            read_training_checkpoint(folder)
    path.unlink()
    with pytest.raises(CorruptFile, match=f"^{folder}"):
        read_training_checkpoint(folder)
    path.write_bytes(whole)
    verify(folder)


def test_a_file_that_does_not_belong_there_is_found(folder: Path):
    (folder / "extra.pkl").touch()
    with pytest.raises(CorruptFile, match=r"do not belong there \(extra\.pkl\)"):
        verify(folder)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"format": 1, "files": 3}', '{"format": 1, "files": {}}', "[" * 100_000],
)
def test_a_manifest_that_is_none_is_found(folder: Path, text: str):
    (folder / "manifest.json").write_text(text)
    with pytest.raises(CorruptFile, match=r"manifest\.json: damaged, it is no manifest"):
        verify(folder)


def test_a_manifest_of_a_later_format_is_refused(folder: Path):
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(CorruptFile, match="format 2, this version reads 1; upgrade resnet-hub"):
        verify(folder)


def test_a_file_and_an_empty_folder_are_no_checkpoints(tmp_path: Path):
    (tmp_path / "a.ckpt").touch()
    with pytest.raises(CorruptFile, match="a file, and a run's checkpoints are folders"):
        read_training_checkpoint(tmp_path / "a.ckpt")
    with pytest.raises(CorruptFile, match=r"holds no manifest\.json"):
        read_training_checkpoint(tmp_path)


def test_what_is_no_state_of_a_training_is_refused(tmp_path: Path):
    for state in ({"global_step": 1}, {"global_step": 1, "state_dict": [1]}):
        write_checkpoint(tmp_path / "c", state)
        with pytest.raises(CorruptFile, match="holds no state_dict"):
            read_training_checkpoint(tmp_path / "c")


def test_what_cannot_be_kept_leaves_what_was_there(folder: Path):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(InvalidSetting, match=r"^x: set is neither plain values nor tensors"):
        write_checkpoint(folder, {**content(4), "x": {1}})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_something_else_is_never_replaced(tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").touch()
    with pytest.raises(InvalidSetting, match="holds other things"):
        write_checkpoint(tmp_path / "mine", content(1))


@pytest.mark.fault("R5")
def test_they_are_numbered_by_their_steps(tmp_path: Path):
    for name in ("step-00000010", "step-00000009", "step-123456789", "best-00000002", ".step-1.x"):
        (tmp_path / name).mkdir()
    (tmp_path / "step-x").touch()
    assert [step for step, _ in numbered(tmp_path, "step")] == [123456789, 10, 9]
    assert [path.name for _, path in numbered(tmp_path, "best")] == ["best-00000002"]
    assert numbered(tmp_path / "nothing", "step") == []
    sweep(tmp_path)
    assert not (tmp_path / ".step-1.x").exists()
    assert len(list(tmp_path.iterdir())) == 5


SAVE = """
import sys
from pathlib import Path
import torch
from resnet_hub.learning.saving.checkpoints import write_checkpoint
folder, step = Path(sys.argv[1]), int(sys.argv[2])
for step in range(step, step + 1000):
    state = {"w": torch.full((500_000,), float(step))}
    print(step, flush=True)
    write_checkpoint(folder / f"step-{step:08d}", {"state_dict": state, "global_step": step})
    write_checkpoint(folder / "best-00000000", {"state_dict": state, "global_step": step})
"""
SERVER = """
import os, sys
import torch
import resnet_hub.learning.saving.checkpoints
for line in sys.stdin:  # each line is one process to be killed
    if not (pid := os.fork()):
        sys.argv = ["-", *line.split()]
        exec(SAVE, {})
    os.waitpid(pid, 0)
    print("killed", flush=True)
"""


@pytest.mark.fault("W2")
def test_of_twenty_processes_killed_while_they_save_none_leaves_a_torn_one(tmp_path: Path):
    draw, step, mid_save = random.Random(1), 1, 0
    with subprocess.Popen(
        [sys.executable, "-c", f"SAVE = {SAVE!r}\n{SERVER}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
        text=True,
    ) as server:
        for _ in range(20):
            server.stdin.write(f"{tmp_path} {step}\n")
            server.stdin.flush()
            while int(server.stdout.readline()) < step + 1:  # one was written whole
                continue
            time.sleep(draw.random() / 20)
            (child,) = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
            os.kill(int(child), signal.SIGKILL)
            while server.stdout.readline() != "killed\n":
                continue
            found = numbered(tmp_path, "step")
            for number, folder in found:
                weights = read_training_checkpoint(folder)["state_dict"]["w"]
                assert weights.eq(number).all()
            read_training_checkpoint(tmp_path / "best-00000000")
            step = found[0][0]
            mid_save += any(path.name.startswith(".") for path in tmp_path.iterdir())
        server.stdin.close()
    assert mid_save >= 5  # the kills did come in the middle
    sweep(tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.fault("W1")
@pytest.mark.parametrize("trouble", ["full", "read-only"])
def test_a_disk_that_refuses_leaves_the_last_one_and_no_rest(tmp_path: Path, trouble: str):
    place = tmp_path / "disk"
    with small_disk(place, "1m"):
        write_checkpoint(place / "step-00000001", content(1))
        if trouble == "read-only":
            remount(place, "ro")
        for name in ("step-00000001", "step-00000002"):
            with pytest.raises(ResNetHubError, match=r"could not be written \((No|Read-o).*intact"):
                write_checkpoint(place / name, content(2, size=1_000_000))
        assert [path.name for path in place.iterdir()] == ["step-00000001"]
        assert read_training_checkpoint(place / "step-00000001")["global_step"] == 1


@pytest.mark.fault("W3")
def test_files_then_their_names_then_the_folders_name_reach_the_disk(tmp_path: Path):
    if subprocess.run(["strace", "-V"], capture_output=True).returncode:
        pytest.skip("strace is not installed")
    log = tmp_path / "log"
    script = SAVE.replace("range(step, step + 1000)", "range(1)")
    traced = ["strace", "-f", "-y", "-e", "trace=fsync,rename,renameat,renameat2", "-o", str(log)]
    done = subprocess.run(
        [*traced, sys.executable, "-c", script, tmp_path / "c", "0"],
        env=environment(),
        capture_output=True,
        check=False,
        text=True,
    )
    if done.returncode and "PTRACE" in done.stderr:
        pytest.skip("strace is not allowed here")
    assert done.returncode == 0, done.stderr
    calls = [
        line.split(None, 1)[1] for line in log.read_text().splitlines() if str(tmp_path) in line
    ]
    order = []
    for call in calls:
        kind = "fsync" if call.startswith("fsync") else "rename"
        named = [name for name in ("tensors", "state", "manifest") if f"{name}." in call]
        order.append((kind, named[0] if named else "folder"))
    ours = order[: order.index(("rename", "folder")) + 2]
    for name in ("tensors", "state", "manifest"):
        assert ours.index(("fsync", name)) < ours.index(("rename", name))
        after = ours[ours.index(("rename", name)) :]
        assert ("fsync", "folder") in after
    assert ours.index(("rename", "state")) < ours.index(("rename", "manifest"))
    assert ours[-2:] == [("rename", "folder"), ("fsync", "folder")]
