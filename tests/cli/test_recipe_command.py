"""``resnet-hub recipe``: recipes listed, shown, compared and checked."""

from pathlib import Path

import pytest
from small_runs import command, fit, refusal

from resnet_hub.cli.layers import Layer, packaged_recipes
from resnet_hub.cli.recipes import read_recipe

RECIPES = sorted(packaged_recipes().glob("*.yaml"))
WHOLE = """# A net of twenty layers.
#
# Paper     1512.03385 §4.2
# Command   resnet-hub fit recipe.yaml
# Expect    not measured here yet
# Differs   in nothing
net: cifar_resnet20
data:
  name: Digits
  batch_size: 32
schedule:
  name: constant
trainer:
  devices: 1
  max_epochs: 10
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def out(capsys, *arguments: object, code: int = 0) -> str:
    capsys.readouterr()
    assert command("recipe", *arguments) == code
    text, err = capsys.readouterr()
    assert err == ""
    return text


@pytest.fixture
def linted(here: Path, capsys):
    """The lines that lint prints of a recipe, and its exit code; its text may be changed first."""

    def lint(*changes: tuple[str, str], flags: tuple[str, ...] = ()) -> tuple[list[str], int]:
        text = WHOLE
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        Path("recipe.yaml").write_text(text)
        capsys.readouterr()
        code = command("recipe", "lint", "recipe.yaml", *flags)
        return capsys.readouterr().out.splitlines(), code

    return lint


def test_without_more_it_lists_the_packages_recipes_with_their_titles(capsys):
    lines = dict(line.split(maxsplit=1) for line in out(capsys).splitlines())
    assert list(lines) == [path.stem for path in RECIPES]
    assert lines["quickstart"].startswith("Handwritten digits in a minute: ")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_what_is_shown_is_the_same_recipe_with_its_opening(path: Path, here: Path, capsys):
    text = out(capsys, "show", path.stem)
    Path("shown.yaml").write_text(text)
    assert read_recipe(["shown.yaml"], Layer()) == read_recipe([str(path)], Layer())
    header = path.read_text().partition("seed:")[0]
    assert text.startswith(header + "seed: ")
    assert out(capsys, "diff", path, "shown.yaml") == ""


def test_what_is_shown_names_what_was_laid_over_it(here: Path, capsys):
    Path("smooth.yaml").write_text("# Smoother.\nmodel: {label_smoothing: 0.25}\n")
    text = out(capsys, "show", "quickstart", "smooth.yaml", "--optimizer.lr=0.05")
    opening = ["# Smoother.", "# Over      quickstart.yaml", "# Changed   optimizer.lr: 0.05"]
    assert text.splitlines()[:4] == [*opening, "seed: 1"]
    Path("shown.yaml").write_text(text)
    found = read_recipe(["shown.yaml"], Layer())
    assert (found.model.label_smoothing, found.optimizer.lr) == (0.25, 0.05)


def test_a_difference_is_a_line_with_both_values(here: Path, capsys):
    other = WHOLE.replace("devices: 1", "precision: bf16-mixed")
    other = other.replace("name: constant", "name: multistep\n  milestones: [3, 5]")
    Path("one.yaml").write_text(WHOLE)
    Path("two.yaml").write_text(other)
    assert out(capsys, "diff", "one.yaml", "two.yaml").splitlines() == [
        'schedule.name: "constant" -> "multistep"',
        "schedule.milestones: [] -> [3.0, 5.0]",
        "trainer.devices: 1 -> not given",
        'trainer.precision: not given -> "bf16-mixed"',
    ]


def test_a_runs_folder_stands_for_its_recipe(here: Path, capsys):
    fit(here / "run", "--optimizer.lr=0.05", "--data.pad=2")
    capsys.readouterr()
    lines = out(capsys, "diff", "quickstart", "run").splitlines()
    assert lines[:2] == ["data.pad: 1 -> 2", "optimizer.lr: 0.1 -> 0.05"]
    assert all(line.startswith("trainer.") for line in lines[2:])
    assert "lr: 0.05\n" in out(capsys, "show", "run")


def test_every_recipe_of_the_package_is_without_an_error(capsys):
    out(capsys, "lint", *RECIPES)


def test_a_recipe_that_is_whole_has_nothing_said_of_it(linted):
    assert linted() == (["recipe.yaml: nothing to say"], 0)


def test_all_that_fit_would_refuse_is_told_at_once_each_with_its_line(linted):
    lines, code = linted(
        ("  name: constant", "  name: constnt\n  gama: 2"),
        ("batch_size: 32", "batchsize: 32"),
        ("max_epochs: 10", "max_epochs: 10\nmodel: {label_smoothing: 1.5}"),
        ("devices: 1", "logger: true"),
    )
    assert code == 1
    text = "\n".join(lines)
    for part in (
        "recipe.yaml:10: unknown key 'data.batchsize'; did you mean 'batch_size'?",
        "recipe.yaml:13: unknown key 'schedule.gama'; did you mean 'gamma'?",
        "recipe.yaml:12: schedule.name: ",
        "recipe.yaml:15: trainer.logger is set by the run",
        "recipe.yaml:17: model.label_smoothing: 1.5 is not in [0, 1)",
    ):
        assert part in text
    assert len(lines) == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("  max_epochs: 10\n", ""), "recipe.yaml:13: trainer: give max_epochs or max_steps"),
        (("trainer:\n  devices: 1\n  max_epochs: 10\n", ""), "recipe.yaml:1: trainer: give max_"),
        (("max_epochs: 10", "max_epoch: 10"), "recipe.yaml:15: unknown key 'trainer.max_epoch'"),
        (("batch_size: 32", "batch_size: 0"), "recipe.yaml:10: data.batch_size: must be at least"),
        (
            ("devices: 1", "accelerator: cpu\n  precision: 16-mixed"),
            "recipe.yaml:15: trainer.precision: 16-mixed on a CPU would be bf16",
        ),
        (
            ("devices: 1", "devices: 2\n  accelerator: cpu\n  sync_batchnorm: true"),
            "recipe.yaml:16: trainer.sync_batchnorm: torch has it for GPUs alone",
        ),
        (("data:", "data: ["), "recipe.yaml:10: not YAML"),
        (("net: cifar_resnet20", "net: cifar_resnet21"), "did you mean"),
    ],
)
def test_what_fit_would_refuse_is_one_line_and_the_code_is_1(linted, change, message: str):
    lines, code = linted(change)
    assert code == 1
    assert len(lines) == 1
    assert message in lines[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("devices: 1\n", "log_every_n_steps: 10\n"), "13: warning: trainer.devices: not given"),
        (("  batch_size: 32\n", ""), "8: warning: data.batch_size: not given; 128 is taken"),
        (("net: cifar_resnet20\n", ""), "1: warning: net: neither name nor weights"),
        (
            ("name: constant", "name: multistep\n  milestones: [5, 10, 15]"),
            "13: warning: schedule.milestones: 10, 15 never comes: trainer.max_epochs is 10",
        ),
        (
            ("name: constant", "name: cosine\n  milestones: [5]"),
            "13: warning: schedule.milestones: cosine has none",
        ),
        (
            ("name: constant", "name: cosine\n  warmup: 10"),
            "13: warning: schedule.warmup: 10 is not shorter than the run",
        ),
        (
            (
                "  batch_size: 32\n",
                "  batch_size: 32\n  sampling: balanced\nmodel:\n  class_weights: balanced\n",
            ),
            "11: warning: data.sampling: balanced, and model.class_weights count rare classes",
        ),
        (
            ("# Expect    not measured here yet\n", ""),
            "1: warning: its opening comment lacks Expect",
        ),
        (
            ("# Paper     1512.03385 §4.2\n", ""),
            "1: warning: its opening comment lacks Paper",
        ),
        (("fit recipe.yaml", "fit other.yaml"), "1: warning: its Command is for other.yaml"),
    ],
)
def test_what_is_odd_is_a_warning_and_the_code_is_0(linted, change, message: str):
    lines, code = linted(change)
    assert code == 0
    assert len(lines) == 1
    assert lines[0].startswith(f"recipe.yaml:{message}")


def test_a_recipe_without_an_opening_is_told_once(here: Path, capsys):
    Path("bare.yaml").write_text(WHOLE[WHOLE.index("net:") :])
    (line,) = out(capsys, "lint", "bare.yaml").splitlines()
    assert line.startswith("bare.yaml:1: warning: opens with no comment")


def test_a_length_in_the_other_unit_says_nothing_of_milestones(linted):
    steps = ("name: constant", "name: multistep\n  unit: iterations\n  milestones: [32000]")
    assert linted(steps)[0] == ["recipe.yaml: nothing to say"]
    lines, _ = linted(steps, ("max_epochs: 10", "max_steps: 32000"))
    assert "32000 never comes: trainer.max_steps is 32000" in lines[0]


def test_flags_are_laid_over_each_recipe(linted):
    lines, code = linted(flags=("--trainer.max_epoch=3",))
    assert code == 1
    assert lines == [
        "--trainer.max_epoch: unknown key 'trainer.max_epoch'; did you mean 'max_epochs'?"
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["shw"], "'shw' is nothing to do with recipes; did you mean 'show'?"),
        (["show"], "recipe show: needs a recipe"),
        (["diff", "quickstart"], "recipe diff: needs two recipes"),
        (["show", "quickstar"], "no such recipe file; did you mean 'quickstart'?"),
        (["show", "quickstart", "--net.nam=x"], "unknown key 'net.nam'"),
    ],
)
def test_what_it_cannot_do_is_one_line(here: Path, capsys, arguments: list[str], message: str):
    assert message in refusal(capsys, "recipe", *arguments)
