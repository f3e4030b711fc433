"""``resnet-hub study``: what is trained, never again, gone on with, refused, drawn and found."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from small_runs import command, refusal

from resnet_hub.cli.study_runs import plan
from resnet_hub.studies import training
from resnet_hub.studies.conclusion import conclude
from resnet_hub.studies.designs import DESIGNS
from resnet_hub.studies.outcomes import read_outcome
from resnet_hub.studies.pictures import draw_study
from resnet_hub.weights.card import read_card

FLAGS = (
    *("--depths", "20", "--steps", "8", "--data", "Digits", "--data.pad", "1"),
    *("--data.batch_size", "256", "--trainer.accelerator", "cpu"),
    *("--trainer.log_every_n_steps", "1"),
)
NAMES = ("cifar_plain20-seed0", "cifar_resnet20-seed0")


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Let runs go on in this process, and keep what was trained."""
    seen: list[tuple[str, ...]] = []

    def run(arguments: tuple[str, ...], output: int | None) -> int:
        seen.append(tuple(arguments))
        return command(*arguments)

    monkeypatch.setattr(training, "_run", run)
    return seen


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of two nets on digits."""
    out = tmp_path_factory.mktemp("study") / "degradation"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "_run", lambda arguments, output: command(*arguments))
        assert command("study", "degradation", *FLAGS, "--out", out) == 0
    return out


@pytest.fixture
def study(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "study"))


def test_a_study_is_ordinary_runs_with_a_figure_a_finding_and_a_page(whole: Path):
    files = {"study.json", "figure.png", "figure.svg", "finding.json", "README.md"}
    assert {path.name for path in whole.iterdir()} == files | set(NAMES)
    recipe = yaml.safe_load((whole / NAMES[0] / "recipe.yaml").read_text())
    assert recipe["schedule"]["milestones"] == [4, 6]
    assert (recipe["data"]["held_out"], recipe["trainer"]["max_steps"]) == (0, 8)
    assert (whole / "figure.png").read_bytes()[:4] == b"\x89PNG"
    svg = (whole / "figure.svg").read_text()
    for text in ("plain-20", "ResNet-20", "iterations", "top-1 error (%)"):
        assert text in svg


def test_the_finding_is_computed_from_the_runs(whole: Path):
    finding = json.loads((whole / "finding.json").read_text())
    page = (whole / "README.md").read_text()
    for name, net in zip(NAMES, finding["nets"], strict=True):
        score = read_card(whole / name / "model").provenance.scores[0]
        assert net["test"]["error"] == pytest.approx(1 - score.top1)
        assert (net["test"]["n"], net["test"]["std"]) == (360, None)
        assert f"{100 * (1 - score.top1):.2f} % (" in page
        rows = (whole / name / "metrics.csv").read_text().splitlines()
        column = rows[0].split(",").index("train/top1")
        last = [cells[column] for row in rows[1:] if (cells := row.split(","))[column]][-1]
        assert net["train"]["error"] == pytest.approx(1 - float(last))
    origin = finding["provenance"]
    assert (origin["data"], origin["n"], origin["steps"]) == (["Digits test"], [360], [8])
    assert any("8 of the paper's 64,000 steps (0.01%)" in line for line in finding["limits"])
    for line in (*finding["sentences"], *finding["limits"], origin["command"]):
        assert line in page


def test_what_is_finished_is_never_trained_again_and_its_folder_not_touched(study: Path, trained):
    before = {p: p.stat().st_mtime_ns for name in NAMES for p in (study / name).rglob("*")}
    assert command("study", "degradation", *FLAGS, "--data.root=else", "--out", study) == 0
    assert trained == []
    after = {p: p.stat().st_mtime_ns for name in NAMES for p in (study / name).rglob("*")}
    assert after == before


def test_a_stopped_run_is_gone_on_with_and_a_missing_one_begins(study: Path, trained):
    shutil.rmtree(study / NAMES[0] / "model")
    shutil.rmtree(study / NAMES[1])
    assert command("study", "degradation", *FLAGS, "--out", study) == 0
    assert trained[0] == ("fit", "--resume", str(study / NAMES[0]))
    assert trained[1][:2] == ("fit", "cifar10_resnet20")
    assert all((study / name / "model").is_dir() for name in NAMES)


def test_runs_by_another_recipe_are_refused_before_anything_is_trained(
    study: Path, trained, capsys
):
    shutil.rmtree(study / NAMES[1])
    told = refusal(capsys, "study", "degradation", *FLAGS, "--optimizer.lr=0.2", "--out", study)
    assert told == (
        f"{study / NAMES[0]}: a run by another recipe lies there (optimizer.lr: 0.1 there, 0.2 "
        "asked); ask for what it was trained by, or for another --out"
    )
    assert trained == []
    assert not (study / NAMES[1]).exists()


def test_draw_takes_what_is_there_and_says_what_is_not_finished(study: Path, trained, capsys):
    shutil.rmtree(study / NAMES[1] / "model")
    (study / "finding.json").unlink()
    capsys.readouterr()
    assert command("study", "degradation", "--draw", "--out", study, "--json") == 0
    finding = json.loads(capsys.readouterr().out)
    assert trained == []
    assert finding == json.loads((study / "finding.json").read_text())
    assert finding["limits"][0].startswith("cifar_resnet20-seed0 is not finished (step 8 of 8)")
    assert [run["state"] for net in finding["nets"] for run in net["runs"]] == [
        "finished",
        "stopped",
    ]
    assert finding["differences"] == []


def test_a_dry_run_tells_each_command_and_writes_nothing(tmp_path: Path, trained, capsys):
    out = tmp_path / "new"
    assert (
        command("study", "units", *FLAGS, "--seeds=0,1", "--out", out, "--dry-run", "--json") == 0
    )
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert len(runs) == 10
    assert {run["state"] for run in runs} == {"missing"}
    assert runs[0]["command"][:3] == ["resnet-hub", "fit", "cifar10_preact110"]
    assert runs[3]["command"][-1] == f"--out={out}/cifar_resnet20-bn_after_addition-seed1"
    assert not out.exists()


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--seed=1",), "--seed: a study sets it; by --seeds"),
        (("--net=cifar_resnet20",), "--net.name: a study sets it; by --depths"),
        (("--data.held_out=5",), "--data.held_out: a study sets it; by 0: the last step counts"),
        (("--steps=0",), "--steps: '0' is no number of optimizer steps"),
        (("--seeds=0,0",), "--seeds: '0,0' is no list of whole numbers, such as 20,56"),
        (("--depths",), "--depths: needs a value"),
        (("cifar10",), "'cifar10': only flags are taken here, --key value"),
        (("--optimiser.lr=1",), "unknown key 'optimiser'"),
        (("--draw",), "holds no run of this study yet"),
        (("--draw", "--dry-run"), "--draw: goes without --dry-run, which draws nothing"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_a_line(flags, told, tmp_path, capsys):
    out = tmp_path / "none"
    assert told in refusal(capsys, "study", "degradation", *flags, "--out", out)
    assert not out.exists()


def test_a_key_that_a_study_compares_is_refused(tmp_path: Path, capsys):
    told = refusal(capsys, "study", "shortcuts", "--net.shortcut=B", "--out", tmp_path / "x")
    assert told == "--net.shortcut: it is what this study compares; leave it out"


def test_another_studys_folder_and_a_broken_study_json_are_refused(study: Path, capsys):
    told = refusal(capsys, "study", "depth", "--out", study)
    assert told == f"--out {study}: holds a study of degradation; choose another folder"
    (study / "study.json").write_text("{")
    assert "not what a study asks" in refusal(capsys, "study", "degradation", "--out", study)


@pytest.mark.parametrize("name", ["README.md", "figure.png", "finding.json"])
def test_files_of_other_hands_are_not_overwritten(name: str, tmp_path: Path, trained, capsys):
    (tmp_path / name).write_text("mine")
    told = refusal(capsys, "study", "degradation", *FLAGS, "--out", tmp_path)
    assert told == f"--out {tmp_path}: {name} there is of no study; choose another folder"
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"
    told = refusal(capsys, "study", "degradation", *FLAGS, "--out", tmp_path / name)
    assert told == f"--out {tmp_path / name}: is a file; choose another folder"
    assert trained == []


def test_an_unknown_study_is_refused_with_the_nearest(capsys):
    assert refusal(capsys, "study", "degradate") == (
        "no study is called 'degradate'; did you mean 'degradation'?"
    )


def test_the_help_pages_print(capsys):
    for arguments in (["study"], ["study", "gates", "--help"], ["reproduce", "--help"]):
        assert command(*arguments) == 0
        assert capsys.readouterr().out.startswith("usage: resnet-hub ")


def test_a_short_study_has_whole_iterations_below_its_curves(whole: Path, tmp_path: Path):
    design = DESIGNS["degradation"]
    runs = plan(design.members((20,)), {"steps": "8"}, [], tmp_path)
    for run in runs:
        shutil.copytree(whole / run.name, run.folder)
    outcomes = [read_outcome(run) for run in runs]
    last = [replace(o, train=([8.0], [0.9]), test=([8.0], [0.8])) for o in outcomes]
    for drawn in (outcomes, last):
        figure = draw_study(design, drawn)
        ticks = [tick for axes in figure.axes for tick in axes.get_xticks()]
        assert ticks == [int(tick) for tick in ticks]


@pytest.mark.parametrize(
    ("name", "depths", "compared"),
    [("shortcuts", (56,), 2), ("units", (110,), 4), ("gates", (110,), 10), ("depth", (20, 32), 1)],
)
def test_every_study_draws_and_compares(name, depths, compared, whole: Path, tmp_path: Path):
    """Each member is given the numbers of one real run, as its own would take hours."""
    design = DESIGNS[name]
    runs = plan(design.members(depths), {"steps": "8"}, [], tmp_path)
    for run in runs:
        shutil.copytree(whole / NAMES[0], run.folder)
    finding = conclude(design, runs, tmp_path, command="none")
    found = [d for d in finding["differences"] if d["split"] == "test"]
    assert len(found) == compared
    assert {(d["difference"], d["verdict"]) for d in found} == {(0.0, "undecided")}
    picture = (tmp_path / "figure.svg").read_text()
    assert all(run.member.label in picture for run in runs)
