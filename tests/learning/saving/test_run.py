"""A run's folder."""

import threading
from pathlib import Path

import pytest
import yaml
from small_runs import TINY, command

from resnet_hub.errors import DataMissing, InvalidSetting, ResNetHubError
from resnet_hub.learning.saving import run as run_module
from resnet_hub.learning.saving.run import Run
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
    names = sorted(path.name for path in run.folder.iterdir())
    assert names == [".lock", "checkpoints", "recipe.yaml"]


def test_an_empty_folder_can_be_chosen_and_a_full_one_or_a_file_cannot(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    Run.create(RECIPE, "digits", tmp_path / "empty").step_at(1).mkdir()
    (tmp_path / "file").write_text("mine")
    for name in ("empty", "file"):
        with pytest.raises(InvalidSetting, match=f"--out .*{name}: is there and not empty"):
            Run.create(RECIPE, "digits", tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("name", ["metrics.csv", "curves.png"])
def test_a_folder_where_a_run_writes_a_file_is_no_place_for_one(tmp_path: Path, name: str):
    (tmp_path / name).mkdir()
    with pytest.raises(InvalidSetting, match="is there and not empty"):
        Run.create(RECIPE, "digits", tmp_path)
    with pytest.raises(InvalidSetting, match=f"{name}: a folder, where the run writes a file"):
        Run(tmp_path).check_places()


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


@pytest.mark.parametrize("name", ["metrics.csv", "checkpoints/step-00000001", "notes.txt"])
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
    with pytest.raises(DataMissing, match=r"run: no checkpoint was saved yet"):
        run.chosen()
    assert not run.is_saved()
    run.step_at(9).mkdir()
    run.step_at(123456789).mkdir()
    assert run.is_saved()
    assert run.chosen() == run.newest() == run.step_at(123456789)
    run.best_at(4).mkdir()
    assert run.chosen() == run.best_at(4)
    assert run.newest() == run.step_at(123456789)


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


def test_a_disk_that_refuses_leaves_no_half_of_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(path: Path, text: str) -> None:
        raise ResNetHubError(f"{path}: could not be written (No space left on device)")

    monkeypatch.setattr(run_module, "write_text", full)
    with pytest.raises(ResNetHubError, match="No space left"):
        Run.create(RECIPE, "digits", tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["räume", "a b", "{x}", "line\nbreak", "a:b", "-x", "100%", "\udcff"]
)
def test_a_folder_may_be_called_almost_anything(tmp_path: Path, name: str):
    assert command("fit", "quickstart", *TINY, "--out", tmp_path / name) == 0
    assert (tmp_path / name / "model/config.json").is_file()
    assert command("fit", "--resume", tmp_path / name) == 0
    assert [path.name for path in tmp_path.iterdir()] == [name]
