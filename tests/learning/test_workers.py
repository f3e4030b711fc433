"""Loader workers that somebody stopped do not hold a run that ends."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from small_runs import checkpoint, start

LONG = ("fit", "quickstart", "--trainer.max_epochs=99", "--trainer.limit_train_batches=10")


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
@pytest.mark.fault("R3")
def test_idle_workers_that_are_stopped_do_not_delay_the_end_after_a_signal(tmp_path: Path):
    mark = tmp_path / "mark"
    sent = {"mark": str(mark), "signal": "SIGTERM", "batch": 12, "hang": 2}
    entry = {"class_path": "interruption.SignalAt", "init_args": sent}
    flags = ("--data.workers=2", "--callbacks", json.dumps([entry]))
    with start(*LONG, *flags, "--out=run", cwd=tmp_path) as process:
        while not mark.exists():  # then a step hangs, behind a whole validation
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.02)
        workers = children(process.pid)
        for worker in workers:
            os.kill(worker, signal.SIGSTOP)
        began = time.monotonic()
        out, err = process.communicate(timeout=90)
        took = time.monotonic() - began
    assert len(workers) == 4  # two train, two validate
    assert process.returncode == 143, err
    assert "stopped by SIGTERM; go on with: resnet-hub fit --resume run" in out
    assert err == ""
    assert took < 20  # torch's own end of one that is stopped
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    assert checkpoint(tmp_path / "run")["global_step"] == 13


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
@pytest.mark.fault("R3")
def test_stopped_workers_that_a_step_waits_for_are_woken_by_the_signal(tmp_path: Path):
    with start(*LONG, "--data.workers=2", "--out=run", cwd=tmp_path) as process:
        while not process.stdout.readline().startswith("epoch 1 "):
            assert process.poll() is None, process.stderr.read()
        for worker in children(process.pid):
            os.kill(worker, signal.SIGSTOP)
        time.sleep(2)  # by then what they had read ahead is trained on
        process.terminate()
        out, err = process.communicate(timeout=20)
    assert process.returncode == 143, err
    assert "stopped by SIGTERM; go on with: resnet-hub fit --resume run" in out
    assert checkpoint(tmp_path / "run")["global_step"] >= 10
