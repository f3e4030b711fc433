"""Fixtures shared by all tests, and the fault matrix: ``pytest -m fault --faults`` prints it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FAULTS = Path(__file__).parents[1] / "docs" / "faults.md"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the switch of the fault matrix."""
    parser.addoption(
        "--faults",
        action="store_true",
        help="print docs/faults.md's rows, each with its tests' outcome",
    )


def fault_rows() -> dict[str, str]:
    """Return the matrix's rows: what each is called, and the fault."""
    found = re.findall(r"^\| ([A-Z]\d+) \| ([^|]+) \|", FAULTS.read_text("utf-8"), re.MULTILINE)
    return dict(found)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the matrix: passed only where every test of the row was run and passed."""
    if not terminalreporter.config.getoption("faults"):
        return
    outcomes: dict[str, list[str]] = {row: [] for row in fault_rows()}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            for name, row in getattr(report, "user_properties", ()):
                if name == "fault":
                    outcomes.setdefault(row, []).append(outcome)
    terminalreporter.section("fault matrix")
    for row, fault in fault_rows().items():
        counts = {o: outcomes[row].count(o) for o in dict.fromkeys(outcomes[row])}
        verdict = (
            "FAIL"
            if {"failed", "error"} & set(counts)
            else "pass"
            if "passed" in counts
            else "NONE"
        )
        told = ", ".join(f"{count} {outcome}" for outcome, count in counts.items()) or "not run"
        terminalreporter.line(f"{verdict}  {row:3} {fault}  ({told})")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with the reason, what this machine cannot run."""
    for item in items:
        for marker in item.iter_markers("fault"):
            item.user_properties.append(("fault", marker.args[0]))
    without_data = pytest.mark.skip(reason="RESNET_HUB_DATA names no folder of real data")
    for item in items:
        if item.get_closest_marker("data") and not os.environ.get("RESNET_HUB_DATA"):
            item.add_marker(without_data)
        if item.get_closest_marker("gpu"):
            import torch

            if not torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data: see CONTRIBUTING for what it holds."""
    return Path(os.environ["RESNET_HUB_DATA"])


@pytest.fixture(scope="session")
def lossless_cifar10(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with ``cifar-10-batches-py``: true pixels, 1,017 images of each official file."""
    builder = real_data / "cifar10" / "build.py"
    if not builder.is_file():
        pytest.skip(f"{builder} is not there")
    root = tmp_path_factory.mktemp("lossless")
    subprocess.run([sys.executable, builder, "lossless", root], check=True, capture_output=True)
    return root
