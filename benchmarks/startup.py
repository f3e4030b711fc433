"""How long commands that need no torch take, and what importing the package costs over torch.

CPU time of fresh interpreters, their files compiled and cached; each fails here if it imported what
it should not.
"""

import os
import resource
import subprocess
import sys

import turns
from turns import Candidate, Figures, Row

COMMANDS = {"help": "--help", "list": "list", "info": "info resnet50"}
_SHORT, _LONG = 7, 2  # runs a turn, of what takes a tenth of a second and of what takes some
_HEAVY = ("torch", "torchvision", "lightning", "torchmetrics")


def runs(code: str, *, without: tuple[str, ...], repeats: int) -> Figures:
    """Return the CPU seconds of an interpreter that runs some code.

    Args:
        code: What it runs.
        without: Modules that must not be imported by it.
        repeats: How many interpreters are started, after one that fills the caches.
    """
    check = (
        f"import sys; found = sorted({set(without)!r} & set(sys.modules)); assert not found, found"
    )
    command = [sys.executable, "-c", f"{code}\n{check}"]
    taken = []
    for _ in range(repeats + 1):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True, env=os.environ)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return {"seconds": sorted(taken[1:])[repeats // 2]}


def command(arguments: str) -> Candidate:
    """Return what runs a command."""
    code = f"from resnet_hub.cli.__main__ import main; main({arguments.split()!r})"
    return lambda: runs(code, without=_HEAVY, repeats=_SHORT)


def package() -> Figures:
    """Import the package."""
    return runs("import resnet_hub", without=_HEAVY, repeats=_SHORT)


def net() -> Figures:
    """Import the net's class."""
    return runs("from resnet_hub import ResNet", without=_HEAVY[1:], repeats=_LONG)


def torch() -> Figures:
    """Import torch."""
    return runs("import torch", without=(), repeats=_LONG)


def rows(found: dict[str, Figures]) -> list[Row]:
    """Return each command's milliseconds, and our import as a multiple of torch's."""
    taken = {name: figures["seconds"] for name, figures in found.items()}
    table = [
        Row(f"resnet-hub {arguments}, without torch", 1000 * taken[name], 150, "lower", unit="ms")
        for name, arguments in COMMANDS.items()
    ]
    ratio, note = (
        taken["ResNet"] / taken["torch"],
        f"{taken['ResNet']:.2f} over {taken['torch']:.2f} s",
    )
    return [
        *table,
        Row("import resnet_hub, without torch", 1000 * taken["package"], None, "lower", unit="ms"),
        Row("from resnet_hub import ResNet, over import torch", ratio, 1.05, "lower", note),
    ]


CANDIDATES = {
    **{name: command(arguments) for name, arguments in COMMANDS.items()},
    "package": package,
    "ResNet": net,
    "torch": torch,
}

if __name__ == "__main__":
    turns.main(__file__, CANDIDATES, rows)
