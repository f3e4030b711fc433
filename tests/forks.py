"""Commands in processes of their own, forked from one that has imported everything already.

Importing Lightning costs seconds in a new process, and a tenth of one here.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from small_runs import environment

_SERVER = """
import json, os, sys
import torch
import resnet_hub.cli.console, resnet_hub.evaluation.scoring, resnet_hub.learning.fit
import resnet_hub.data.digits
import lightning.pytorch.callbacks
from resnet_hub.cli.__main__ import main

torch.set_num_threads(1)
print("ready", flush=True)
for line in sys.stdin:
    order = json.loads(line)
    if not (child := os.fork()):
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        for descriptor in (1, 2):
            os.dup2(log, descriptor)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        try:
            code = main(order["arguments"])
            sys.stdout.flush()
        finally:
            os._exit(code)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Forks:
    """Runs ``resnet-hub`` in forked processes, one at a time."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-c", _SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
            text=True,
        )
        assert self._server.stdout.readline() == "ready\n"

    def start(self, *arguments: object, log: Path) -> int:
        """Start a command, its output appended to a file; return its process's number."""
        order = {"arguments": [*map(str, arguments)], "log": str(log)}
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())

    def finish(self) -> int:
        """Wait for the command; return its exit code, below 0 for a signal."""
        return int(self._server.stdout.readline())

    def run(self, *arguments: object, log: Path) -> int:
        """Run a command; return its exit code, below 0 for a signal."""
        self.start(*arguments, log=log)
        return self.finish()

    def kill(self, process: int, number: int) -> int:
        """Send a command's process a signal; return its exit code."""
        os.kill(process, number)
        return self.finish()

    def close(self) -> None:
        """End the server."""
        self._server.stdin.close()
        self._server.wait(30)
        self._server.stdout.close()
