"""Signals to any rank of a run, and ranks that are lost: what is saved, and how all of them end."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from rank_tasks import QUIET, few_digits, small_net
from ranks import Ranks, command
from small_runs import checkpoint, environment, start, untimed_rows

from resnet_hub.learning.classifier import Classifier
from resnet_hub.learning.processes.stopping import SIGNALS, StopCleanly
from resnet_hub.learning.trainer import make_trainer

LONG = ("fit", "quickstart", "--trainer.max_epochs=99", "--trainer.limit_train_batches=10")
SHORT = ("fit", "quickstart", "--trainer.max_epochs=3", "--trainer.limit_train_batches=10")
TINY = ("fit", "quickstart", "--trainer.max_epochs=1", "--trainer.limit_train_batches=2")
DDP = ("--trainer.devices=2", "--trainer.strategy=ddp")
STOPPED = {"SIGINT": 130, "SIGTERM": 143, "SIGUSR1": 143}
SOON = 20  # seconds


def slow(seconds: float, hook: str = "train_batch") -> tuple[str, str]:
    arguments = {"seconds": seconds, "hook": hook}
    return "--callbacks", json.dumps([{"class_path": "interruption.Slow", "init_args": arguments}])


def no_longer_slow(run: Path) -> None:
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("seconds: 1.0", "seconds: 0.0"))


def signal_at(mark: Path, **arguments: object) -> tuple[str, str]:
    entry = {"class_path": "interruption.SignalAt", "init_args": {"mark": str(mark), **arguments}}
    return "--callbacks", json.dumps([entry])


def saved_step(run: Path) -> int:
    return checkpoint(run)["global_step"]


def same_weights(run: Path, other: Path) -> bool:
    one, two = checkpoint(run)["state_dict"], checkpoint(other)["state_dict"]
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.fault("R3")
@pytest.mark.fault("R4")
@pytest.mark.parametrize("name", STOPPED)
def test_a_signal_to_one_process_saves_and_has_its_code(tmp_path: Path, name: str):
    with command(1, *LONG, "--out=run", cwd=tmp_path) as ranks:
        ranks.wait_for("epoch 1 ")
        os.kill(ranks.pid(0), getattr(signal, name))
        assert ranks.codes(SOON) == [STOPPED[name]]
        assert ranks.out().endswith(f"stopped by {name}; go on with: resnet-hub fit --resume run\n")
        again = "stopping after this step; Ctrl-C once more to stop at once\n"
        assert (again if name == "SIGINT" else f"{name}: stopping after this step\n") in ranks.out()
        assert ranks.err() == ""
    assert saved_step(tmp_path / "run") >= 10


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two ranks that nothing stopped."""
    home = tmp_path_factory.mktemp("whole")
    with command(2, *SHORT, "--out=run", cwd=home) as ranks:
        assert ranks.codes() == [0, 0], ranks.err()
    return home / "run"


@pytest.mark.fault("X3")
@pytest.mark.parametrize(
    ("name", "rank"), [("SIGINT", 0), ("SIGTERM", 0), ("SIGTERM", 1), ("SIGUSR1", 1)]
)
def test_a_signal_to_any_rank_stops_all_at_one_step_and_the_run_goes_on(
    tmp_path: Path, whole: Path, name: str, rank: int
):
    with command(2, *SHORT, *slow(0.02), "--out=run", cwd=tmp_path) as ranks:
        ranks.wait_for("epoch 1 ")
        os.kill(ranks.pid(rank), getattr(signal, name))
        assert ranks.codes(SOON) == [STOPPED[name]] * 2, ranks.err()
        assert ranks.err(0) == ranks.err(1) == ""
        assert f"stopped by {name}; go on with" in ranks.out()
    run = tmp_path / "run"
    assert 10 <= saved_step(run) < 30
    assert not (run / "model").exists()
    with command(2, "fit", "--resume=run", cwd=tmp_path) as ranks:
        assert ranks.codes() == [0, 0], ranks.err()
    assert same_weights(run, whole)


