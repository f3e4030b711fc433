"""``resnet-hub plot``: which runs it takes, and what it refuses."""

from pathlib import Path

import pytest
from PIL import Image
from small_runs import command, fit, refusal


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        fit(home / str(seed), "--seed", seed)
    return home


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_a_folder_of_runs_stands_for_them_and_each_counts_once(
    runs: Path, tmp_path: Path, capsys, ending: str
):
    out = tmp_path / f"all.{ending}"
    capsys.readouterr()
    flags = ("--x", "time", "--y", "loss", "--out", out)
    assert command("plot", runs, runs / "1", *flags) == 0
    assert capsys.readouterr().out == (
        f"cifar_resnet20: {runs / '0'}, {runs / '1'}\ndrawn: {out}\n"
    )
    if ending == "svg":
        assert "cifar_resnet20, 2 runs, mean ± std" in out.read_text("utf-8")
    else:
        with Image.open(out) as picture:
            assert picture.format == "PNG"


def test_what_is_no_run_is_refused_and_nothing_drawn(tmp_path: Path, capsys):
    out = tmp_path / "plot.png"
    assert "no run, and none in it" in refusal(capsys, "plot", tmp_path, "--out", out)
    assert not out.exists()


def test_a_run_that_logged_nothing_is_refused(runs: Path, tmp_path: Path, capsys):
    young = tmp_path / "young"
    young.mkdir()
    (young / "recipe.yaml").write_text((runs / "0" / "recipe.yaml").read_text())
    assert "has logged nothing yet" in refusal(capsys, "plot", young)
    assert "none of its runs has logged anything" in refusal(capsys, "plot", tmp_path)


def test_what_is_no_recipe_is_refused_by_its_name(tmp_path: Path, capsys):
    (tmp_path / "recipe.yaml").write_text("net: {depth: 3}\n")
    assert f"{tmp_path / 'recipe.yaml'}: not a run's recipe" in refusal(capsys, "plot", tmp_path)


def test_other_endings_and_choices_are_refused(runs: Path, tmp_path: Path, capsys):
    assert "neither .png nor .svg" in refusal(capsys, "plot", runs, "--out", tmp_path / "a.pdf")
    assert "--y: invalid choice" in refusal(capsys, "plot", runs, "--y", "top1")
