"""What plain Lightning does in the rows of docs/faults.md: our tests of these rows fail on it.

Nothing of this package takes part in these trainings. Where one of them fails with a later
Lightning, the row's cell "elsewhere" is to be corrected. R1, P3 and X5 are held against it
beside their own tests.
"""

import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import pytest
import torch
from disks import small_disk
from plain_lightning import BATCH, SAMPLES, Hanging, Plain, samples, train, trained
from ranks import Ranks
from torch.utils.data import DataLoader

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before"),
]

LONG = {"module": Plain(pause=0.05), "data": samples(1000 * BATCH)}
MEBIBYTE = 1 << 20
SOON = 20  # seconds in which ours have saved and ended


def processes(cwd: Path, folder: Path, count: int = 1, **options: Any) -> Ranks:
    """Train in processes of their own, their output and temporary files in a new folder."""
    cwd.mkdir()
    return Ranks(count, train, folder, options, cwd=cwd)


# Resuming


@pytest.mark.fault("R2")
def test_an_epoch_gone_on_with_counts_the_samples_after_the_kill_alone(tmp_path: Path):
    assert trained(tmp_path / "whole").callback_metrics["samples"] == SAMPLES
    trained(tmp_path, every=1, max_steps=2)
    gone_on = trained(tmp_path, every=1, ckpt_path=tmp_path / "last.ckpt")
    assert gone_on.callback_metrics["samples"] == SAMPLES - 2 * BATCH


@pytest.mark.parametrize(
    ("name", "code"),
    [
        pytest.param("SIGTERM", 0, marks=pytest.mark.fault("R3")),
        pytest.param("SIGINT", 1, marks=pytest.mark.fault("R4")),
    ],
)
def test_a_signal_saves_nothing_and_has_no_code_of_its_own(tmp_path: Path, name: str, code: int):
    run = tmp_path / "run"
    with processes(tmp_path / "log", run, **LONG) as ranks:
        ranks.wait_for("step 3")
        os.kill(ranks.pid(0), getattr(signal, name))
        assert ranks.codes(SOON) == [code]
        assert "SIGTERM: 15" in ranks.err() or "KeyboardInterrupt" in ranks.err()
    assert list(run.glob("*")) == []


@pytest.mark.fault("R5")
def test_the_last_checkpoint_is_the_one_of_the_latest_clock(tmp_path: Path):
    trained(tmp_path, every=1, max_steps=2)
    trained(tmp_path, every=1, max_steps=4)  # saves as last-v1.ckpt
    later = time.time() + 60
    os.utime(tmp_path / "last.ckpt", (later, later))
    assert trained(tmp_path, every=1, ckpt_path="last").lightning_module.first_step == 2