@pytest.mark.fault("X3")
@pytest.mark.parametrize(
    ("flags", "batch", "steps"),
    [
        pytest.param((), 5, 6, id="in the middle"),
        pytest.param(("--trainer.val_check_interval=7",), 6, 7, id="a validation falls on it"),
        pytest.param(("--trainer.accumulate_grad_batches=4",), 5, 2, id="no step falls on it"),
        pytest.param((), 9, 10, id="the epoch's last step"),
    ],
)
def test_ranks_stop_after_the_step_that_follows_or_the_next_that_allows_it(
    tmp_path: Path, flags: tuple[str, ...], batch: int, steps: int
):
    sent = signal_at(tmp_path / "mark", signal="SIGINT", batch=batch)
    flags = (*SHORT, *flags, *sent, "--out=run")
    with command(2, *flags, cwd=tmp_path) as ranks:
        assert ranks.codes() == [130, 130], ranks.err()
    assert saved_step(tmp_path / "run") == steps


@pytest.mark.fault("X3")
def test_signals_to_all_ranks_at_once_are_one_stop(tmp_path: Path):
    with command(2, *LONG, "--out=run", cwd=tmp_path) as ranks:
        ranks.wait_for("epoch 1 ")
        for rank in (0, 1, 0, 1):  # who watches over processes repeats himself
            os.kill(ranks.pid(rank), signal.SIGTERM)
        assert ranks.codes(SOON) == [143, 143], ranks.err()
    assert saved_step(tmp_path / "run") >= 10


@pytest.mark.fault("X3")
@pytest.mark.parametrize("where", [(), ("--trainer.val_check_interval=5",)])
def test_a_long_validation_is_stopped_and_begun_anew(tmp_path: Path, where: tuple[str, ...]):
    # Of 181 images the first rank has 91, a batch more than the second.
    flags = (*SHORT, "--trainer.max_epochs=2", *where, "--data.batch_size=3")
    flags += ("--data.held_out=181",)
    with command(2, *flags, "--out=whole", cwd=tmp_path) as ranks:
        assert ranks.codes() == [0, 0], ranks.err()
    with command(2, *flags, *slow(1.0, "validation_batch"), "--out=run", cwd=tmp_path) as ranks:
        ranks.wait_for("validating")
        began = time.monotonic()
        os.kill(ranks.pid(1), signal.SIGTERM)
        assert ranks.codes(SOON) == [143, 143], ranks.err()
        assert time.monotonic() - began < 10
    run = tmp_path / "run"
    assert saved_step(run) == (5 if where else 10)
    no_longer_slow(run)
    with command(2, "fit", "--resume=run", cwd=tmp_path) as ranks:
        assert ranks.codes() == [0, 0], ranks.err()
    assert same_weights(run, tmp_path / "whole")
    assert untimed_rows(run) == untimed_rows(tmp_path / "whole")


@pytest.mark.fault("R3")
def test_a_validation_of_whole_epochs_is_stopped_and_begun_anew(tmp_path: Path):
    flags = ("fit", "quickstart", "--trainer.max_epochs=3", "--data.batch_size=200")
    flags += ("--trainer.log_every_n_steps=1",)
    with command(1, *flags, "--out=whole", cwd=tmp_path) as ranks:
        assert ranks.codes() == [0]
    with command(1, *flags, *slow(1.0, "validation_batch"), "--out=run", cwd=tmp_path) as ranks:
        ranks.wait_for("validating")
        os.kill(ranks.pid(0), signal.SIGINT)
        assert ranks.codes(SOON) == [130]
    assert saved_step(tmp_path / "run") == 6
    no_longer_slow(tmp_path / "run")
    with command(1, "fit", "--resume=run", cwd=tmp_path) as ranks:
        assert ranks.codes() == [0], ranks.err()
    assert same_weights(tmp_path / "run", tmp_path / "whole")


@pytest.mark.fault("X1")
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_ends_the_other_with_one_line(tmp_path: Path, rank: int):
    with command(2, *LONG, "--out=run", cwd=tmp_path) as ranks:
        ranks.wait_for("epoch 1 ")
        os.kill(ranks.pid(rank), signal.SIGKILL)
        codes = ranks.codes(15)
        assert codes[rank] == -signal.SIGKILL
        assert codes[1 - rank] == 1
        assert ranks.err(1 - rank) == (
            "resnet-hub: stopped, because another process of this run ended\n"
        )
    assert saved_step(tmp_path / "run") >= 10


