"""``resnet-hub fit --dry-run``: what it prints, and that it leaves nothing."""

import json
import re
from pathlib import Path

import pytest
from small_runs import TINY, command, failure, refusal, start


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_prints_the_run_that_would_be_and_leaves_nothing(here: Path, capsys):
    assert command("fit", "quickstart", "--dry-run", "--out=run") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert list(here.iterdir()) == []
    shown = dict(re.split(r"  +", line, maxsplit=1) for line in out.splitlines())
    assert shown["net"].startswith("cifar_resnet20: 269,434 parameters, ")
    assert shown["batch"] == "32 a device × 1 (devices) × 1 (accumulated) = 32 a step"
    assert shown["steps"] == "39 an epoch × 15 = 585 in all, on 18,720 images"
    assert "weight decay 0.0005: " in shown["group decayed"]
    assert re.match(r"about \d:\d\d:\d\d on cpu: 585 steps of ", shown["time"])
    assert "no promise" in shown["note"]


def test_as_json_it_is_one_object(here: Path, capsys):
    assert command("fit", "quickstart", *TINY, "--dry-run", "--json") == 0
    out, err = capsys.readouterr()
    assert err == ""
    found = json.loads(out)
    assert found["steps"] == 2
    assert [group["name"] for group in found["groups"]] == ["decayed", "free"]
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resume=run", "--dry-run"], "--resume: the run's own recipe is used"),
        (["quickstart", "--json"], "--json: goes with --dry-run"),
        (["--dry-run"], "which recipe?"),
        (["quickstart", "--dry-run", "--data=Folder", "--data.root=nowhere"], "nowhere"),
    ],
)
def test_what_it_does_not_go_with_is_refused(here: Path, capsys, arguments: list, message: str):
    assert message in refusal(capsys, "fit", *arguments)
    assert list(here.iterdir()) == []


def test_data_that_are_not_there_are_not_fetched(here: Path, capsys):
    assert "CIFAR-10" in failure(capsys, "fit", "cifar10_resnet20", "--dry-run")
    assert list(here.iterdir()) == []


@pytest.mark.slow
def test_of_two_processes_the_first_one_prints(here: Path):
    flags = ("--trainer.accelerator=cpu", "--trainer.devices=2", "--trainer.strategy=ddp")
    with start("fit", "quickstart", *flags, "--dry-run", "--json", cwd=here) as process:
        out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    found = json.loads(out)
    assert (found["devices"], found["step_images"], found["steps_per_epoch"]) == (2, 64, 19)
    assert list(here.iterdir()) == []
