"""The gate, ``.ci/run``, on a checkout that holds nothing but a README."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

GATE = Path(__file__).parents[1] / ".ci/run"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the gate and no README yet, beside an empty folder for temporary files."""
    for folder in ("checkout/.ci", "temporary", "bin"):
        (tmp_path / folder).mkdir(parents=True)
    program(tmp_path / "bin/chromium", "exit 1")  # so that no test installs one
    shutil.copy(GATE, tmp_path / "checkout/.ci/run")
    return tmp_path / "checkout"


def program(path: Path, *lines: str) -> None:
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)


def run_gate(
    checkout: Path, *commands: str, path: str | None = None
) -> subprocess.CompletedProcess[str]:
    fences = "\n".join(f"```bash\n{command}\n```\n" for command in commands)
    later = "## Later\n\n```bash\ntouch never\n```\n"
    (checkout / "README.md").write_text(f"# A package\n\nOne sentence.\n\n{fences}\n{later}")
    environment = {**os.environ, "TMPDIR": str(checkout.parent / "temporary")}
    environment["PATH"] = path or f"{checkout.parent / 'bin'}:{environment['PATH']}"
    environment.pop("RESNET_HUB_DATA", None)
    return subprocess.run(
        ["bash", checkout / ".ci/run"],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=checkout.parent,
    )


def test_both_commands_run_as_written_in_a_fresh_environment_that_is_removed(checkout: Path):
    (checkout.parent / "shared/data").mkdir(parents=True)
    gate = run_gate(
        checkout,
        'python -c "import sys; print(sys.prefix)" > prefix && pip --version > pip',
        'echo "$RESNET_HUB_DATA" > data; echo "== 3 passed in 0.01s =="',
    )
    assert gate.returncode == 0, gate.stderr
    assert gate.stdout.splitlines()[-1] == "== 3 passed in 0.01s =="
    prefix = (checkout / "prefix").read_text().strip()
    assert prefix.startswith(str(checkout.parent / "temporary"))
    assert (checkout / "pip").read_text().split(" from ")[1].startswith(prefix)
    assert (checkout / "data").read_text().strip() == str(checkout.parent / "shared/data")
    assert list((checkout.parent / "temporary").iterdir()) == []
    assert sorted(path.name for path in checkout.iterdir()) == [
        ".ci", "README.md", "data", "pip", "prefix",
    ]  # fmt: skip


def test_the_first_failure_ends_it_with_its_status(checkout: Path):
    gate = run_gate(checkout, "(exit 7)", "touch never")
    assert gate.returncode == 7
    assert not (checkout / "never").exists()
    assert list((checkout.parent / "temporary").iterdir()) == []


def test_a_failing_last_command_fails_it_and_still_comes_last(checkout: Path):
    gate = run_gate(checkout, "true", 'echo "== 1 failed in 0.01s =="; exit 1')
    assert gate.returncode == 1
    assert gate.stdout.splitlines()[-1] == "== 1 failed in 0.01s =="


@pytest.mark.parametrize(
    "commands",
    [("touch never",), ("touch never",) * 3, ("touch never\ntouch never", "touch never")],
    ids=["one", "three", "two lines in a fence"],
)
def test_other_than_two_commands_of_one_line_are_refused(checkout: Path, commands: tuple[str, ...]):
    gate = run_gate(checkout, *commands)
    assert gate.returncode == 2
    assert "README.md: not two" in gate.stderr
    assert not (checkout / "never").exists()


@pytest.mark.parametrize("installs", [True, False], ids=["installs", "fails"])
def test_a_browser_is_installed_where_there_is_none(checkout: Path, installs: bool):
    tools = checkout.parent / "bin"
    (tools / "chromium").unlink()
    for name in ("awk", "bash", "dirname", "mktemp", "python3", "rm"):
        (tools / name).symlink_to(Path(str(shutil.which(name))).resolve())
    program(tools / "id", "echo 0")
    program(tools / "apt-get", f'echo "$@" >> {tools}/asked', f"exit {0 if installs else 100}")
    gate = run_gate(checkout, "true", "true", path=str(tools))
    assert gate.returncode == 0, gate.stderr
    asked = (tools / "asked").read_text().splitlines()
    assert asked == ["-qq update", "-qq install -y --no-install-recommends chromium"]
    assert ("no browser could be installed" in gate.stdout) is not installs