@pytest.mark.fault("X2")
@pytest.mark.parametrize("rank", [0, 1])
def test_a_frozen_rank_ends_the_other_within_the_timeout(tmp_path: Path, rank: int):
    flags = (*LONG, "--distributed.timeout=4", "--out=run")
    with command(2, *flags, cwd=tmp_path) as ranks:
        ranks.wait_for("epoch 1 ")
        os.kill(ranks.pid(rank), signal.SIGSTOP)
        began = time.monotonic()
        ranks.processes[1 - rank].join(15)
        assert ranks.processes[1 - rank].exitcode == 1
        assert time.monotonic() - began < 8
        line = ranks.err(1 - rank)
        assert line.startswith("resnet-hub: stopped, because another process of this run did not")
        assert "distributed.timeout" in line
        assert line.count("\n") == 1
    assert saved_step(tmp_path / "run") >= 10


def scontrol(folder: Path, code: int = 0) -> dict[str, str]:
    """Put a scontrol on the path that writes down what it was asked; return the variables."""
    (folder / "bin").mkdir()
    program = folder / "bin" / "scontrol"
    program.write_text(f'#!/bin/sh\necho "$@" >> {folder}/asked\necho refused >&2\nexit {code}\n')
    program.chmod(0o755)
    return {"PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}


@pytest.mark.parametrize(
    ("name", "code", "told"),
    [
        ("SIGUSR1", 0, "job 4711 is requeued"),
        ("SIGUSR1", 1, "job 4711 is not requeued: scontrol says refused"),
        ("SIGTERM", 0, ""),
    ],
)
def test_slurms_tasks_are_one_run_that_is_requeued_once_it_is_saved(
    tmp_path: Path, name: str, code: int, told: str
):
    how = {"by": "slurm", "variables": scontrol(tmp_path, code)}
    with command(2, *LONG, "--out=run", cwd=tmp_path, **how) as ranks:
        ranks.wait_for("epoch 1 ")
        for rank in (0, 1):
            os.kill(ranks.pid(rank), getattr(signal, name))
        assert ranks.codes(SOON) == [143, 143], ranks.err()
        assert "64 images a step" in ranks.out()
        asked = tmp_path / "asked"
        assert (asked.read_text() if asked.exists() else "") == ("requeue 4711\n" if told else "")
        assert ranks.out().splitlines()[-1].startswith(told or "stopped by SIGTERM; go on with")
    assert saved_step(tmp_path / "run") >= 10


def children(pid: int) -> list[int]:
    """Return a process's children that live."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = status.read_text().rpartition(")")[2].split()[:2]
        except OSError:  # it ended meanwhile
            continue
        if int(parent) == pid and state != "Z":
            found.append(int(status.parent.name))
    return found


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def torchrun(*arguments: str, cwd: Path) -> "subprocess.Popen[str]":
    """Start ``resnet-hub`` as two processes of torchrun."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2"),
            *("--standalone", "-m", "resnet_hub.cli", *arguments),
        ],
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_line(process: "subprocess.Popen[str]", begin: str) -> list[str]:
    """Read a process's lines until one begins like this; return them all."""
    lines = []
    while not (lines or [""])[-1].startswith(begin):
        line = process.stdout.readline()
        assert line, process.stderr.read()
        lines.append(line)
    return lines


linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")


@linux
@pytest.mark.fault("X1")
@pytest.mark.fault("X2")
@pytest.mark.parametrize(
    ("number", "timeout"),
    [
        (signal.SIGKILL, 600),
        pytest.param(signal.SIGSTOP, 20, marks=pytest.mark.slow),  # the start takes some of them
    ],
)
def test_of_the_processes_that_lightning_starts_none_outlives_a_lost_one(
    tmp_path: Path, number: signal.Signals, timeout: int
):
    flags = (*LONG, *DDP, f"--distributed.timeout={timeout}", "--out=run")
    with start(*flags, cwd=tmp_path) as process:
        wait_for_line(process, "epoch 1 ")
        (child,) = children(process.pid)
        os.kill(child, number)
        began = time.monotonic()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert time.monotonic() - began < (15 if number == signal.SIGKILL else timeout + 15)
    assert not lives(child)
    assert err.startswith("resnet-hub: stopped, because another process of this run ")
    assert err.count("\n") == 1


