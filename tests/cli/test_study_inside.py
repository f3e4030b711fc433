"""``resnet-hub study responses`` and ``study gradients``: what they write, and what they refuse."""

import csv
import json
from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
from cifar_files import write_cifar
from small_runs import command, fit, refusal

from resnet_hub.nets.resnet import ResNet
from resnet_hub.studies import training

FILES = ["README.md", "figure.png", "figure.svg", "finding.json", "study.json"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(tmp_path_factory.mktemp("runs") / "run")


def found_by(capsys, *arguments: object) -> dict:
    capsys.readouterr()
    assert command("study", *arguments, "--json") == 0
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out)


def test_responses_of_runs_and_models_stand_in_one_folder(run: Path, tmp_path: Path, capsys):
    plain = ResNet("cifar_plain20", classes=[str(n) for n in range(10)], in_channels=1)
    plain.preprocess = ResNet.from_pretrained(run / "model").preprocess
    plain.save_pretrained(tmp_path / "plain")
    out = tmp_path / "out"
    flags = ("--data=Digits", "--images=40", "--out", out)
    finding = found_by(capsys, "responses", run, tmp_path / "plain", *flags)
    assert sorted(path.name for path in out.iterdir()) == sorted([*FILES, "responses.csv"])
    assert json.loads((out / "finding.json").read_text()) == finding
    assert [net["label"] for net in finding["responses"]] == ["cifar_resnet20", "cifar_plain20"]
    assert finding["provenance"]["n"] == 40
    with (out / "responses.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 19
    own = [float(row["std"]) for row in rows if row["net"] == "cifar_resnet20"]
    assert finding["responses"][0]["mean"] == pytest.approx(sum(own) / 19)
    page = (out / "README.md").read_text()
    assert all(sentence in page for sentence in (*finding["sentences"], *finding["limits"]))
    assert found_by(capsys, "responses", run, tmp_path / "plain", *flags) == finding


def test_two_models_of_one_row_are_told_apart(run: Path, tmp_path: Path, capsys):
    flags = ("--data=Digits", "--images=4", "--out", tmp_path / "out")
    finding = found_by(capsys, "responses", run, run / "model", *flags)
    labels = [net["label"] for net in finding["responses"]]
    assert labels == [f"cifar_resnet20 ({place})" for place in (run, run / "model")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["responses", "--data=Digits"], "study responses: of which models?"),
        (["responses", "RUN", "--images=many"], "--images: 'many' is no whole number"),
        (["responses", "RUN", "--lr=1"], "--lr: study responses takes --data…"),
        (["responses", "RUN/model"], "study responses: a model needs --data NAME"),
        (["responses", "RUN", "--out=other"], "--out other: holds a study of degradation"),
        (["responses", "RUN", "--out=a_file"], "--out a_file: is a file"),
        (["gradients", "--depths=21"], "--depths: gradients has no nets of 21; has 20, 32"),
        (["gradients", "--callbacks=[]"], "--callbacks: this study sets it"),
        (["gradients", "--dry-run", "--draw"], "--draw: goes without --dry-run"),
        (["gradients", "--draw", "--out=other"], "--out other: holds a study of degradation"),
        (["gradients", "--draw"], "--draw: studies/gradients holds no run of those asked for"),
        (["response"], "did you mean 'responses'?"),
    ],
)
def test_what_cannot_be_studied_is_refused_in_one_line(
    run: Path, tmp_path: Path, capsys, monkeypatch, arguments: list[str], message: str
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "study.json").write_text('{"study": "degradation"}')
    (tmp_path / "a_file").write_text("mine")
    arguments = [argument.replace("RUN", str(run)) for argument in arguments]
    assert message in refusal(capsys, "study", *arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a_file", "other"]
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["study.json"]


def test_a_dry_run_of_gradients_tells_its_runs(tmp_path: Path, capsys):
    flags = ("--depths=20", "--seeds=0,1", "--out", tmp_path / "out", "--dry-run")
    runs = found_by(capsys, "gradients", *flags)["runs"]
    names = [f"cifar_{kind}20-seed{seed}" for kind in ("plain", "resnet") for seed in (0, 1)]
    assert [own["name"] for own in runs] == names
    assert all(own["steps"] == 1000 for own in runs)
    assert all(any("gradients.Recorder" in word for word in own["command"]) for own in runs)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("code", [1, 143])
def test_gradients_of_which_nothing_was_measured_are_no_study(
    code: int, tmp_path: Path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "_run", lambda arguments, output: code)
    assert command("study", "gradients", "--steps=3") == code
    told = "the study is not finished; go on with: resnet-hub study gradients --steps=3"
    assert told in capsys.readouterr().err
    assert not (tmp_path / "studies").exists()


def test_gradients_are_trained_measured_and_found_once(tmp_path: Path, capsys, monkeypatch):
    def here(arguments: Sequence[str], output: int | None) -> int:
        with redirect_stdout(StringIO()):
            return command(*arguments)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "_run", here)  # in this process: a new one imports for seconds
    write_cifar(tmp_path / "data")
    flags = [
        *("gradients", "--depths=20", "--steps=3", "--out=out", "--data.root=data"),
        *("--data.download=false", "--data.batch_size=20", "--trainer.accelerator=cpu"),
    ]
    capsys.readouterr()
    assert command("study", *flags, "--json") == 0
    finding = json.loads(capsys.readouterr().out)
    runs = ["cifar_plain20-seed0", "cifar_resnet20-seed0"]
    assert sorted(p.name for p in Path("out").iterdir()) == sorted([*FILES, *runs, "gradients.csv"])
    assert [(fact["net"], fact["step"]) for fact in finding["gradients"]] == [
        (f"cifar_{kind}20", step) for kind in ("plain", "resnet") for step in (0, 3)
    ]
    with Path("out/gradients.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 4 * 20  # nets, steps 0 to 3, layers with the classifier
    first = next(row for row in rows if row["net"] == "cifar_plain20")
    assert float(first["response_gradient"]) == pytest.approx(
        finding["gradients"][0]["first_layer"]
    )
    assert any("3 of the paper's 64,000 steps" in limit for limit in finding["limits"])
    before = [(path, path.stat().st_mtime_ns) for path in Path("out/" + runs[0]).rglob("*")]
    assert command("study", *flags, "--json") == 0
    assert json.loads(capsys.readouterr().out) == finding
    assert [(path, path.stat().st_mtime_ns) for path, _ in before] == before
    assert command("study", "gradients", "--draw", "--out=out", "--json") == 0
    assert json.loads(capsys.readouterr().out) == finding  # of what was asked before
    (Path("out") / runs[1] / "gradients.csv").unlink()
    assert "was trained without gradients.csv" in refusal(capsys, "study", *flags, "--draw")
