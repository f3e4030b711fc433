"""A run's folder, and its rows of metrics."""

import threading
from pathlib import Path

import pytest
import yaml
from small_runs import TINY, command

from resnet_hub.errors import DataMissing, InvalidSetting
from resnet_hub.learning.run import MetricsFile, Run
from resnet_hub.learning.settings import NetSettings, Recipe

RECIPE = Recipe(seed=7, net=NetSettings(name="cifar_resnet20"), trainer={"max_epochs": 2})


def test_runs_of_a_recipe_are_numbered_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    folders = [Run.create(RECIPE, "digits").folder for _ in range(3)]
    assert folders == [Path("runs/digits/1"), Path("runs/digits/2"), Path("runs/digits/3")]
    assert Run.create(RECIPE, "other").folder == Path("runs/other/1")
    Path("runs/digits/2").rename("runs/digits/kept")
    Path("runs/digits/20").mkdir()
    assert Run.create(RECIPE, "digits").folder == Path("runs/digits/21")


def test_runs_that_begin_together_never_share_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    folders, gate = [], threading.Barrier(8)

    def begin() -> None:
        gate.wait()
        folders.append(Run.create(RECIPE, "digits").folder)

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(int(folder.name) for folder in folders) == list(range(1, 9))


def test_a_new_run_holds_its_whole_recipe(tmp_path: Path):
    run = Run.create(RECIPE, "digits", tmp_path / "a" / "b")
    assert yaml.safe_load(run.recipe.read_text()) == RECIPE.to_dict()
    assert run.checkpoints.is_dir()
    assert sorted(path.name for path in run.folder.iterdir()) == ["checkpoints", "recipe.yaml"]


def test_an_empty_folder_can_be_chosen_and_a_full_one_or_a_file_cannot(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    Run.create(RECIPE, "digits", tmp_path / "empty")
    (tmp_path / "file").write_text("mine")
    for name in ("empty", "file"):
        with pytest.raises(InvalidSetting, match=f"--out .*{name}: is there and not empty"):
            Run.create(RECIPE, "digits", tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_run_that_never_trained_is_forgotten_with_the_folders_made_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    Run.create(RECIPE, "digits").forget()
    Run.create(RECIPE, "digits", tmp_path / "a" / "b").forget()
    assert list(tmp_path.iterdir()) == []


def test_forgetting_leaves_the_folders_that_were_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    first = Run.create(RECIPE, "digits")
    Run.create(RECIPE, "digits").forget()
    assert [path.name for path in Path("runs/digits").iterdir()] == ["1"]
    assert first.recipe.is_file()
    (tmp_path / "mine").mkdir()
    Run.create(RECIPE, "digits", tmp_path / "mine").forget()
    assert (tmp_path / "mine").is_dir()
    assert list((tmp_path / "mine").iterdir()) == []


@pytest.mark.parametrize("name", ["metrics.csv", "checkpoints/last.ckpt", "notes.txt"])
def test_a_run_that_holds_anything_is_never_forgotten(tmp_path: Path, name: str):
    run = Run.create(RECIPE, "digits", tmp_path / "run")
    (run.folder / name).write_text("something")
    run.forget()
    assert (run.folder / name).read_text() == "something"
    assert run.recipe.is_file()


def test_a_run_that_was_found_is_never_forgotten(tmp_path: Path):
    Run.create(RECIPE, "digits", tmp_path / "run")
    Run.find(tmp_path / "run").forget()
    assert (tmp_path / "run" / "recipe.yaml").is_file()


def test_the_best_checkpoint_is_chosen_else_the_last(tmp_path: Path):
    run = Run.create(RECIPE, "digits", tmp_path / "run")
    with pytest.raises(DataMissing, match=r"run: no last\.ckpt was saved yet"):
        run.chosen()
    run.last.touch()
    assert run.chosen() == run.checkpoint() == run.last
    run.best.touch()
    assert run.chosen() == run.best
    assert run.checkpoint() == run.last


def test_a_folder_without_a_recipe_is_no_run(tmp_path: Path):
    with pytest.raises(DataMissing, match="no run"):
        Run.find(tmp_path)


def test_a_path_that_lightning_would_take_for_a_protocol_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "a::b").mkdir()
    with pytest.raises(InvalidSetting, match="'::' in a path"):
        Run.create(RECIPE, "digits", tmp_path / "a::b" / "run")
    monkeypatch.chdir(tmp_path / "a::b")
    with pytest.raises(InvalidSetting, match="'::' in a path"):
        Run.create(RECIPE, "digits")
    assert list((tmp_path / "a::b").iterdir()) == []


@pytest.mark.parametrize("name", ["räume", "a b", "{x}", "line\nbreak", "a:b", "-x", "100%"])
def test_a_folder_may_be_called_almost_anything(tmp_path: Path, name: str):
    assert command("fit", "quickstart", *TINY, "--out", tmp_path / name) == 0
    assert (tmp_path / name / "model/config.json").is_file()
    assert command("fit", "--resume", tmp_path / name) == 0
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.fixture
def metrics(tmp_path: Path) -> MetricsFile:
    file = MetricsFile(tmp_path / "metrics.csv")
    file.go_on_from(0)
    return file


def test_values_of_one_step_share_a_row_and_columns_come_as_they_first_appear(metrics: MetricsFile):
    metrics.log_metrics({"epoch": 0, "train/loss": 2.123456789, "lr": 0.1}, step=4)
    metrics.log_metrics({"epoch": 0, "train/loss": 1e-7}, step=9)
    metrics.log_metrics({"epoch": 0, "val/top1": 0.5}, step=9)
    assert metrics.filled
    metrics.write()
    assert metrics.path.read_text() == (
        "epoch,step,train/loss,lr,val/top1\n0,4,2.12346,0.1,\n0,9,1e-07,,0.5\n"
    )


def test_going_on_keeps_the_rows_before_a_step_and_drops_what_is_done_again(metrics: MetricsFile):
    for step in (1, 3, 5):
        metrics.log_metrics({"epoch": 0, "train/loss": step / 3}, step=step)
    metrics.finalize("failed")
    rows = metrics.path.read_text().splitlines(keepends=True)
    again = MetricsFile(metrics.path)
    again.go_on_from(4)
    again.write()
    assert metrics.path.read_text() == "".join(rows[:3])
    again.log_metrics({"epoch": 0, "train/loss": 5 / 3}, step=5)
    again.write()
    assert metrics.path.read_text() == "".join(rows)


def test_what_is_logged_outside_training_is_left_out(metrics: MetricsFile):
    metrics.log_metrics({"epoch": 0, "train/loss": 1.0}, step=0)
    metrics.finalize("success")
    rows = metrics.path.read_text()
    metrics.log_metrics({"epoch": 1, "test/top1": 1.0}, step=1)
    metrics.finalize("success")
    other = MetricsFile(metrics.path)  # of a run that is resumed with nothing left to train
    other.log_metrics({"epoch": 1, "test/top1": 1.0}, step=1)
    other.finalize("success")
    assert metrics.path.read_text() == rows


def test_nothing_logged_is_no_file(metrics: MetricsFile):
    metrics.finalize("success")
    assert not metrics.path.exists()