@linux
@pytest.mark.slow  # of ranks that nobody watches, the default tests kill the first as well
@pytest.mark.fault("X1")
def test_where_the_first_process_is_killed_the_others_end(tmp_path: Path):
    with start(*LONG, *DDP, "--out=run", cwd=tmp_path) as process:
        wait_for_line(process, "epoch 1 ")
        (child,) = children(process.pid)
        process.kill()
        deadline = time.monotonic() + 15
        while lives(child):
            assert time.monotonic() < deadline
            time.sleep(0.05)


@linux
@pytest.mark.fault("X4")
def test_torchruns_processes_are_one_run_and_a_signal_to_it_saves_the_step(tmp_path: Path):
    flags = (*LONG, "--data.workers=1", "--out=run")
    with torchrun(*flags, cwd=tmp_path) as agent:
        lines = wait_for_line(agent, "epoch 1 ")
        ranks = children(agent.pid)
        agent.send_signal(signal.SIGTERM)
        began = time.monotonic()
        out, _ = agent.communicate(timeout=60)
    assert time.monotonic() - began < SOON
    assert len(ranks) == 2
    assert not any(map(lives, ranks))
    assert agent.returncode != 0
    assert lines.count("run run\n") == 1
    assert "64 images a step" in "".join(lines)
    assert "stopped by SIGTERM; go on with: resnet-hub fit --resume run" in out
    assert saved_step(tmp_path / "run") >= 10


@pytest.mark.fault("X3")
@pytest.mark.parametrize(("hook", "rank"), [("after the fit", 1), ("test", 0)])
def test_the_final_test_is_stopped_on_all_ranks_and_resuming_does_it(
    tmp_path: Path, whole: Path, hook: str, rank: int
):
    sent = signal_at(tmp_path / "mark", signal="SIGTERM", hook=hook, rank=rank)
    with command(2, *SHORT, *sent, "--out=run", cwd=tmp_path) as ranks:
        assert ranks.codes() == [143, 143], ranks.err()
        assert "stopped by SIGTERM; go on with" in ranks.out()
    assert not (tmp_path / "run/model").exists()
    with command(2, "fit", "--resume=run", cwd=tmp_path) as ranks:
        assert ranks.codes() == [0, 0], ranks.err()
    assert same_weights(tmp_path / "run", whole)
    assert (tmp_path / "run/model/config.json").is_file()


@pytest.mark.fault("X3")
@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_any_rank_after_the_final_test_stops_none(tmp_path: Path, rank: int):
    sent = signal_at(tmp_path / "mark", signal="SIGTERM", hook="after the test", rank=rank)
    with command(2, *TINY, *sent, "--out=run", cwd=tmp_path) as ranks:
        assert ranks.codes() == [0, 0], (ranks.err(0), ranks.err(1))
        assert ("SIGTERM: finishing what follows the test\n" in ranks.out()) is (rank == 0)
    assert (tmp_path / "mark").exists()
    assert (tmp_path / "run/model/config.json").is_file()


@pytest.mark.fault("R4")
@pytest.mark.parametrize("name", STOPPED)
def test_a_signal_to_the_whole_group_leaves_the_loaders_workers_to_the_step(
    tmp_path: Path, name: str
):
    with command(1, *LONG, "--data.workers=2", "--out=run", cwd=tmp_path) as ranks:
        ranks.wait_for("epoch 1 ")
        os.killpg(ranks.pid(0), getattr(signal, name))  # as a terminal sends it, and torchrun
        assert ranks.codes(SOON) == [STOPPED[name]], ranks.err()
        assert ranks.err() == ""
    assert saved_step(tmp_path / "run") >= 10


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_before_training_ends_all_and_leaves_nothing(tmp_path: Path, rank: int):
    sent = signal_at(tmp_path / "mark", signal="SIGTERM", hook="setup", rank=rank)
    with command(2, *SHORT, *sent, "--out=run", cwd=tmp_path) as ranks:
        codes = ranks.codes(SOON)
        assert codes[rank] == 143
        assert codes[1 - rank] == 1, ranks.err(1 - rank)
        assert ranks.err(1 - rank).startswith("resnet-hub: stopped, because another process")
    assert not (tmp_path / "run").exists()


