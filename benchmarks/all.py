"""Every benchmark of this folder, one after another, in one table.

    python benchmarks/all.py [--turns N] [NAME ...]

A name is a file's, without its ending. What fails is said, and the others go on; the exit code is 1
then. A goal that is missed is no failure: on another machine ratios are others.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from turns import Row, line

HERE = Path(__file__).resolve().parent
NOT_HERE = ("all", "turns", "gpu")
"""The frame, and what needs a GPU."""


def main() -> int:
    """Print the table and return the exit code."""
    names = sorted(path.stem for path in HERE.glob("*.py") if path.stem not in NOT_HERE)
    parser = argparse.ArgumentParser(description="Run the benchmarks of this folder.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names))
    parser.add_argument("--turns", type=int, help="of each candidate; by default each one's own")
    chosen = parser.parse_args()
    if unknown := sorted(set(chosen.names) - set(names)):
        parser.error(f"no benchmark is called {', '.join(unknown)}; there are {', '.join(names)}")
    failed = 0
    for name in chosen.names or names:
        command = [sys.executable, str(HERE / f"{name}.py"), "--json"]
        if chosen.turns:
            command += ["--turns", str(chosen.turns)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        print(f"\n{name}", flush=True)
        if done.returncode:
            failed += 1
            print(f"  failed: {(done.stderr.strip().splitlines() or ['without a word'])[-1]}")
            continue
        for content in json.loads(done.stdout.splitlines()[-1]):
            content.pop("reached")
            print(f"  {line(Row(**content), 64)}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
