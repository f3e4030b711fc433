"""Layers checked into recipes: keys, types and values, each refused with its place."""

import inspect
from pathlib import Path

import lightning as L
import pytest
import yaml

from resnet_hub.cli.layers import Layer, packaged_recipes, read_flags
from resnet_hub.cli.recipes import OWN, check, read_recipe, trainer_options
from resnet_hub.errors import InvalidSetting
from resnet_hub.learning.settings import Recipe


@pytest.fixture
def recipe(tmp_path: Path):
    """Read a recipe of this text and these flags."""

    def read(text: str = "", *flags: str) -> Recipe:
        path = tmp_path / "recipe.yaml"
        path.write_text(text)
        return read_recipe([str(path)], read_flags(flags)[0])

    return read


def test_trainer_options_are_those_of_lightnings_signature():
    options = {field.name for field in trainer_options().__dataclass_fields__.values()}
    signature = inspect.signature(L.Trainer.__init__).parameters
    assert options == set(signature) - {"self"}
    assert set(OWN) <= options


def test_an_empty_recipe_has_every_default():
    assert check(Layer()) == Recipe()


def test_trainer_options_not_given_are_left_to_lightning(recipe):
    found = recipe("trainer: {max_epochs: 3, accumulate_grad_batches: 2}")
    assert found.trainer == {"max_epochs": 3, "accumulate_grad_batches": 2}
    assert recipe("trainer: {max_epochs: null}").trainer == {"max_epochs": None}


def test_values_become_their_settings_types(recipe):
    found = recipe(
        "optimizer: {lr: 1e-3, betas: [0.8, 0.9]}\n"
        "schedule: {name: multistep, milestones: [1, 2]}\n"
        "data: {classes: [a, b], held_out: 5000}\n"
        "trainer: {devices: [0, 1], limit_train_batches: 0.5, strategy: ddp}\n"
    )
    assert found.optimizer.lr == 0.001  # YAML itself reads a string there
    assert found.optimizer.betas == (0.8, 0.9)
    assert found.schedule.milestones == (1.0, 2.0)
    assert found.data.classes == ("a", "b")
    assert found.data.held_out == 5000
    assert found.trainer["devices"] == [0, 1]


def test_of_recipes_and_flags_the_later_one_wins(tmp_path: Path):
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text("seed: 1\noptimizer: {lr: 0.5, momentum: 0.5}\ntrainer: {max_epochs: 1}\n")
    two.write_text("optimizer: {lr: 0.25}\nmodel: {label_smoothing: 0.1}\n")
    flags, _ = read_flags(["--trainer.max_epochs=7"])
    found = read_recipe([str(one), str(two)], flags)
    assert (found.seed, found.optimizer.lr, found.optimizer.momentum) == (1, 0.25, 0.5)
    assert found.model.label_smoothing == 0.1
    assert found.trainer == {"max_epochs": 7}
    assert read_recipe([str(two), str(one)], Layer()).optimizer.lr == 0.5