@pytest.mark.fault("R6")
def test_going_on_from_nothing_trains_from_scratch(tmp_path: Path):
    with pytest.warns(UserWarning, match="No checkpoint will be loaded"):
        trainer = trained(tmp_path, ckpt_path="last")
    assert (trainer.lightning_module.first_step, trainer.global_step) == (0, SAMPLES // BATCH)


@pytest.mark.fault("R7")
def test_another_batch_size_and_other_data_are_gone_on_with(tmp_path: Path):
    trained(tmp_path)
    other = {"data": samples(4 * SAMPLES), "loader": {"batch_size": 2 * BATCH}}
    trainer = trained(tmp_path, ckpt_path="last", max_epochs=2, **other)  # a warning would raise
    assert trainer.global_step == SAMPLES // BATCH + 4 * SAMPLES // (2 * BATCH)


@pytest.mark.fault("R8")
def test_two_trainings_of_one_run_leave_the_files_of_both(tmp_path: Path):
    run = tmp_path / "run"
    with processes(tmp_path / "one", run, every=1, **LONG) as one:
        one.wait_for("step 2")
        with processes(tmp_path / "two", run, every=1) as two:
            assert two.codes() == [0]
        assert one.processes[0].is_alive()
    assert sorted(path.name for path in run.iterdir()) == ["last-v1.ckpt", "last.ckpt"]


# Writing


@pytest.mark.fault("W1")
def test_a_disk_that_fills_costs_the_last_checkpoint(tmp_path: Path):
    disk = tmp_path / "disk"  # and temporary files are on another
    with small_disk(disk, "2560k"):
        trained(disk, Plain(growth=MEBIBYTE), every=1, max_steps=2)
        assert torch.load(disk / "last.ckpt")["global_step"] == 2
        with pytest.raises(OSError, match="No space left on device"):
            trained(disk, Plain(growth=MEBIBYTE), every=1, ckpt_path="last")
        assert_torn(disk / "last.ckpt")


@pytest.mark.fault("W2")
def test_a_kill_while_saving_tears_the_last_checkpoint(tmp_path: Path):
    disk, seen = tmp_path / "disk", 0
    last = disk / "run/last.ckpt"
    module = Plain(pause=0.2, growth=32 * MEBIBYTE)
    with small_disk(disk, "300m"):
        with processes(tmp_path / "log", disk / "run", module=module, every=1) as ranks:
            ranks.wait_for("step 1")  # that of the first is there
            while (size := last.stat().st_size) >= seen:
                assert ranks.processes[0].is_alive()
                seen = size
            os.kill(ranks.pid(0), signal.SIGKILL)
            assert ranks.codes() == [-signal.SIGKILL]
        assert_torn(last)
        (rest,) = (tmp_path / "log").glob("tmp*")
        rest.unlink()  # it is large


def assert_torn(checkpoint: Path) -> None:
    """Assert that a checkpoint is there, alone, and has no end."""
    assert list(checkpoint.parent.iterdir()) == [checkpoint]
    assert not is_zipfile(checkpoint)


@pytest.mark.fault("W3")
def test_a_save_flushes_nothing_to_the_disk(tmp_path: Path, monkeypatch):
    flushed = []
    for name in ("fsync", "fdatasync", "sync"):
        monkeypatch.setattr(os, name, lambda *arguments: flushed.append(arguments))
    trained(tmp_path)
    assert (tmp_path / "last.ckpt").stat().st_size
    assert flushed == []


@pytest.mark.fault("W7")
def test_a_doubled_colon_puts_every_checkpoint_into_one_stray_file(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trained(tmp_path / "a::b/run", every=1)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "a::b", "run"]
    assert torch.load("a")["global_step"] == SAMPLES // BATCH


# Data and loaders


@pytest.mark.fault("D9")
def test_labels_of_minus_100_make_the_loss_nan(tmp_path: Path):
    data = samples()
    data.tensors[1][:BATCH] = -100
    trainer = trained(tmp_path, data=data)  # a warning would raise
    assert trainer.callback_metrics["loss_epoch"].isnan()


@pytest.mark.fault("P5")
def test_a_worker_that_hangs_is_waited_for(tmp_path: Path):
    assert DataLoader(samples()).timeout == 0
    how = {"data": Hanging(), "loader": {"num_workers": 1, "multiprocessing_context": "fork"}}
    with processes(tmp_path / "log", tmp_path / "run", **how) as ranks:
        ranks.wait_for("reading")
        assert ranks.codes(5) == [None]
        os.killpg(ranks.pid(0), signal.SIGKILL)  # the worker too


# Processes

CASES = [
    pytest.param("SIGTERM", 0, marks=pytest.mark.fault("X3")),
    pytest.param("SIGTERM", 1, marks=pytest.mark.fault("X3")),
    pytest.param("SIGSTOP", 1, marks=pytest.mark.fault("X2")),
]


@pytest.fixture(scope="module")
def codes(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], list[int | None]]:
    """The exit codes of pairs of ranks, of which one was sent a signal; ``None`` of those alive."""
    home, how = tmp_path_factory.mktemp("ranks"), {"devices": 2, "strategy": "ddp", **LONG}
    with ExitStack() as stack:
        runs = {}
        for name, rank in (case.values for case in CASES):
            runs[name, rank] = ranks = processes(home / f"{name}-{rank}", home / "run", 2, **how)
            stack.enter_context(ranks)
            for each in range(2):
                ranks.wait_for("step 3", each)
            os.kill(ranks.pid(rank), getattr(signal, name))
        time.sleep(SOON)
        return {case: ranks.codes(0) for case, ranks in runs.items()}


@pytest.mark.parametrize(("name", "rank"), CASES)
def test_ranks_of_which_one_is_stopped_wait_for_it(codes, name: str, rank: int):
    assert codes[name, rank] == [None, None]
