"""``list`` and ``info``."""

import json
import os
import shutil
from pathlib import Path

import pytest
from small_runs import command, refusal

from resnet_hub.nets.resnet import ResNet
from resnet_hub.weights.provenance import Provenance, Score
from resnet_hub.zoo import ARCHITECTURES

# Parameters and multiply-adds (in millions) as the papers and their implementations count them,
# and the error that the paper or its authors publish.
KNOWN = {
    "resnet18": (11_689_512, 1814.1, 30.41),
    "resnet50": (25_557_032, 4089.2, 24.01),
    "resnet152": (60_192_808, 11513.6, 21.688),
    "resnet50_v1": (25_557_032, 3858.0, 24.7),
    "cifar_resnet20": (269_722, 40.6, 8.75),
    "cifar_resnet110": (1_727_962, 252.9, 6.61),
    "cifar_resnet1202": (19_421_274, 2829, 7.93),
    "cifar_preact_resnet164": (1_703_258, 244.5, 5.46),
    "cifar_preact_resnet1001": (10_327_706, 1488, 4.92),
    "cifar_plain20": (269_722, 40.6, None),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "model"
    net = ResNet("cifar_resnet20", classes=12)
    net.labels = tuple(f"class {number}" for number in range(12))
    scores = (Score(data="CIFAR-10 test", top1=0.5, top5=0.75, n=1017),)
    net.save_pretrained(folder, provenance=Provenance(source="a run", seed=3, scores=scores))
    return folder


def test_list_has_every_net_with_its_figures(capsys):
    assert command("list", "--json") == 0
    rows = {row["net"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == list(ARCHITECTURES)
    for name, (parameters, multiply_adds, error) in KNOWN.items():
        assert rows[name]["parameters"] == parameters
        assert rows[name]["multiply_adds"] / 1e6 == pytest.approx(multiply_adds, rel=1e-3, abs=0.06)
        assert rows[name]["error"] == error


def test_a_published_error_says_what_it_was_measured_on_and_every_row_its_source(capsys):
    assert command("list", "--json") == 0
    for row in json.loads(capsys.readouterr().out):
        assert bool(row["measure"]) == (row["error"] is not None)
        assert row["source"]


def test_the_table_has_a_whole_line_for_each_net(capsys):
    assert command("list") == 0
    lines = capsys.readouterr().out.splitlines()
    for name in ARCHITECTURES:
        (line,) = [line for line in lines if f"│ {name} " in line]
        assert line.count("│") == 9
        assert "…" not in line
    (line,) = [line for line in lines if "│ cifar_resnet110 " in line]
    for part in ("1,727,962", "252.9 M", "6.61 %", "CIFAR-10 test, mean of 5", "1512.03385"):
        assert part in line


def test_info_of_a_net_is_its_row(capsys):
    assert command("info", "resnet50", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["net"], facts["layers"], facts["classes"], facts["pixels"]) == (
        *("resnet50", 50, 1000, 224),
    )
    assert command("info", "resnet50") == 0
    assert "25,557,032" in capsys.readouterr().out


def test_info_of_a_model_folder_is_its_card(model: Path, capsys):
    assert command("info", model, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["net"] == "cifar_resnet20"
    assert facts["classes"] == 12
    assert facts["labels"][11] == "class 11"
    assert facts["preprocess"]["size"] == facts["pixels"] == 32
    assert facts["scores"] == [
        {"data": "CIFAR-10 test", "top1": 0.5, "top5": 0.75, "n": 1017, "receipt": None}
    ]
    assert facts["seed"] == 3
    assert len(facts["sha256"]) == 64


def test_info_for_people_is_short_where_lists_are_long(model: Path, capsys):
    assert command("info", model) == 0
    out = capsys.readouterr().out
    assert "class 9, … 2 more" in out
    assert "class 11" not in out
    assert "CIFAR-10 test" in out


def test_what_a_card_says_gives_a_terminal_no_commands_and_is_no_markup(tmp_path: Path, capsys):
    odd = os.fsdecode(b"caf\xe9")
    labels = ("\x1b[2J", odd, "[red]r[/red]", ":dog:", "a\nb")
    net = ResNet("cifar_resnet20", classes=5)
    net.labels = labels
    source = f"checkpoint {odd}\x1b]0;x"
    net.save_pretrained(tmp_path / "model", provenance=Provenance(source=source))
    assert command("info", tmp_path / "model") == 0
    out = capsys.readouterr().out
    assert r"\x1b[2J, caf\udce9, [red]r[/red], :dog:, a\nb" in out
    assert r"checkpoint caf\udce9\x1b]0;x" in out
    assert out.replace("\n", "").isprintable()
    assert command("info", tmp_path / "model", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (tuple(facts["labels"]), facts["source"]) == (labels, source)


def test_multiply_adds_of_a_model_are_of_its_own_image_size(tmp_path: Path, capsys):
    from dataclasses import replace

    net = ResNet("cifar_resnet20")
    net.preprocess = replace(net.preprocess, size=16)
    net.save_pretrained(tmp_path / "model")
    assert command("info", tmp_path / "model", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["pixels"] == 16
    # A quarter of the pixels everywhere but in the classifier.
    assert facts["multiply_adds"] == (40_551_040 - 640) // 4 + 640


def test_a_folder_here_wins_over_a_net_of_its_name(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model, "resnet50")
    assert command("info", "resnet50", "--json") == 0
    assert json.loads(capsys.readouterr().out)["net"] == "cifar_resnet20"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "resnet51",
            "'resnet51': neither a folder here nor the name of weights; did you mean 'resnet50'?",
        ),
        ("cifar_resnet_20", "did you mean 'cifar_resnet20'?"),
        ("./nowhere", "no such folder; a model folder holds config.json"),
        ("../x", "no such folder"),
        ("a/../b", "'a/../b': no Hub repository is called so"),
        ("resnet50\n", "did you mean 'resnet50'?"),
        ("x" * 5000, "neither a folder here nor the name of weights"),
    ],
)
def test_what_is_neither_net_nor_folder_is_refused(capsys, source: str, message: str):
    assert message in refusal(capsys, "info", source)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no model folder (it holds no config.json)"),
        ("", "not a card of this package"),
        ('{"format": 2}', "format 2, this version reads 1"),
        ('{"format": 1, "format": 1}', "a key stands there twice"),
        ("[" * 100_000, "not a card of this package"),
        (" " * (1 << 20) + "{}", "over 1,048,576 bytes"),
    ],
)
def test_a_folder_without_a_card_that_can_be_read_is_refused(
    tmp_path: Path, capsys, content: str | None, message: str
):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    found = refusal(capsys, "info", tmp_path)
    assert str(tmp_path) in found
    assert message in found


@pytest.mark.fault("L5")
def test_an_absurd_net_is_refused_before_anything_is_built(model: Path, tmp_path: Path, capsys):
    shutil.copytree(model, tmp_path / "model")
    card = json.loads((tmp_path / "model/config.json").read_text())
    card["architecture"].update(width=8192, depths=[300, 300, 300])
    (tmp_path / "model/config.json").write_text(json.dumps(card))
    for arguments in (("info",), ("test", "--data=Digits")):
        message = refusal(capsys, arguments[0], tmp_path / "model", *arguments[1:])
        assert "parameters are over 1,000,000,000" in message


def test_a_net_tells_its_weights_and_weights_tell_of_themselves_without_being_fetched(
    tmp_path: Path, monkeypatch, capsys
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert command("info", "resnet50", "--json") == 0
    net = json.loads(capsys.readouterr().out)
    assert net["default"] == "resnet50.tv_v2"
    assert {"resnet50.tv_v1", "resnet50.a1"} < set(net["weights"])
    assert command("info", "resnet50.tv_v2", "--json") == 0
    weights = json.loads(capsys.readouterr().out)
    assert (weights["net"], weights["top1"], weights["licence"]) == (
        "resnet50",
        0.80858,
        "unstated",
    )
    assert weights["url"].endswith(f"resnet50-{weights['sha256']}.pth")
    assert list(tmp_path.iterdir()) == []
