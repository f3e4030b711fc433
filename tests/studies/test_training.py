"""Runs in processes of their own: exit codes, signals, what ends a study."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from resnet_hub.cli.study_runs import plan
from resnet_hub.studies import training
from resnet_hub.studies.designs import plain

# Stands in for Python: says that it is there, and exits as told or by the signal it is sent.
CHILD = """#!/bin/sh
trap 'echo TERM >> {told}; exit 143' TERM
trap 'echo INT >> {told}; exit 130' INT
echo "$@" >> {log}
{does}
exit {code}
"""
WAITS = "n=0; while [ $n -lt 200 ]; do sleep 0.05; n=$((n + 1)); done"


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def make(*, code: int = 0, does: str = ":") -> Path:
        log, script = tmp_path / "log", tmp_path / "python"
        told = tmp_path / "told"
        script.write_text(CHILD.format(log=log, told=told, does=does, code=code))
        script.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(script))
        return log

    return make


def runs(tmp_path: Path) -> list:
    return plan([plain(20), plain(32)], {"steps": "9"}, [], tmp_path / "study")


def test_each_run_is_a_fit_command_in_its_folder(tmp_path: Path, child):
    log, lines = child(), []
    assert training.train(runs(tmp_path), lines.append, output=None) == 0
    first, second = log.read_text().splitlines()
    assert first.startswith("-m resnet_hub.cli fit cifar10_plain20 --seed=0 --data.held_out=0")
    assert second.endswith(f"--out={tmp_path}/study/cifar_plain32-seed0")
    assert lines[0] == "1 of 2  cifar_plain20-seed0  begins"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_reaches_the_run_once_and_ends_the_study(tmp_path: Path, child, number, code):
    log = child(does=WAITS)

    def send() -> None:
        while not log.is_file():
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    threading.Thread(target=send).start()
    before = signal.getsignal(number)
    assert training.train(runs(tmp_path), lambda line: None, output=None) == code
    assert len(log.read_text().splitlines()) == 1
    assert len((tmp_path / "told").read_text().splitlines()) == 1
    assert signal.getsignal(number) is before


def test_a_run_that_is_killed_ends_the_study_by_128_and_the_signal(tmp_path: Path, child):
    log = child(does="kill -9 $$")
    assert training.train(runs(tmp_path), lambda line: None, output=None) == 137
    assert len(log.read_text().splitlines()) == 1


def test_a_run_that_fails_before_it_saved_ends_the_study(tmp_path: Path, child):
    log = child(code=1)
    assert training.train(runs(tmp_path), lambda line: None, output=None) == 1
    assert len(log.read_text().splitlines()) == 1


def test_a_run_that_fails_after_it_saved_leaves_the_others_to_be_trained(tmp_path: Path, child):
    made = tmp_path / "study" / "cifar_plain20-seed0" / "checkpoints" / "step-00000004"
    log = child(code=1, does=f"mkdir -p {made}")
    assert training.train(runs(tmp_path), lambda line: None, output=None) == 1
    assert len(log.read_text().splitlines()) == 2


def test_a_stopped_run_goes_on_and_a_finished_one_is_left_alone(tmp_path: Path, child):
    log, planned, lines = child(), runs(tmp_path), []
    (planned[0].folder / "model").mkdir(parents=True)
    (planned[1].folder / "checkpoints" / "step-00000004").mkdir(parents=True)
    assert training.train(planned, lines.append, output=None) == 0
    assert log.read_text() == f"-m resnet_hub.cli fit --resume {planned[1].folder}\n"
    assert [line.split("  ")[2] for line in lines] == ["is finished", "goes on"]
