"""Small runs of the command line for tests.

Most go on in this process, because importing Lightning costs seconds in every new one.
"""

import os
import subprocess
import sys
from csv import DictReader
from pathlib import Path

import pytest
import torch

from resnet_hub.cli.__main__ import main
from resnet_hub.learning.reporting.journal import TIMING
from resnet_hub.learning.saving.checkpoints import numbered, read_training_checkpoint

ROOT = Path(__file__).parents[1]
TINY = (
    "--trainer.max_epochs=1",
    "--trainer.limit_train_batches=2",
    "--trainer.log_every_n_steps=1",
)
"""Flags that make the quickstart recipe a matter of half a second."""


def command(*arguments: object) -> int:
    """Run ``resnet-hub`` in this process and return its exit code."""
    torch.set_num_threads(1)  # on so small images threads wait longer than they work
    return main([str(argument) for argument in arguments])


def fit(out: Path, *arguments: object) -> Path:
    """Train on two batches of digits, or as the arguments say; return the run's folder."""
    assert command("fit", "quickstart", *TINY, "--out", out, *arguments) == 0
    return out


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that has to refuse in one line and nothing else; return the line."""
    capsys.readouterr()
    code = command(*arguments)
    out, err = capsys.readouterr()
    assert code == 1, (code, out, err)
    assert err.startswith("resnet-hub: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err.removeprefix("resnet-hub: ").rstrip()


def failure(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that fails in one line, after the lines of its run; return that line."""
    capsys.readouterr()
    assert command(*arguments) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def start(*arguments: object, cwd: Path) -> "subprocess.Popen[str]":
    """Start ``resnet-hub`` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "resnet_hub.cli", *map(str, arguments)],
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def environment() -> dict[str, str]:
    """The variables of a process that imports this package and tests' modules, and sums alike."""
    places = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    return {**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": "1"}


def flip_last_bit(path: Path) -> None:
    """Change the last bit of a file."""
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def checkpoint(run: Path, kind: str = "step") -> dict:
    """Return what a run's newest checkpoint holds, or the one of its best weights."""
    return read_training_checkpoint(numbered(run / "checkpoints", kind)[0][1])


def untimed_rows(run: Path) -> list[dict[str, str]]:
    """Return the rows of a run's metrics.csv; two runs that are alike differ only in their pace."""
    with (run / "metrics.csv").open(newline="") as file:
        return [{n: cell for n, cell in row.items() if n not in TIMING} for row in DictReader(file)]
