"""Workers that are killed, or hang: one line that names the data set, in time."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing import active_children, get_context
from pathlib import Path

import pytest
from pictures import pattern, save
from small_runs import ROOT, TINY, environment, refusal
from torch import Tensor
from torch.utils.data import get_worker_info

from resnet_hub.data.arrays import ArrayDataset
from resnet_hub.data.batches import Batch, BatchSampler, Selection
from resnet_hub.data.loader import BatchLoader
from resnet_hub.data.workers import workers_named
from resnet_hub.errors import WorkerLost
from resnet_hub.nets.resnet import ResNet

pytestmark = [
    pytest.mark.fault("P5"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]

COUNT = 12


class Failing:
    """Reads its samples, until a worker comes to one of them.

    Args:
        how: What becomes of the worker there.
        at: The sample.
    """

    def __init__(self, how: str, at: int) -> None:
        self.how, self.at = how, at

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, selection: Selection) -> Batch:
        indices = selection.indices
        if self.at in indices.tolist() and selection.epoch == 1:
            fail(self.how)
        return Batch(indices.view(-1, 1), indices, indices, indices)


def fail(how: str) -> None:
    assert get_worker_info() is not None
    if how == "sleeps":
        time.sleep(600)
    os.kill(os.getpid(), getattr(signal, how))


@pytest.fixture(autouse=True)
def _nobody_is_left() -> Iterator[None]:
    yield
    ends = time.monotonic() + 10
    while active_children() and time.monotonic() < ends:
        time.sleep(0.05)
    assert not active_children()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("at", [0, COUNT - 1])
@pytest.mark.parametrize("how", ["SIGKILL", "SIGSTOP", "sleeps"])
def test_a_worker_that_is_lost_in_a_later_pass_is_named_in_time(how: str, at: int, workers: int):
    data = BatchLoader(
        Failing(how, at),  # type: ignore[arg-type]
        BatchSampler(COUNT, 4, seed=None),
        workers=workers,
        timeout=1,
        name="Pets train",
    )
    assert len(list(data)) == 3
    data.order.set_epoch(1)
    began = time.monotonic()
    match = "process that reads it was lost" if how == "SIGKILL" else r"no batch in 1 s: a process"
    with pytest.raises(WorkerLost, match=rf"^Pets train: .*{match}") as found:
        list(data)
    assert time.monotonic() - began < 5
    assert "\n" not in str(found.value)
    del data, found


def test_workers_that_are_stopped_between_passes_are_named_in_time_as_the_next_begins():
    data = BatchLoader(
        Failing("", -1),  # type: ignore[arg-type]
        BatchSampler(COUNT, 4, seed=None),
        workers=2,
        timeout=1,
        name="Pets train",
    )
    begun = iter(data)
    next(begun)
    begun.close()  # type: ignore[attr-defined]
    time.sleep(0.5)  # the other batches are on their way, their memory still the workers'
    stop_workers()
    began = time.monotonic()
    with pytest.raises(WorkerLost, match=r"^Pets train: no batch in 1 s: a process"):
        next(iter(data))
    assert time.monotonic() - began < 5


def test_what_is_left_of_a_pass_may_take_longer_than_one_batch_as_the_next_begins():
    class Slow(Failing):
        def __getitem__(self, selection: Selection) -> Batch:
            if selection.epoch == 0 and 0 not in selection.indices:
                time.sleep(2.3)
            return super().__getitem__(selection)

    data = BatchLoader(Slow("", -1), BatchSampler(COUNT, 4, seed=None), workers=1, timeout=3)
    begun = iter(data)
    next(begun)  # the worker goes on to the two others
    begun.close()  # type: ignore[attr-defined]
    data.order.set_epoch(1)
    assert len(list(data)) == 3


def test_a_process_ends_whose_idle_workers_are_stopped():
    process = get_context("fork").Process(target=leave_workers_stopped)
    process.start()
    process.join(15)
    code = process.exitcode
    process.kill()
    assert code == 0


def leave_workers_stopped() -> None:
    data = BatchLoader(Failing("", -1), BatchSampler(COUNT, 4, seed=None), workers=2)  # type: ignore[arg-type]
    assert len(list(data)) == 3
    stop_workers()
    never_let_go.append(data)


never_let_go: list[BatchLoader] = []


def stop_workers() -> None:
    for worker in active_children():
        assert worker.pid
        os.kill(worker.pid, signal.SIGSTOP)


def test_a_worker_that_is_only_slow_is_waited_for():
    class Slow(Failing):
        def __getitem__(self, selection: Selection) -> Batch:
            time.sleep(0.3)
            return super().__getitem__(selection)

    data = BatchLoader(Slow("", -1), BatchSampler(COUNT, 4, seed=None), workers=1, timeout=5)
    assert len(list(data)) == 3


def test_a_death_that_torch_tells_of_in_the_middle_of_a_step_is_named_too():
    match = r"^Pets: .*killed by signal: Killed"
    with pytest.raises(WorkerLost, match=match), workers_named("Pets", 300):
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")
    with pytest.raises(RuntimeError, match="shapes"), workers_named("Pets", 300):
        raise RuntimeError("shapes")


@pytest.mark.parametrize("how", ["SIGKILL", "SIGSTOP", "sleeps"])
def test_a_run_whose_worker_is_lost_ends_in_one_line_within_the_timeout(
    tmp_path: Path, capsys, monkeypatch, how: str
):
    read = ArrayDataset.__getitem__

    def failing(dataset: ArrayDataset, selection: Selection) -> Batch:
        if len(dataset) > 360 and selection.indices[0] == order[2]:
            fail(how)
        return read(dataset, selection)

    order = first_of_each_batch()
    monkeypatch.setattr(ArrayDataset, "__getitem__", failing)
    flags = (*TINY, "--data.workers=1", "--data.timeout=2", "--trainer.limit_train_batches=10")
    began = time.monotonic()
    message = refusal(capsys, "fit", "quickstart", *flags, "--out", tmp_path / "run")
    assert time.monotonic() - began < 15
    assert message.startswith("Digits")
    if how == "SIGKILL":
        assert "a process that reads it was lost" in message
    else:
        assert message == (
            "Digits train: no batch in 2 s: a process that reads it hangs, or the disk does; "
            "raise data.timeout if reading takes so long"
        )


def test_a_worker_that_dies_while_a_step_is_computed_is_named(tmp_path: Path, capsys, monkeypatch):
    forward = ResNet.forward

    def deadly(net: ResNet, *inputs: Tensor) -> Tensor:
        for worker in active_children():
            worker.kill()
        for _ in range(100):
            time.sleep(0.01)
        return forward(net, *inputs)

    monkeypatch.setattr(ResNet, "forward", deadly)
    flags = (*TINY, "--data.workers=2", "--out", tmp_path / "run")
    message = refusal(capsys, "fit", "quickstart", *flags)
    assert message.startswith("Digits: a process that reads it was lost (DataLoader worker (pid ")
    assert "is killed by signal: Killed" in message


def first_of_each_batch() -> list[int]:
    from resnet_hub.data.digits import Digits
    from resnet_hub.data.settings import DataSettings

    data = Digits(DataSettings(name="Digits", batch_size=32), seed=1).open()
    return [int(batch.indices[0]) for batch in data.train_dataloader()]


@pytest.mark.parametrize("value", ["0", "-1", "inf"])
def test_a_timeout_that_is_none_is_refused(tmp_path: Path, capsys, value: str):
    flags = (*TINY, f"--data.timeout={value}", "--out", tmp_path / "run")
    assert "data.timeout" in refusal(capsys, "fit", "quickstart", *flags)


@pytest.mark.parametrize(
    ("method", "name"),
    [("fork", "Folder"), ("forkserver", "Folder"), ("spawn", "Folder"), ("spawn", "Digits")],
)
def test_however_a_worker_is_started_it_imports_no_lightning(
    tmp_path: Path, method: str, name: str
):
    for split in ("train", "val"):
        for label in ("ant", "bee"):
            for number in range(2):
                save(tmp_path / split / label / f"{number}.jpg", pattern(seed=number))
    script = ROOT / "tests" / "worker_modules.py"
    done = subprocess.run(
        [sys.executable, script, method, name, tmp_path],
        env=environment(), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    names = {line.partition(".")[0] for line in done.stdout.split()}
    assert {"torch", "torchvision", "resnet_hub"} <= names
    heavy = {"lightning", "pytorch_lightning", "torchmetrics", "matplotlib", "sklearn", "scipy"}
    assert not names & heavy
