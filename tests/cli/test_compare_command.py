"""``resnet-hub compare``: models side by side."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from small_runs import command, fit, refusal

from resnet_hub.metrics import wilson
from resnet_hub.nets.resnet import ResNet
from resnet_hub.weights.card import read_card


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    home = tmp_path_factory.mktemp("models")
    run = fit(home / "run", "--trainer.limit_train_batches=20", "--schedule.warmup=0")
    ResNet("cifar_resnet32", classes=10, in_channels=1).save_pretrained(home / "unmeasured")
    return run, home / "unmeasured"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def compared(capsys, *arguments: object) -> list[dict]:
    capsys.readouterr()
    assert command("compare", *arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


def test_recorded_scores_stand_with_their_intervals_and_what_is_unmeasured_says_so(models, capsys):
    run, other = models
    first, second = compared(capsys, run, other)
    (score,) = read_card(run / "model").provenance.scores
    wrong = 360 - round(score.top1 * 360)
    assert (first["name"], first["net"], first["parameters"]) == (
        str(run),
        "cifar_resnet20",
        269_434,
    )
    assert first["file_bytes"] == (run / "model" / "model.safetensors").stat().st_size
    assert first["result"] == {
        "data": "Digits test",
        "n": 360,
        "error": pytest.approx(wrong / 360),
        "interval": pytest.approx(wilson(wrong, 360)),
        "top5_error": pytest.approx(1 - score.top5),
        "recorded": True,
    }
    assert second["result"] is None
    assert command("compare", run, other) == 0
    assert "unmeasured" in capsys.readouterr().out


def test_with_data_each_answers_it(models, tmp_path: Path, capsys):
    run, _ = models
    out = tmp_path / "cost.png"
    (recorded,) = compared(capsys, run)
    (row,) = compared(capsys, run, "--data", "Digits", "--out", out)
    assert row["result"]["recorded"] is False
    assert row["result"]["error"] == pytest.approx(recorded["result"]["error"])
    low, high = row["result"]["interval"]
    assert low < row["result"]["error"] < high
    with Image.open(out) as picture:
        assert picture.format == "PNG"


def test_the_figure_names_the_nets_and_has_both_costs(models, tmp_path: Path, capsys):
    run, other = models
    out = tmp_path / "cost.svg"
    assert command("compare", run, other, "--out", out) == 0
    drawn = out.read_text("utf-8")
    assert "cifar_resnet20" in drawn
    assert "cifar_resnet32" not in drawn  # it was not measured
    assert "parameters (millions)" in drawn
    assert "multiply-adds of an image (millions)" in drawn


def test_folders_of_any_name_are_drawn(models, tmp_path: Path, capsys):
    run, _ = models
    names = [tmp_path / name for name in ("$\\foo$", "$\\bar{")]
    for name in names:
        shutil.copytree(run / "model", name)
    assert command("compare", *names, "--out", out := tmp_path / "cost.svg") == 0
    assert all(f"{name}</text>" in out.read_text("utf-8") for name in names)


def test_what_cannot_be_drawn_or_read_is_refused(models, tmp_path: Path, capsys):
    run, other = models
    out = tmp_path / "cost.png"
    assert "no model has a score to draw" in refusal(capsys, "compare", other, "--out", out)
    assert not out.exists()
    assert "neither .png nor .svg" in refusal(capsys, "compare", run, "--out", "a.pdf")
    assert "--k: compare takes" in refusal(capsys, "compare", run, "--k", 3)
    assert "needs models" in refusal(capsys, "compare", "--json")
