"""The GPU benchmark's logic, tiny and on the CPU: every part, what fails, and what is known."""

import contextlib
import importlib
import io
import json
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest
import torch
from cifar_files import write_cifar
from small_runs import command
from torch import nn

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
PARTS = ("cards", "cifar", "imagenet", "timing")
NAMES = ("gpu", *(f"gpu_parts.{name}" for name in PARTS))


@pytest.fixture(scope="module")
def modules() -> Iterator[dict[str, ModuleType]]:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield {name: importlib.import_module(name) for name in NAMES}
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture
def gpu(modules, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, for a machine without a compiler: graphs are captured, and run as they are."""
    compile_ = nn.Module.compile
    monkeypatch.setattr(
        nn.Module, "compile", lambda module, **how: compile_(module, backend="eager")
    )
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", torch.backends.cudnn.benchmark)
    torch.set_num_threads(1)
    return modules["gpu"]


EXPECTED = {
    "train": {"over a bare loop of the same net", "of torchvision's", "of timm's", "batch 4"},
    "infer": {
        *("batch 2, compiled: over itself", "batch 1, compiled: over itself"),
        *("over torchvision's", "over timm's", "logits off float32's"),
    },
    "cifar": {"over PIL in 0 workers and a bare loop", "cifar_resnet20", "input, of a step's time"},
    "cifar_graphs": {"over PIL in 0 workers and a bare loop", "as CUDA graphs"},
    "files": {"image files, by the loader alone"},
    "train_compiled": {"over a bare loop, not compiled"},
    "infer_autotuned": {"max-autotune: over itself", "logits off float32's"},
}


GOALS = {
    "over a bare loop of the same net": 0.97,
    "of torchvision's": 1.0,
    "of timm's": 1.0,
    "batch 2, compiled: over itself": 1.6,
    "batch 1, compiled: over itself": None,
    "max-autotune: over itself": 1.6,
}


@pytest.mark.parametrize("part", EXPECTED)
@pytest.mark.filterwarnings("ignore")  # Lightning's advice to whoever trains so little
def test_a_part_measures_what_it_promises(part: str, gpu: ModuleType):
    found = json.loads(json.dumps(gpu.measured(part, device="cpu", quick=True, cifar10=None)))
    ends = [row["what"] for row in found["rows"]]
    for wanted in EXPECTED[part]:
        assert any(what.endswith(wanted) for what in ends), (wanted, ends)
    assert all(row["ratio"] > 0 for row in found["rows"])
    assert not [line for line in found["said"] if "failed" in line]
    assert found["n"] == 1
    goals = {
        end: row["goal"] for row in found["rows"] for end in GOALS if row["what"].endswith(end)
    }
    assert goals == {end: goal for end, goal in GOALS.items() if end in EXPECTED[part]}


@pytest.mark.gpu
@pytest.mark.parametrize("part", EXPECTED)
@pytest.mark.filterwarnings("ignore")
def test_on_a_gpu_a_part_measures_the_same(part: str, modules):
    found = modules["gpu"].measured(part, device="cuda", quick=True, cifar10=None)
    assert len(found["rows"]) >= len(EXPECTED[part])
    assert not [line for line in found["said"] if "failed" in line]


def test_a_fast_recipe_is_trained_timed_and_scored_by_one_view_and_two(
    modules, gpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def here(*arguments: str) -> str:
        with contextlib.redirect_stdout(io.StringIO()) as said:
            assert command(*arguments) == 0
        return said.getvalue()

    cifar = modules["gpu_parts.cifar"]
    monkeypatch.setattr(cifar, "_command", here)
    write_cifar(tmp_path, "Cifar10", count=8)
    flags = (
        *("--net.name=cifar_resnet20", "--model.compile=false", "--data.batch_size=8"),
        *("--trainer.accelerator=cpu", "--trainer.precision=32-true"),
        *("--trainer.max_steps=3", "--trainer.max_epochs=-1", "--trainer.log_every_n_steps=1"),
    )
    (row,) = cifar.fast("cifar10_fast94", str(tmp_path), flags=flags).rows
    assert row.what == "CIFAR-10 (other files) to 94%, cifar10_fast94: training"
    assert row.unit == "s"
    assert row.ratio > 0
    assert "by two views; n = 8, 1 run, 3 steps" in row.note
    assert row.note.endswith("; below 94%")


def part(gpu: ModuleType, code: str, limit: float = 30.0):
    return gpu.run([sys.executable, "-c", code], "name", limit)


def test_a_part_that_fails_is_named_with_its_last_line(gpu: ModuleType):
    outcome = part(gpu, "raise RuntimeError('CUDA error: out of luck')")
    assert outcome.failed == "RuntimeError: CUDA error: out of luck"
    assert part(gpu, "raise SystemExit(3)").failed == "exit code 3"


def test_a_part_that_takes_too_long_is_ended(gpu: ModuleType):
    begun = time.monotonic()
    outcome = part(gpu, "import time; time.sleep(60)", limit=0.5)
    assert outcome.failed == "not done in 0 s"
    assert time.monotonic() - begun < 20


def test_a_candidate_that_fails_is_said_and_the_others_go_on(modules):
    timing = modules["gpu_parts.timing"]

    def broken() -> float:
        raise RuntimeError("\nno such kernel\n(advice)")

    found, turns = timing.Found(), iter([9.0, 3.0, 1.0, 2.0])
    candidates = {"broken": broken, "whole": lambda: next(turns)}
    medians = timing.alternate(candidates, 3, found)
    assert medians == {"whole": 2.0}  # the first turn does not count
    assert found.said == ["broken failed: no such kernel"]
    assert timing.ratio("what", medians, "broken", "whole") == []
    (row,) = timing.ratio("what", {"a": 2.0, "b": 5.0}, "a", "b", 2)
    assert (row.ratio, row.reached, row.note) == (2.5, True, "2000 and 5000 ms")


def test_a_peer_that_is_not_installed_is_left_out_with_a_line(modules, monkeypatch):
    imagenet, found = modules["gpu_parts.imagenet"], modules["gpu_parts.timing"].Found()
    monkeypatch.setattr(imagenet, "find_spec", lambda name: None if name == "timm" else "there")
    assert [*imagenet.peers("resnet18", found)] == ["torchvision"]
    assert found.said == ["timm is not installed; left out"]


def test_the_table_goes_on_after_a_part_that_fails(gpu, tmp_path, monkeypatch, capsys):
    row = {"what": "w", "ratio": 2.0, "goal": 1.0, "better": "higher", "note": "", "unit": "×"}
    told = json.dumps({"rows": [row], "figures": {"read": 30.0, "train": 10.0}, "said": [], "n": 3})
    codes = {"train": "raise ValueError('no')", "files": f"print({told!r})"}
    run = gpu.run
    monkeypatch.setattr(
        gpu, "run", lambda _, name, limit: run([sys.executable, "-c", codes[name]], name, limit)
    )
    out = tmp_path / "found.json"
    parts = ("train", "cifar10_fast94", "files")
    assert gpu.main(["--device", "cpu", "--parts", *parts, "--json", str(out)]) == 1
    printed = capsys.readouterr().out
    assert "train: FAILED, ValueError: no" in printed
    assert "left out: needs the real CIFAR-10, --cifar10 FOLDER" in printed
    content = json.loads(out.read_text())
    assert [r["what"] for r in content["rows"]] == [
        "w",
        "image files: the loader over the training step",
    ]
    assert content["rows"][0]["note"] == "n = 3"
    assert content["rows"][1]["ratio"] == 3.0
    assert [r["reached"] for r in content["rows"]] == [True, True]
    assert content["torch"] == torch.__version__
    assert {"gpu", "driver", "commit", "parts"} <= content.keys()
    assert gpu.main(["--device", "cpu", "--parts", "files", "--budget", "0"]) == 0
    assert "left out: the 0 s of --budget are over" in capsys.readouterr().out


def test_without_a_gpu_it_says_how_it_can_be_tried(gpu, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        gpu.main([])
    assert "there is no CUDA device; --device cpu --quick" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "flops", "bandwidth"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12, 3.35e12),
        ("NVIDIA H100 PCIe", 756e12, 2.0e12),
        ("NVIDIA H100 NVL", 835e12, 3.9e12),
        ("NVIDIA H200", 989e12, 4.8e12),
        ("NVIDIA A100-SXM4-80GB", 312e12, 2.039e12),
        ("NVIDIA A100 80GB PCIe", 312e12, 1.935e12),
        ("NVIDIA A100-SXM4-40GB", 312e12, 1.555e12),
        ("NVIDIA GeForce RTX 4090", 165e12, 1.008e12),
        ("NVIDIA L4", 121e12, 0.3e12),
    ],
)
def test_a_cards_limits_are_found_by_the_name_that_torch_gives(modules, name, flops, bandwidth):
    found = modules["gpu_parts.cards"].card(name)
    assert (found.flops, found.bandwidth) == (flops, bandwidth)


@pytest.mark.parametrize(
    "name",
    ["cpu", "NVIDIA GH200 480GB", "NVIDIA L40", "NVIDIA GeForce RTX 4090 Laptop GPU", "Tesla T4"],
)
def test_an_unknown_card_has_no_limits(modules, name: str):
    assert modules["gpu_parts.cards"].card(name) is None


def test_a_nets_work_is_counted_by_hand(modules):
    cards = modules["gpu_parts.cards"]
    stage = [(16, 32), (32, 16), (64, 8)]  # channels, side: 1512.03385 §4.2, n = 3, option A
    numbers, channels, side = 3 * 32**2 + 16 * 32**2, 16, 32
    for outputs, smaller in stage:
        ends = [(channels, side), *[(outputs, smaller)] * 6]
        numbers += sum(a * b * b + c * d * d for (a, b), (c, d) in pairwise(ends))
        channels, side = outputs, smaller
    norms = 2 * (7 * 16 * 32**2 + 6 * 32 * 16**2 + 6 * 64 * 8**2)
    inference = cards.work("cifar_resnet20", 32, train=False)
    training = cards.work("cifar_resnet20", 32, train=True)
    assert inference.traffic == 2 * numbers
    assert training.traffic == 3 * 2 * (numbers + norms)
    assert training.flops == 3 * inference.flops
    assert inference.flops == pytest.approx(2 * 40.8e6, rel=0.02)
    one = cards.Work(2e9, 1e6).share(100, cards.Card(1e12, 1e9))
    assert one == (0.2, 0.1)
