"""Processes that are the ranks of one run, for tests: forked from a server that imported Lightning.

Such a process starts in a tenth of a second, where a new one takes seconds.
"""

import os
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from multiprocessing import get_all_start_methods, get_context, set_start_method
from pathlib import Path
from typing import Any

from resnet_hub.cli.__main__ import main

_SERVER = get_context("forkserver")
_SERVER.set_forkserver_preload(["ranks", "resnet_hub.learning.fit", "resnet_hub.cli.fit"])


class Ranks:
    """The processes of one run, as torchrun or SLURM would have started them.

    Args:
        count: How many.
        function: What each of them runs; of a module that they can import.
        arguments: Its arguments, behind the rank's number.
        cwd: Where they run and leave ``rank<n>.out`` and ``.err``.
        by: ``torchrun`` or ``slurm``.
        variables: Further environment variables.
    """

    def __init__(
        self,
        count: int,
        function: Callable[..., Any],
        *arguments: Any,
        cwd: Path,
        by: str = "torchrun",
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.cwd = cwd
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.processes = []
        self._results = []
        for rank in range(count):
            receiver, sender = _SERVER.Pipe(duplex=False)
            own = {**_VARIABLES[by](rank, count, port), **(variables or {})}
            given = (function, arguments, sender, rank, own if count > 1 else {}, str(cwd))
            process = _SERVER.Process(target=_run, args=given)
            process.start()
            sender.close()
            self.processes.append(process)
            self._results.append(receiver)

    def pid(self, rank: int) -> int:
        return self.processes[rank].pid

    def out(self, rank: int = 0) -> str:
        path = self.cwd / f"rank{rank}.out"
        return path.read_text() if path.exists() else ""

    def err(self, rank: int = 0) -> str:
        path = self.cwd / f"rank{rank}.err"
        return path.read_text() if path.exists() else ""

    def wait_for(self, text: str, rank: int = 0, timeout: float = 60) -> None:
        """Wait until a rank has printed something."""
        deadline = time.monotonic() + timeout
        while text not in self.out(rank):
            assert self.processes[rank].is_alive(), self.err(rank)
            assert time.monotonic() < deadline, (self.out(rank), self.err(rank))
            time.sleep(0.02)

    def codes(self, timeout: float = 60) -> list[int | None]:
        """Wait for all to end; return the exit codes, ``None`` of a rank that did not end."""
        deadline = time.monotonic() + timeout
        for process in self.processes:
            process.join(max(0, deadline - time.monotonic()))
        return [process.exitcode for process in self.processes]

    def results(self, timeout: float = 60) -> list[Any]:
        """Return what the function returned on each rank."""
        found = []
        for rank, receiver in enumerate(self._results):
            assert receiver.poll(timeout), (rank, self.err(rank))
            try:
                found.append(receiver.recv())
            except EOFError:
                raise AssertionError(f"rank {rank}: {self.err(rank)}") from None
        return found

    def __enter__(self) -> "Ranks":
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.processes:
            process.kill()  # of no effect on one that has ended, unlike os.kill
            process.join()
            process.close()


def command(count: int, *arguments: object, cwd: Path, **how: Any) -> Ranks:
    """Run ``resnet-hub`` on some ranks."""
    return Ranks(count, _command, *map(str, arguments), cwd=cwd, **how)


def _torchrun(rank: int, count: int, port: int) -> dict[str, str]:
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "test",
    }


def _slurm(rank: int, count: int, port: int) -> dict[str, str]:
    return {
        "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NAME": "train",
        "SLURM_LOCALID": str(rank),
        "SLURM_NNODES": "1",
        "SLURM_NODEID": "0",
        "SLURM_NODELIST": "127.0.0.1",
        "SLURM_NTASKS": str(count),
        "SLURM_NTASKS_PER_NODE": str(count),
        "SLURM_PROCID": str(rank),
        "SLURM_STEP_ID": "0",
        "MASTER_PORT": str(port),
    }


_VARIABLES = {"torchrun": _torchrun, "slurm": _slurm}


def _command(rank: int, *arguments: str) -> None:
    sys.exit(main(list(arguments)))


def _run(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    sender: Any,
    rank: int,
    variables: Mapping[str, str],
    cwd: str,
) -> None:
    os.chdir(cwd)
    os.setpgrp()  # as torchrun's
    for stream, name in ((sys.stdout, "out"), (sys.stderr, "err")):
        file = os.open(f"rank{rank}.{name}", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(file, stream.fileno())
    sys.stdout.reconfigure(line_buffering=True)
    os.environ.update(variables)
    # Loaders' workers come as in a process that nothing forked, not from one more server.
    set_start_method(get_all_start_methods()[0], force=True)
    _set_rank(rank)
    try:
        sender.send(function(rank, *arguments))
    except Exception:
        traceback.print_exc()
        sys.exit(1)


def _set_rank(rank: int) -> None:
    """Tell Lightning, which looked for the rank when it was imported."""
    import torch
    from lightning.fabric.utilities import rank_zero_only

    torch.set_num_threads(1)
    rank_zero_only.rank = rank
