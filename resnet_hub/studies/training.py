"""Trains a study's runs one after another, each in a process of its own."""

import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from resnet_hub.studies.plan import PlannedRun

_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)
]
"""What stops a run so that it can go on; its own process knows how."""


def train(runs: Sequence[PlannedRun], say: Callable[[str], None], *, output: int | None) -> int:
    """Train what is not finished yet, and return the exit code.

    A run that is stopped by a signal ends the study. So does one that fails before its first
    checkpoint: the next would fail likewise. One that fails later, by diverging perhaps, is an
    answer of its own; the others are still trained.

    Args:
        runs: In their order; the folder of each holds no other run.
        say: Takes a line on each.
        output: Where the runs' lines go: a file descriptor, or ``None`` for this process's own.

    Returns:
        0, or the first code of a run that is none, 128 and a signal's number where that ended it.
    """
    first = 0
    for number, run in enumerate(runs, 1):
        state = run.state()
        say(f"{number} of {len(runs)}  {run.name}  {_WORDS[state]}")
        if state == "finished":
            continue
        code = _run(run.next_command(), output)
        first = first or code
        if code >= 128 or (code and run.state() == "missing"):
            return code
    return first


_WORDS = {"finished": "is finished", "stopped": "goes on", "missing": "begins"}


def _run(command: Sequence[str], output: int | None) -> int:
    """Run one command and pass the signals on that stop it."""
    child: subprocess.Popen[bytes] | None = None
    told: list[int] = []

    def pass_on(signum: int, frame: Any) -> None:
        told.append(signum)
        if child is not None:
            child.send_signal(signum)

    before = {number: signal.signal(number, pass_on) for number in _SIGNALS}
    try:
        # Of a session of its own: a terminal's Ctrl-C would reach it twice, and kill it at once.
        child = subprocess.Popen(  # noqa: S603 - this package's own command line
            [sys.executable, "-m", "resnet_hub.cli", *command],
            stdout=output,
            start_new_session=True,
        )
        for early in tuple(told):
            child.send_signal(early)
        code = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if told and not code:  # it came when nothing was left to be stopped
        return 128 + told[0]
    return code if code >= 0 else 128 - code
