"""``resnet-hub tune``: what it prints, draws, and leaves."""

import json
from pathlib import Path

import pytest
from PIL import Image
from small_runs import command, refusal, start

SHORT = ("--from=1e-4", "--to=1", "--steps=60")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_learning_rate_is_suggested_and_drawn_and_nothing_else_is_written(here: Path, capsys):
    assert command("tune", "quickstart", "lr", *SHORT, "--plot=found.png") == 0
    out, err = capsys.readouterr()
    assert err == ""
    told, tried, plot = out.splitlines()
    rate = float(told.split()[2])
    assert 1e-4 < rate < 1
    assert told.startswith(f"learning rate {rate:.2g} with 32 images a step: the steepest descent")
    assert tried == f"try it: --optimizer.lr {rate:.2g}"
    assert plot == "plot: found.png"
    assert [path.name for path in here.iterdir()] == ["found.png"]
    with Image.open("found.png") as picture:
        assert picture.size == (1050, 600)


def test_a_scaled_recipe_is_told_what_to_write_and_not_what_is_in_force(here: Path, capsys):
    flags = ("--optimizer.scaled=true", *SHORT)
    assert command("tune", "quickstart", "lr", *flags, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["step_images"] == 32
    assert found["setting"] == found["suggestion"] * 256 / 32
    assert list(here.iterdir()) == []


def test_no_suggestion_is_a_line_and_its_plot_is_drawn(here: Path, capsys):
    flags = ("--from=1e-9", "--to=1e-8", "--steps=30", "--plot=flat.png")
    assert command("tune", "quickstart", "lr", *flags) == 0
    line, plot = capsys.readouterr().out.splitlines()
    assert line.startswith("no suggestion: ")
    assert plot == "plot: flat.png"
    assert (here / "flat.png").is_file()


def test_a_batch_size_is_told_with_what_ended_the_search(here: Path, capsys):
    assert command("tune", "quickstart", "batch", "--most=4") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines() == [
        "batches of 4 images fit on cpu; nothing larger was tried",
        "try it: --data.batch_size 4; the learning rate does not follow it (optimizer.scaled)",
    ]
    assert command("tune", "quickstart", "batch", "--most=2", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {"size": 2, "is_edge": False, "device": "cpu"}
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["quickstart"], "tune: needs a recipe, then lr or batch"),
        (["lr"], "tune: needs a recipe, then lr or batch"),
        (["quickstart", "lr", "--steps=many"], "--steps: 'many' is no number"),
        (["quickstart", "lr", "--plot=a.jpg"], "--plot a.jpg: give a .png file"),
        (["quickstart", "lr", "--plot=no/a.png"], "--plot no/a.png: give a .png file in a folder"),
        (["quickstart", "lr", "--most=8"], "unknown key 'most'"),
        (["quickstart", "batch", "--plot=a.png"], "unknown key 'plot'"),
        (["quickstart", "batch"], "give --most"),
        (["quickstart", "lr", "--data=Folder", "--data.root=nowhere"], "nowhere"),
    ],
)
def test_what_it_cannot_do_is_one_line(here: Path, capsys, arguments: list[str], message: str):
    assert message in refusal(capsys, "tune", *arguments)
    assert list(here.iterdir()) == []


@pytest.mark.slow
def test_two_processes_search_as_one(here: Path):
    ddp = ("--trainer.accelerator=cpu", "--trainer.devices=2", "--trainer.strategy=ddp")
    with start("tune", "quickstart", "lr", *SHORT, *ddp, "--plot=a.png", "--json", cwd=here) as run:
        out, err = run.communicate(timeout=200)
    assert run.returncode == 0, err
    found = json.loads(out)
    assert (found["step_images"], len(found["rates"])) == (64, len(found["losses"]))
    assert [path.name for path in here.iterdir()] == ["a.png"]