@pytest.mark.parametrize("path", sorted(packaged_recipes().glob("*.yaml")), ids=lambda p: p.stem)
def test_a_recipe_resolved_and_read_again_is_the_same(path: Path, tmp_path: Path):
    found = read_recipe([str(path)], Layer())
    resolved = tmp_path / "recipe.yaml"
    resolved.write_text(yaml.safe_dump(found.to_dict(), sort_keys=False))
    again = read_recipe([str(resolved)], Layer())
    assert again == found
    assert again.to_dict() == found.to_dict()


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("sed: 1\n", 1, "unknown key 'sed'; did you mean 'seed'?"),
        ("trainr: {max_epochs: 1}\n", 1, "unknown key 'trainr'; did you mean 'trainer'?"),
        ("xyzzy: 1\n", 1, "unknown key 'xyzzy'; known: callbacks, data"),
        ("seed: 1\noptimizer:\n  lrr: 1\n", 3, "unknown key 'optimizer.lrr'; did you mean 'lr'?"),
        ("data:\n  rot: x\n", 2, "unknown key 'data.rot'; did you mean 'root'?"),
        ("trainer:\n  max_epoch: 1\n", 2, "'trainer.max_epoch'; did you mean 'max_epochs'?"),
        ("net: resnet51\n", 1, "net.name: no net is called 'resnet51'; did you mean 'resnet50'?"),
        ("net:\n  shortcut: D\n", 2, "net.shortcut: Expected a Literal['A', 'B', 'C']"),
        ("data: Cifar11\n", 1, "Got value: Cifar11; did you mean 'Cifar10'?"),
        ("optimizer: sdg\n", 1, "Got value: sdg; did you mean 'sgd'?"),
        ("schedule:\n  name: cosin\n", 2, "Got value: cosin; did you mean 'cosine'?"),
        ("trainer:\n  precision: bf16\n", 2, "Got value: bf16; did you mean 'bf16-mixed'?"),
        ("trainer: {max_epochs: many}\n", 1, "trainer.max_epochs: Expected a int. Got value: many"),
        ("trainer: {log_every_n_steps: 1.5}\n", 1, "trainer.log_every_n_steps: Expected a int"),
        ("optimizer:\n  lr: fast\n", 2, "optimizer.lr: Expected a float. Got value: fast"),
        ("optimizer:\n  lr: true\n", 2, "optimizer.lr: Expected a float. Got value: True"),
        ("optimizer:\n\n  lr: -1\n", 3, "optimizer.lr: -1.0 is not a number above 0"),
        ("optimizer: {betas: [0.9]}\n", 1, "optimizer.betas: Expected a tuple with 2 elements"),
        ("net: {stochastic_depth: 1.5}\n", 1, "net.stochastic_depth: 1.5 is not in [0, 1)"),
        ("seed: 1.5\n", 1, "seed: Expected a int. Got value: 1.5"),
        ("seed: null\n", 1, "seed: needs a number"),
        ("data:\n  root: null\n", 2, "data.root: needs a value"),
        ("optimizer:\n  lr:\n", 2, "optimizer.lr: needs a value"),
        ("seed: 1\ndata: null\n", 2, "data is a section of keys"),
        ("model: [compile]\n", 1, "model is a section of keys"),
        ("trainer: 3\n", 1, "trainer is a section of keys"),
        ("trainer:\n  accumulate_grad_batches: 0\n", 2, "accumulate_grad_batches: 0 is below 1"),
        ("trainer: {check_val_every_n_epoch: 0}\n", 1, "check_val_every_n_epoch: 0 is below 1"),
        ("trainer: {log_every_n_steps: -1}\n", 1, "log_every_n_steps: -1 is below 0"),
        ("callbacks: 3\n", 1, "callbacks is a list of class_path and init_args"),
        ("callbacks: [3]\n", 1, "callbacks is a list of class_path and init_args"),
        ("logger: [{class_pth: x}]\n", 1, "logger is a list of class_path and init_args"),
        ("callbacks: [{class_path: x, args: {}}]\n", 1, "callbacks is a list of class_path and"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_line_and_the_nearest(
    recipe, tmp_path: Path, text: str, line: int, message: str
):
    with pytest.raises(InvalidSetting) as error:
        recipe(text)
    assert str(error.value).startswith(f"{tmp_path / 'recipe.yaml'}:{line}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", sorted(OWN))
def test_a_trainer_option_that_a_run_sets_itself_is_refused_with_what_to_use(recipe, name: str):
    with pytest.raises(InvalidSetting, match=f":1: trainer.{name} is set by the run; ") as error:
        recipe(f"trainer: {{{name}: true}}")
    assert str(error.value).endswith(OWN[name])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--trainer.max_epoch=3"], "--trainer.max_epoch: unknown key 'trainer.max_epoch'; did"),
        (["--trainr.max_epochs=3"], "--trainr.max_epochs: unknown key 'trainr'; did you mean"),
        (["--data={name: Digits, rot: x}"], "--data: unknown key 'data.rot'; did you mean"),
        (["--seed.x=1"], "--seed.x: seed: Expected a int"),
        (["--optimizer.lr=fast"], "--optimizer.lr: optimizer.lr: Expected a float"),
        (["--=1"], "--: unknown key ''"),
    ],
)
def test_a_flag_that_cannot_be_meant_is_refused_by_its_name(recipe, flags: list, message: str):
    with pytest.raises(InvalidSetting) as error:
        recipe("net: resnet18", *flags)
    assert str(error.value).startswith(message)


def test_no_abbreviation_is_taken(recipe):
    for flag in ("--see=1", "--trainer.max_epoc=1", "--opt.lr=1"):
        with pytest.raises(InvalidSetting, match="unknown key"):
            recipe("", flag)


def test_the_places_of_merged_recipes_are_of_the_file_that_won(tmp_path: Path):
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text("optimizer:\n  lr: fast\n")
    two.write_text("seed: 1\n\noptimizer:\n  momentum: 0.5\n")
    with pytest.raises(InvalidSetting, match=r"one\.yaml:2: optimizer\.lr"):
        read_recipe([str(one), str(two)], Layer())
    two.write_text("seed: 1\n\noptimizer:\n  lr: slow\n")
    with pytest.raises(InvalidSetting, match=r"two\.yaml:4: optimizer\.lr"):
        read_recipe([str(one), str(two)], Layer())