@contextmanager
def without(absent: int, *flags: str, cwd: Path) -> Iterator[Ranks]:
    """Start two ranks of which one is lost at once: the first as it refuses, or killed."""
    if absent == 0:
        (cwd / "run").mkdir()
        (cwd / "run/notes").touch()
    with command(2, *SHORT, *flags, "--out=run", cwd=cwd) as ranks:
        if absent == 1:
            os.kill(ranks.pid(1), signal.SIGKILL)
        ranks.processes[absent].join(60)
        assert ranks.processes[absent].exitcode == (1 if absent == 0 else -signal.SIGKILL)
        yield ranks


@pytest.mark.parametrize(("name", "absent"), [("SIGTERM", 0), ("SIGINT", 1)])
def test_a_signal_ends_a_rank_that_waits_for_one_that_never_comes(
    tmp_path: Path, name: str, absent: int
):
    with without(absent, cwd=tmp_path) as ranks:
        if absent == 1:
            ranks.wait_for("run run")
        time.sleep(2)  # by then it waits
        os.kill(ranks.pid(1 - absent), getattr(signal, name))
        assert ranks.codes(5)[1 - absent] == STOPPED[name]
        assert ranks.err(1 - absent) == ""
        if absent == 1:
            assert ranks.out() == f"run run\nstopped by {name}; nothing was saved yet\n"
            assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("absent", [0, 1])
def test_a_rank_that_never_comes_ends_the_other_within_the_timeout(tmp_path: Path, absent: int):
    with without(absent, "--distributed.timeout=3", cwd=tmp_path) as ranks:
        assert ranks.codes(SOON)[1 - absent] == 1
        line = ranks.err(1 - absent)
        assert line.startswith("resnet-hub: stopped, because another process of this run did not")
        assert line.count("\n") == 1


@linux
@pytest.mark.slow  # the default tests have ranks that torchrun did not start
def test_where_torchruns_first_process_refuses_the_others_end_soon(tmp_path: Path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/notes").touch()
    with torchrun(*SHORT, "--out=run", cwd=tmp_path) as agent:
        while not (line := agent.stderr.readline()).startswith("resnet-hub: --out run: is there"):
            assert line
        began = time.monotonic()
        ranks = children(agent.pid)
        _, err = agent.communicate(timeout=60)
    assert time.monotonic() - began < SOON
    assert not any(map(lives, ranks))
    assert agent.returncode != 0
    assert "resnet-hub: " not in err


class Owners(Callback):
    """Keeps who has the signals as each batch begins."""

    def __init__(self) -> None:
        self.seen: list[list[object]] = []

    def on_train_batch_start(self, *arguments: object) -> None:
        self.seen.append([*map(signal.getsignal, SIGNALS)])

    on_test_batch_start = on_train_batch_start


def test_a_trainer_of_ones_own_gives_the_signals_back():
    before = [*map(signal.getsignal, SIGNALS)]
    callbacks = [StopCleanly(lambda trainer: None, print), owners := Owners()]
    options = {**QUIET, "callbacks": callbacks, "max_steps": 1, "limit_val_batches": 0}
    trainer = make_trainer(options)
    trainer.fit(Classifier(small_net()), few_digits(4, batch_size=4))
    assert [*map(signal.getsignal, SIGNALS)] == before
    trainer.test(Classifier(small_net()), few_digits(4, batch_size=4), verbose=False)
    assert [*map(signal.getsignal, SIGNALS)] == before
    assert len(owners.seen) == 2
    assert not any(set(seen) & set(before) for seen in owners.seen)
