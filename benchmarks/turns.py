"""Candidates that take turns, each in a process of its own, and the table of what comes of it.

A benchmark is a script that names its candidates and hands them to :func:`main`:

    CANDIDATES = {"resnet_hub": ours, "torchvision": theirs}  # functions that return figures

    def rows(found): ...  # of their medians, the table's rows

    if __name__ == "__main__":
        turns.main(__file__, CANDIDATES, rows)

Called plainly it starts itself once a candidate and turn, A B A B, so that what else the machine
does falls on all of them; ``--candidate NAME`` is such a turn. ``--turns N`` and ``--json`` are for
people and for ``make bench``. What all turns need is made once, by ``prepare``, in a folder that is
removed at the end.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Literal

Figures = dict[str, float]
"""What one turn of a candidate measured, by name; seconds, bytes, deviations."""

_PREPARE, _FOLDER = "prepare", "RESNET_HUB_BENCHMARK_FOLDER"

Candidate = Callable[[], Figures]


@dataclass(frozen=True)
class Row:
    """A line of the table: one ratio, and what it should be.

    Attributes:
        what: What is compared, and with whom.
        ratio: The figure; a ratio wherever that is what the goal speaks of.
        goal: What it has to reach, or must not pass; ``None`` where it is only told.
        better: Whether ``higher`` or ``lower`` is better.
        note: Beside it, such as the figures that the ratio is of.
        unit: After the figure: ``×`` of a ratio.
    """

    what: str
    ratio: float
    goal: float | None = None
    better: Literal["higher", "lower"] = "higher"
    note: str = ""
    unit: str = "×"

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached; ``None`` without one."""
        if self.goal is None:
            return None
        return self.ratio >= self.goal if self.better == "higher" else self.ratio <= self.goal


Rows = Callable[[dict[str, Figures]], Sequence[Row]]
"""Makes the table's rows of each candidate's medians."""


def main(
    script: str,
    candidates: Mapping[str, Candidate],
    rows: Rows,
    *,
    turns: int = 5,
    prepare: Callable[[Path], object] | None = None,
) -> None:
    """Run a benchmark, or one turn of it, as the command line says.

    Args:
        script: The benchmark's ``__file__``.
        candidates: By name, in the order of their turns.
        rows: See :data:`Rows`.
        turns: Of each candidate, unless the command line says another number.
        prepare: Makes what all turns need, in a process of its own; they find it in
            :func:`folder`.
    """
    whole = {**candidates, **({_PREPARE: _prepared(prepare)} if prepare else {})}
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--turns", type=int, default=turns, help=f"of each candidate ({turns})")
    parser.add_argument("--candidate", choices=whole, help="run one turn of this one alone")
    parser.add_argument("--json", action="store_true", help="print the rows as one JSON list")
    chosen = parser.parse_args()
    if chosen.candidate:
        print(json.dumps(whole[chosen.candidate]()))
        return
    with TemporaryDirectory() as made:
        os.environ[_FOLDER] = made
        if prepare:
            _turn(script, _PREPARE)
        table = rows(medians(script, list(candidates), chosen.turns))
    if chosen.json:
        print(json.dumps([{**asdict(row), "reached": row.reached} for row in table]))
        return
    show(table)


def folder() -> Path:
    """Return the folder that ``prepare`` filled."""
    return Path(os.environ[_FOLDER])


def _prepared(prepare: Callable[[Path], object]) -> Candidate:
    def turn() -> Figures:
        prepare(folder())
        return {}

    return turn


def medians(script: str, names: Sequence[str], turns: int) -> dict[str, Figures]:
    """Return each candidate's medians over its turns."""
    taken: dict[str, list[Figures]] = {name: [] for name in names}
    for _ in range(turns):
        for name in names:
            taken[name].append(_turn(script, name))
    return {
        name: {key: median(one[key] for one in figures) for key in figures[0]}
        for name, figures in taken.items()
    }


def _turn(script: str, name: str) -> Figures:
    command = [sys.executable, script, "--candidate", name]
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{script}: {name} failed\n{done.stderr}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def show(table: Sequence[Row]) -> None:
    """Print rows as a table."""
    width = max(len(row.what) for row in table)
    for row in table:
        print(line(row, width))


def line(row: Row, width: int) -> str:
    """Return a row as text, its first column as wide as ``width``."""
    told = {None: "", True: "reached", False: "missed"}[row.reached]
    sign = "≥" if row.better == "higher" else "≤"
    goal = "" if row.goal is None else f"{sign} {row.goal:g} {row.unit}".rstrip()
    figure = f"{row.ratio:.3g} {row.unit}".rstrip()
    return f"{row.what:{width}}  {figure:>10}  {goal:>10}  {told:7}  {row.note}".rstrip()


def cpu_seconds(work: Callable[[], object], *, repeats: int, warm: int = 1) -> float:
    """Return the median CPU seconds of a piece of work, all threads together.

    Args:
        work: What is measured.
        repeats: How often.
        warm: How often it is done before, unmeasured.
    """
    return _median_of(time.process_time, work, repeats, warm)


def wall_seconds(work: Callable[[], object], *, repeats: int, warm: int = 1) -> float:
    """Return the median seconds of a piece of work by the wall clock; see :func:`cpu_seconds`."""
    return _median_of(time.perf_counter, work, repeats, warm)


def _median_of(
    clock: Callable[[], float], work: Callable[[], object], repeats: int, warm: int
) -> float:
    for _ in range(warm):
        work()
    taken = []
    for _ in range(repeats):
        begun = clock()
        work()
        taken.append(clock() - begun)
    return median(taken)
