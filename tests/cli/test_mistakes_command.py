"""``resnet-hub mistakes``: what it draws and prints, and what it refuses."""

import json
from pathlib import Path

import pytest
from PIL import Image
from small_runs import command, fit, refusal

from resnet_hub.nets.resnet import ResNet


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    flags = ("--trainer.limit_train_batches=10", "--schedule.warmup=0")
    return fit(tmp_path_factory.mktemp("runs") / "run", *flags)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def drawn(capsys, *arguments: object) -> dict:
    capsys.readouterr()
    assert command("mistakes", *arguments, "--json") == 0
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out)


def test_as_many_mistakes_are_wrong_as_test_counts(run: Path, tmp_path: Path, capsys):
    found = drawn(capsys, run, "--out", tmp_path / "m.png", "--count", "6")
    assert command("test", run, "--no-record", "--json") == 0
    score = json.loads(capsys.readouterr().out)
    assert (found["n"], found["data"]) == (score["n"], score["data"])
    assert found["wrong"] == score["n"] - round(score["top1"] * score["n"])
    shown = found["mistakes"]
    assert len(shown) == 6
    assert [m["probability"] for m in shown] == sorted(
        (m["probability"] for m in shown), reverse=True
    )
    assert all(m["given_name"] != m["label_name"] for m in shown)
    with Image.open(tmp_path / "m.png") as picture:
        assert picture.format == "PNG"


def test_people_get_a_line_a_mistake_and_gradcam_another_picture(run: Path, tmp_path: Path, capsys):
    assert command("mistakes", run, "--out", tmp_path / "a.png", "--count", "3") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "images are answered wrong" in lines[0]
    assert len(lines) == 5
    assert lines[-1] == f"picture: {tmp_path / 'a.png'}"
    flags = ("--count=3", "--gradcam")
    assert (
        command("mistakes", run / "model", "--data=Digits", "--out", tmp_path / "b.svg", *flags)
        == 0
    )
    assert capsys.readouterr().out.splitlines()[:-1] == lines[:-1]
    assert (tmp_path / "b.svg").read_text().startswith("<?xml")


def test_probabilities_are_at_the_cards_temperature(run: Path, tmp_path: Path, capsys):
    plain = drawn(capsys, run, "--out", tmp_path / "a.png", "--count", "100")
    net = ResNet.from_pretrained(run / "model")
    net.temperature = 4.0
    net.save_pretrained(tmp_path / "model")
    asked = (tmp_path / "model", "--data=Digits", "--out", tmp_path / "b.png", "--count", "1")
    soft = drawn(capsys, *asked)
    assert (plain["temperature"], soft["temperature"]) == (None, 4.0)
    assert soft["wrong"] == plain["wrong"]
    assert soft["mistakes"][0]["probability"] < plain["mistakes"][0]["probability"]
    assert command("mistakes", *asked) == 0
    assert "probabilities at the card's temperature, 4" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RUN"], "--out FILE.png or FILE.svg says where"),
        (["RUN", "--out", "m.jpg"], "m.jpg: ends in neither .png nor .svg"),
        (["RUN", "--out", "m.png", "--count", "0"], "--count: '0' is not 1 to 100"),
        (["RUN", "--out", "m.png", "--count", "all"], "--count: 'all' is not 1 to 100"),
        (["RUN/model", "--out", "m.png"], "mistakes: a model needs --data NAME"),
        (["RUN", "RUN", "--out", "m.png"], "mistakes: needs one model folder or run"),
        (["RUN", "--out", "m.png", "--lr=1"], "--lr: mistakes takes --data…, --trainer…, --out"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(
    run: Path, tmp_path: Path, capsys, monkeypatch, arguments: list[str], message: str
):
    monkeypatch.chdir(tmp_path)
    arguments = [argument.replace("RUN", str(run)) for argument in arguments]
    assert message in refusal(capsys, "mistakes", *arguments)
    assert not list(tmp_path.glob("m.*"))
