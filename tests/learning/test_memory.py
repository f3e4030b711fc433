"""Memory that there is not: one line with the batch, the resolution and what to try."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_runs import TINY, command, fit, refusal, start

from resnet_hub.data.digits import Digits
from resnet_hub.errors import OutOfMemory
from resnet_hub.learning import fit as fit_module
from resnet_hub.learning.memory import memory_named
from resnet_hub.nets.resnet import ResNet

pytestmark = pytest.mark.fault("P4")

TRY = (
    "try a smaller data.batch_size with as much more trainer.accumulate_grad_batches, "
    "net.checkpoint_blocks=1, or trainer.precision=bf16-mixed"
)


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is read from /proc")
def test_a_batch_that_does_not_fit_is_one_line_of_a_real_process(tmp_path: Path):
    entry = {"class_path": "memory_limit.MemoryLimit", "init_args": {"more": 50_000_000}}
    flags = ("--data.batch_size=1000", "--data.held_out=0", "--callbacks", json.dumps([entry]))
    with start("fit", "quickstart", *flags, "--out", "run", cwd=tmp_path) as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err == (
        f"resnet-hub: out of memory on the CPU, with batches of 1,000 images of 8×8 pixels; {TRY}\n"
    )


def greedy(net: ResNet, images: torch.Tensor, *_: object) -> torch.Tensor:
    return torch.empty(1 << 50)


def test_a_net_that_asks_for_a_petabyte_is_one_line_in_training_and_in_testing(
    tmp_path: Path, capsys, monkeypatch
):
    run = fit(tmp_path / "run")
    monkeypatch.setattr(ResNet, "forward", greedy)
    flags = (
        *TINY,
        "--data.batch_size=17",
        "--data.sizes=[[0, 8], [1, 12]]",
        "--out",
        tmp_path / "other",
    )
    assert refusal(capsys, "fit", "quickstart", *flags) == (
        f"out of memory on the CPU, with batches of 17 images of 12×12 pixels; {TRY}"
    )
    flags = ("--data=Digits", "--data.batch_size=17", "--no-record")
    assert refusal(capsys, "test", run / "model", *flags) == (
        "out of memory on the CPU, with batches of 17 images of 8×8 pixels; try a smaller "
        "data.batch_size, or trainer.precision=bf16-mixed"
    )


def test_a_run_that_ran_out_of_memory_goes_on_from_its_last_checkpoint(
    tmp_path: Path, capsys, monkeypatch
):
    run, calls, forward = tmp_path / "run", [], ResNet.forward

    def in_the_end_greedy(net: ResNet, *inputs: torch.Tensor) -> torch.Tensor:
        calls.append(net.training)
        return greedy(net, *inputs[:1]) if calls.count(True) == 6 else forward(net, *inputs)

    monkeypatch.setattr(ResNet, "forward", in_the_end_greedy)
    flags = ("--trainer.max_epochs=2", "--trainer.limit_train_batches=4", "--out", run)
    assert "out of memory" in refusal(capsys, "fit", "quickstart", *flags)
    assert command("fit", "--resume", run) == 0
    assert calls.count(True) == 6 + 4


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail] . DefaultCPUAllocator: not enough memory: you tried"),
        MemoryError(),
    ],
)
def test_every_way_to_say_it_is_understood(error: Exception):
    with pytest.raises(OutOfMemory, match=r"128 images of 8×8"), memory_named(Digits(), train=True):
        raise error


def test_other_errors_are_left_as_they_are():
    with pytest.raises(RuntimeError, match="shapes"), memory_named(Digits(), train=True):
        raise RuntimeError("shapes")


def test_a_run_that_recomputes_activations_on_a_cpu_gives_freed_memory_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: list[str] = []
    monkeypatch.setattr(fit_module, "release_at_once", lambda: asked.append("once"))
    fit(tmp_path / "kept")
    assert asked == []
    fit(tmp_path / "computed again", "--net.checkpoint_blocks=2")
    assert asked == ["once"]


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_freed_blocks_of_megabytes_leave_the_process():
    code = """
import torch
from resnet_hub.learning.memory import release_at_once

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

{call}
before = resident()
blocks = [torch.ones(1 << 20) for _ in range(2)]  # 4 MB: glibc learns that they come and go
del blocks
blocks = [torch.ones(1 << 20) for _ in range(100)]
last = torch.ones(1 << 18)  # above them, so that the heap does not shrink
del blocks
print(resident() - before)
"""
    left = {}
    for call in ("", "release_at_once()"):
        process = [sys.executable, "-c", code.format(call=call)]
        done = subprocess.run(process, capture_output=True, text=True, check=True)
        left[call] = int(done.stdout)
    assert left["release_at_once()"] < 50e6 < left[""]


@pytest.mark.gpu
def test_a_gpu_that_is_full_is_named():
    match = r"^out of memory on the GPU, "
    with pytest.raises(OutOfMemory, match=match), memory_named(Digits(), train=True):
        torch.empty(1 << 50, device="cuda")
