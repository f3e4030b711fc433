"""Everything that needs a GPU, in one go: us and our peers on one card, in one table.

    python benchmarks/gpu.py [--cifar10 FOLDER] [--json FILE] [--parts NAME ...] [--quick]

Each part runs in a process of its own with a time limit of its own; one that fails or takes too
long is named, and the others go on. Within a part candidates take turns in one process, as a GPU
times by its own events, which other work on the host does not disturb. The fast recipes need the
real CIFAR-10 (``--cifar10``, the folder that holds ``cifar-10-batches-py``) and are left out
without it. All of it ends within ``--budget`` seconds, 8 minutes: what does not fit is left out,
and said. ``--quick`` makes everything tiny, ``--device cpu`` runs it without a GPU: together they
show that it works, and their figures mean nothing.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from turns import Row, show

HERE = Path(__file__).resolve().parent
PARTS = {
    # name: seconds that it may take, in the order of what is left out first if time runs out, last
    "train": 100.0,
    "infer": 110.0,
    "cifar": 80.0,
    "files": 40.0,
    "cifar10_fast94": 90.0,
    "cifar10_fast": 100.0,
    "cifar10_fast96": 150.0,
    "cifar_graphs": 150.0,
    "train_compiled": 120.0,
    "infer_autotuned": 240.0,
}
FAST = ("cifar10_fast94", "cifar10_fast", "cifar10_fast96")
LEAST = 15.0  # seconds: below it no part is begun


@dataclass
class Outcome:
    """What came of a part.

    Attributes:
        name: The part.
        seconds: That it took, its process's start included.
        rows: Of the table.
        figures: That rows over several parts need.
        said: What it has to say beside.
        failed: Why it failed, or was left out; ``None``: it did not.
    """

    name: str
    seconds: float = 0.0
    rows: Sequence[Row] = ()
    figures: dict[str, float] | None = None
    said: Sequence[str] = ()
    failed: str | None = None


def measured(part: str, *, device: str, quick: bool, cifar10: str | None) -> dict[str, Any]:
    """Run one part in this process and return its rows, figures and remarks as plain types."""
    import torch
    from gpu_parts import cifar, files, imagenet
    from gpu_parts.timing import QUICK, Scale

    place, scale = torch.device(device), QUICK if quick else Scale()
    torch.backends.cudnn.benchmark = True  # for all alike: shapes do not change
    functions = {
        "train": imagenet.train,
        "train_compiled": imagenet.train_compiled,
        "infer": imagenet.infer,
        "infer_autotuned": imagenet.infer_autotuned,
        "cifar": cifar.epochs,
        "cifar_graphs": cifar.graphs,
        "files": files.read,
    }
    find = functions.get(part)
    found = cifar.fast(part, str(cifar10)) if find is None else find(scale, place)
    return {
        "rows": [asdict(row) for row in found.rows],
        "figures": found.figures,
        "said": found.said,
        "n": 1 if part in FAST else scale.turns,
    }


def run(command: Sequence[str], name: str, limit: float) -> Outcome:
    """Run a part's command, whose last line is what :func:`measured` returns, as JSON.

    Args:
        command: The command.
        name: The part's.
        limit: Seconds after which it is ended, with all that it started.
    """
    begun = time.monotonic()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, error = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        return Outcome(name, time.monotonic() - begun, failed=f"not done in {limit:.0f} s")
    finally:
        if process.poll() is None:  # too long, or Ctrl-C, which a session of its own does not hear
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    seconds = time.monotonic() - begun
    if process.returncode:
        lines = [line for line in error.splitlines() if line.strip()]
        reason = lines[-1] if lines else f"exit code {process.returncode}"
        return Outcome(name, seconds, failed=reason)
    told = json.loads(out.splitlines()[-1])
    rows = [Row(**{**row, "note": _counted(row["note"], told["n"])}) for row in told["rows"]]
    return Outcome(name, seconds, rows, told["figures"], told["said"])


def together(outcomes: Sequence[Outcome]) -> list[Row]:
    """Return the rows that several parts' figures make."""
    figures = {k: v for outcome in outcomes for k, v in (outcome.figures or {}).items()}
    if not {"read", "train"} <= figures.keys():
        return []
    ratio = figures["read"] / figures["train"]
    note = "images a second read from files, over those trained on"
    return [Row("image files: the loader over the training step", ratio, 1.0, note=note)]


def about(device: str) -> dict[str, Any]:
    """Return what figures hang on: the card, its driver, torch, the commit."""
    import torch

    gpu = torch.cuda.get_device_name() if device == "cuda" else device
    return {
        "gpu": gpu,
        "driver": _said("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cores": os.cpu_count(),
        "commit": _said("git", "-C", str(HERE), "describe", "--always", "--abbrev=40", "--dirty"),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts, print the table and return the exit code: 1 if a part failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cifar10", metavar="FOLDER", help="holds cifar-10-batches-py")
    parser.add_argument("--json", metavar="FILE", help="write everything there, too")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=[*PARTS], metavar="NAME")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny, to see that it works")
    parser.add_argument("--budget", type=float, default=480.0, help="seconds of all parts (480)")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    how = {"device": chosen.device, "quick": chosen.quick, "cifar10": chosen.cifar10}
    if chosen.part:
        print(json.dumps(measured(chosen.part, **how)))
        return 0
    if chosen.device == "cuda" and not _has_gpu():
        parser.error("there is no CUDA device; --device cpu --quick shows that all of it works")
    own = [sys.executable, str(Path(__file__).resolve()), "--device", chosen.device]
    own += [*(["--quick"] if chosen.quick else [])]
    own += [*(["--cifar10", chosen.cifar10] if chosen.cifar10 else [])]
    outcomes, ends = [], time.monotonic() + chosen.budget
    for name in chosen.parts:
        left = ends - time.monotonic()
        if name in FAST and not chosen.cifar10:
            outcome = Outcome(name, said=["left out: needs the real CIFAR-10, --cifar10 FOLDER"])
        elif left < LEAST:
            said = f"left out: the {chosen.budget:.0f} s of --budget are over"
            outcome = Outcome(name, said=[said])
        else:
            outcome = run([*own, "--part", name], name, min(PARTS[name], left))
        outcomes.append(outcome)
        _tell(outcome)
    facts = about(chosen.device)
    table = [*(row for outcome in outcomes for row in outcome.rows), *together(outcomes)]
    print("\n" + ", ".join(f"{key} {value}" for key, value in facts.items()) + "\n")
    if chosen.quick:
        print("tiny, to see that it works: the figures mean nothing, nor do goals\n")
    if table:
        show(table)
    if chosen.json:
        content = {**facts, "parts": [asdict(outcome) for outcome in outcomes]}
        content["rows"] = [{**asdict(row), "reached": row.reached} for row in table]
        Path(chosen.json).write_text(json.dumps(content, indent=1) + "\n")
    return 1 if any(outcome.failed for outcome in outcomes) else 0


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _tell(outcome: Outcome) -> None:
    state = f"FAILED, {outcome.failed}" if outcome.failed else f"{len(outcome.rows)} rows"
    print(f"{outcome.name}: {state} ({outcome.seconds:.0f} s)", flush=True)
    for line in outcome.said:
        print(f"  {line}", flush=True)


def _counted(note: str, n: int) -> str:
    """Return a row's note with its number of turns; one that counts something itself as it is."""
    return note if "n = " in note else "; ".join(filter(None, (note, f"n = {n}")))


def _said(*command: str) -> str | None:
    """Return what a program prints, one line; ``None`` where it cannot be run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip().partition("\n")[0]


if __name__ == "__main__":
    sys.exit(main())
