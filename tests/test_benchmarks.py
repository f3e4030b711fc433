"""The benchmarks: their frame's arithmetic, and that each can be called. None is run here."""

import ast
import json
import os
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
FRAME = ("turns", "all")
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))
APART = ("gpu", "scaling")  # parts in one process on one card; what only predicts
TOPICS = [name for name in NAMES if name not in (*FRAME, *APART)]


def loaded(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = spec_from_file_location(name, FOLDER / f"{name}.py")
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return loaded("turns", monkeypatch)


@pytest.mark.parametrize("name", TOPICS)
def test_a_benchmark_says_what_it_measures_and_names_its_candidates(name: str):
    tree = ast.parse((FOLDER / f"{name}.py").read_text("utf-8"))
    assert ast.get_docstring(tree)
    (guard,) = [
        node for node in tree.body if isinstance(node, ast.If) and "__main__" in ast.dump(node)
    ]
    assert "turns" in ast.dump(guard)
    made = [ast.unparse(node) for node in tree.body if isinstance(node, ast.Assign)]
    assert any(line.startswith("CANDIDATES = {") for line in made)
    assert "rows" in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("name", [name for name in NAMES if name != "turns"])
def test_a_benchmark_explains_itself(name: str):
    command = [sys.executable, str(FOLDER / f"{name}.py"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout


def test_a_row_tells_whether_its_goal_is_reached(turns: ModuleType):
    row = turns.Row
    assert row("a", 2.0, 2.0).reached
    assert not row("a", 1.9, 2.0).reached
    assert row("a", 0.3, 0.3, "lower").reached
    assert not row("a", 0.31, 0.3, "lower").reached
    assert row("a", 5.0).reached is None
    lines = [
        turns.line(row("ours over theirs", 2.0, 1.5, note="1 of 2 s"), 20),
        turns.line(row("memory", 0.5, 0.28, "lower"), 20),
        turns.line(row("startup", 114.7, unit="ms"), 20),
    ]
    assert [" ".join(line.split()) for line in lines] == [
        "ours over theirs 2 × ≥ 1.5 × reached 1 of 2 s",
        "memory 0.5 × ≤ 0.28 × missed",
        "startup 115 ms",
    ]


FAKE = '''"""Counts its turns."""
import turns

def prepare(folder):
    (folder / "turns").write_text("")

def taken(name):
    def turn():
        print("said by the way")
        path = turns.folder() / "turns"
        path.write_text(path.read_text() + name)
        before = path.read_text().count(name)
        return {{"seconds": float(before * before), "order": float(len(path.read_text()))}}
    return turn

def fails():
    {body}

def rows(found):
    assert found["a"] == {{"seconds": 4.0, "order": {order}}}, found
    return [turns.Row("b over a", found["b"]["seconds"] / found["a"]["seconds"], 1.0)]

CANDIDATES = {{"a": taken("a"), "b": taken("b"){more}}}

if __name__ == "__main__":
    turns.main(__file__, CANDIDATES, rows, turns=3, prepare=prepare)
'''


def fake(folder: Path, *arguments: str, more: str = "", body: str = "pass", order: float = 3.0):
    script = folder / "fake.py"
    script.write_text(FAKE.format(more=more, body=body, order=order))
    environment = {"PYTHONPATH": str(FOLDER), "PATH": os.environ["PATH"]}
    command = [sys.executable, str(script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_candidates_take_turns_and_their_medians_make_the_rows(tmp_path: Path):
    done = fake(tmp_path)  # a b a b a b: the median of 1, 4 and 9, and of the places 1, 3 and 5
    assert done.returncode == 0, done.stderr
    assert " ".join(done.stdout.split()) == "b over a 1 × ≥ 1 × reached"


def test_rows_come_as_json_too_and_turns_by_number(tmp_path: Path):
    done = fake(tmp_path, "--json", "--turns", "3")
    (row,) = json.loads(done.stdout.splitlines()[-1])
    assert (row["ratio"], row["goal"], row["reached"], row["unit"]) == (1.0, 1.0, True, "×")


def test_a_candidate_that_fails_is_named_with_its_words(tmp_path: Path):
    done = fake(tmp_path, more=', "c": fails', body='raise ValueError("no such card")')
    assert done.returncode == 1
    assert "c failed" in done.stderr
    assert "ValueError: no such card" in done.stderr


def test_the_time_of_work_is_the_median_of_its_repeats(turns: ModuleType, monkeypatch):
    clock = iter([0.0, 5.0, 10.0, 11.0, 20.0, 22.0])
    monkeypatch.setattr(turns.time, "process_time", lambda: next(clock))
    done = []
    assert turns.cpu_seconds(lambda: done.append(1), repeats=3, warm=2) == 2.0
    assert len(done) == 5


def test_a_ring_sends_nearly_twice_the_gradients_whatever_its_size(monkeypatch):
    scaling = loaded("scaling", monkeypatch)
    link = {"bandwidth": 1e9, "latency": 0.0}
    assert scaling.ring_seconds(1, 1e9, **link) == 0
    assert scaling.ring_seconds(2, 1e9, **link) == pytest.approx(1.0)
    assert scaling.ring_seconds(8, 1e9, **link) == pytest.approx(1.75)
    assert scaling.ring_seconds(8, 1e9, bandwidth=1e9, latency=0.1) == pytest.approx(1.75 + 1.4)


def test_what_is_sent_costs_what_the_backward_pass_does_not_hide(monkeypatch):
    scaling = loaded("scaling", monkeypatch)
    link = {"bandwidth": 1e9, "latency": 0.0}
    seen = scaling.Training(seconds=1.0, bytes=1e9, backward=0.5, overlap=0.0)
    assert scaling.efficiency(seen, 2, **link) == pytest.approx(0.5)
    half = scaling.Training(seconds=1.0, bytes=1e9, backward=0.5, overlap=1.0)
    assert scaling.efficiency(half, 2, **link) == pytest.approx(1 / 1.5)
    hidden = scaling.Training(seconds=1.0, bytes=1e8, backward=0.5, overlap=1.0)
    assert scaling.efficiency(hidden, 64, **link) == 1
    assert scaling.efficiency(seen, 1, **link) == 1


def test_predictions_are_printed_for_given_numbers_and_say_what_they_are():
    command = [sys.executable, str(FOLDER / "scaling.py"), "--gpus", "2", "--bandwidth", "1"]
    flags = ["--step", "1", "--parameters", "250e6", "--overlap", "1", "--latency", "0"]
    done = subprocess.run([*command, *flags], capture_output=True, text=True, check=True)
    assert "predicted, not measured" in done.stdout
    assert "2 GPUs, 1 GB/s: all-reduce 1000.00 ms" in done.stdout
    assert "75.0% of 2 times one GPU, 384 images/s" in done.stdout  # a third of a second is seen
    assert "50.0% of 2 times one GPU, 256 images/s" in done.stdout
