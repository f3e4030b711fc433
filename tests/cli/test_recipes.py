"""Layers checked into recipes: keys, types and values, each refused with its place."""

import inspect
import subprocess
import sys
from pathlib import Path

import lightning as L
import pytest
import yaml
from small_runs import environment

from resnet_hub.cli.layers import Layer, packaged_recipes, read_file, read_flags
from resnet_hub.cli.recipes import check, read_recipe
from resnet_hub.cli.schema import trainer_options
from resnet_hub.cli.trainer import LEAST, OWN, STRATEGIES, check_trainer
from resnet_hub.errors import InvalidSetting
from resnet_hub.learning.settings import Recipe


@pytest.fixture
def recipe(tmp_path: Path):
    """Check a recipe of this text and these flags."""

    def read(text: str = "", *flags: str) -> Recipe:
        path = tmp_path / "recipe.yaml"
        path.write_text(text)
        return check(read_flags(flags)[0].over(read_file(path)))

    return read


def test_trainer_options_are_those_of_lightnings_signature():
    options = {field.name for field in trainer_options().__dataclass_fields__.values()}
    signature = inspect.signature(L.Trainer.__init__).parameters
    assert options == set(signature) - {"self"}
    assert set(OWN) | set(LEAST) <= options


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


@pytest.mark.parametrize("end", ["max_epochs: 3", "max_steps: 3", "max_epochs: -1, max_steps: 3"])
def test_epochs_or_steps_end_a_run(tmp_path: Path, end: str):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"trainer: {{{end}}}")
    assert read_recipe([str(path)], Layer()) == check(read_file(path))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("seed: 1\n", "recipe: "),
        ("seed: 1\ntrainer: {devices: 1}\n", "{path}:2: "),
        ("trainer:\n  max_time: 00:01:00:00\n", "{path}:1: "),
        ("trainer:\n  devices: 1\n  max_epochs: -1\n", "{path}:3: "),
        ("trainer: {max_steps: -1, max_epochs: null}\n", "{path}:1: "),
    ],
)
def test_a_run_without_an_end_is_refused_and_only_a_run(tmp_path: Path, text: str, place: str):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(InvalidSetting) as error:
        read_recipe([str(path)], Layer())
    wanted = "trainer: give max_epochs or max_steps, the length of the run (max_time can only end"
    assert str(error.value).startswith(place.format(path=path) + wanted)
    assert check(read_file(path)).seed in (0, 1)  # scoring needs no end


@pytest.mark.parametrize(
    "written", ["2024", "007", "1e3", "yes", "2001-01-01", "1:30", "=", ".inf"]
)
def test_what_is_text_is_taken_as_written(recipe, written: str):
    text = f"net: {{weights: {written}}}\ndata:\n  root: {written}\n  classes: [{written}, b]\n"
    in_flags = (f"--net.weights={written}", f"--data.root={written}")
    for found in (recipe(text), recipe("", *in_flags, f"--data.classes=[{written}, b]")):
        assert found.net.weights == found.data.root == written
        assert found.data.classes == (written, "b")
    whole = recipe("", f"--data={{name: Digits, root: {written}, classes: [{written}]}}").data
    assert (whole.root, whole.classes) == (written, (written,))


def test_null_is_no_text_unless_it_is_quoted(recipe):
    assert recipe("net: {weights: null}\ndata: {classes: null}").data.classes is None
    assert recipe("", "--net.weights=null").net.weights is None
    assert recipe("data: {root: 'null', classes: ['null']}").data.root == "null"
    assert recipe("", "--data.root='null'").data.root == "null"


def test_numbers_that_are_no_text_stay_numbers(recipe):
    found = recipe(
        "", "--data.held_out=10", "--data.scale=[9, 10]", "--trainer.devices=2", "--seed=7"
    )
    assert (found.data.held_out, found.data.scale, found.seed) == (10, (9, 10), 7)
    assert found.trainer == {"devices": 2}


def test_a_time_is_no_number_of_base_60(recipe):
    for time in ("1:12:00:00", "00:12:00:00", "{hours: 36}"):
        wanted = {"hours": 36} if time[0] == "{" else time
        assert recipe(f"trainer: {{max_time: {time}}}").trainer == {"max_time": wanted}
        with pytest.raises(InvalidSetting) as error:
            recipe("", f"--trainer.val_check_interval={time}")
        assert f"val_check_interval: {wanted!r} is no number of batches" in str(error.value)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_lightning_knows_the_strategies_that_run_here(strategy: str):
    check_trainer("strategy", strategy)
    options = {"accelerator": "cpu", "devices": 1, "logger": False, "enable_checkpointing": False}
    assert L.Trainer(strategy=strategy, **options).world_size == 1


@pytest.mark.parametrize(
    "option",
    [
        "limit_val_batches: 0",
        "limit_test_batches: 1",
        "limit_test_batches: 1.0",
        "limit_train_batches: 0.5",
        "val_check_interval: 0.5",
        "val_check_interval: 1.0",
        "val_check_interval: 30",
        "max_time: null",
        "check_val_every_n_epoch: null",
        "devices: auto",
        "num_nodes: 2",
        "deterministic: warn",
    ],
)
def test_trainer_options_that_work_are_taken_as_they_are(recipe, option: str):
    assert recipe(f"trainer: {{{option}}}").trainer == yaml.safe_load(option)


@pytest.mark.parametrize("path", sorted(packaged_recipes().glob("*.yaml")), ids=lambda p: p.stem)
def test_a_recipe_resolved_and_read_again_is_the_same(path: Path, tmp_path: Path):
    found = read_recipe([str(path)], Layer())
    resolved = tmp_path / "recipe.yaml"
    resolved.write_text(yaml.safe_dump(found.to_dict(), sort_keys=False))
    again = read_recipe([str(resolved)], Layer())
    assert again == found
    assert again.to_dict() == found.to_dict()


@pytest.mark.fault("P1")
@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("sed: 1\n", 1, "unknown key 'sed'; did you mean 'seed'?"),
        ("trainr: {max_epochs: 1}\n", 1, "unknown key 'trainr'; did you mean 'trainer'?"),
        ("xyzzy: 1\n", 1, "unknown key 'xyzzy'; known: callbacks, "),
        ("seed: 1\noptimizer:\n  lrr: 1\n", 3, "unknown key 'optimizer.lrr'; did you mean 'lr'?"),
        ("data:\n  rot: x\n", 2, "unknown key 'data.rot'; did you mean 'root'?"),
        ("trainer:\n  max_epoch: 1\n", 2, "'trainer.max_epoch'; did you mean 'max_epochs'?"),
        ("net: resnet51\n", 1, "net.name: no net is called 'resnet51'; did you mean 'resnet50'?"),
        ("net:\n  shortcut: E\n", 2, "net.shortcut: Expected a Literal['A', 'B', 'C', 'D']"),
        ("net:\n  form: preactt\n", 2, "Got value: preactt; did you mean 'preact'?"),
        ("net: {shortcut_gate: highway}\n", 1, "net.shortcut_gate: Expected a Literal['none', "),
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
        ("trainer: {max_steps: null}\n", 1, "trainer.max_steps: needs a value"),
        ("trainer:\n  devices:\n", 2, "trainer.devices: needs a value"),
        ("trainer: {accumulate_grad_batches: null}\n", 1, "grad_batches: needs a value"),
        ("trainer: {max_epochs: -2}\n", 1, "trainer.max_epochs: -2 is below -1"),
        ("trainer: {num_nodes: 0}\n", 1, "trainer.num_nodes: 0 is below 1"),
        ("trainer: {gradient_clip_val: -0.5}\n", 1, "gradient_clip_val: -0.5 is below 0"),
        ("trainer:\n  strategy: ddp_spawn\n", 2, "trainer.strategy: 'ddp_spawn' is none that runs"),
        ("trainer:\n  strategy: ddp_fork_find_unused_parameters_true\n", 2, "); use ddp"),
        ("trainer:\n  strategy: ddp_notebook\n", 2, "); use ddp"),
        ("trainer:\n  strategy: fsdp\n", 2, "); use ddp"),
        ("trainer:\n  strategy: {class_path: x}\n", 2, "trainer.strategy: Expected a str"),
        ("trainer: {deterministic: wran}\n", 1, "trainer.deterministic: Expected a bool or"),
        ("trainer: {max_time: 0}\n", 1, "trainer.max_time: '0' is no time above 0, written DD:"),
        ("trainer: {max_time: 00:00:00:00}\n", 1, "'00:00:00:00' is no time above 0"),
        ("trainer: {max_time: -01:00:00:00}\n", 1, "'-01:00:00:00' is no time above 0"),
        ("trainer: {max_time: {hours: -1}}\n", 1, "{'hours': -1} is no time above 0"),
        (f"trainer: {{max_time: {'9' * 5000}:00:00:00}}\n", 1, "is no time above 0"),
        ("trainer: {max_time: {hour: 1}}\n", 1, "{'hour': 1} is no time above 0"),
        ("trainer: {max_time: {days: 99999999999}}\n", 1, "is no time above 0"),
        ("trainer: {val_check_interval: 0}\n", 1, "0 is no number of batches between valid"),
        ("trainer: {val_check_interval: 0.0}\n", 1, "0 is no number of batches between valid"),
        ("trainer: {val_check_interval: -2}\n", 1, "val_check_interval: -2 is no number of"),
        ("trainer: {val_check_interval: 1.5}\n", 1, "1.5 is no share of the batches, from 0 to 1"),
        (
            "trainer: {val_check_interval: 00:00:00:00}\n",
            1,
            "val_check_interval: '00:00:00:00' is no number of",
        ),
        ("trainer: {limit_test_batches: 0}\n", 1, "limit_test_batches: 0 leaves nothing to score"),
        ("trainer: {limit_test_batches: 0.0}\n", 1, "0 leaves nothing to score"),
        ("trainer: {limit_train_batches: -1}\n", 1, "limit_train_batches: -1 is no number of"),
        ("trainer: {limit_val_batches: 1.1}\n", 1, "limit_val_batches: 1.1 is no share of the"),
        ("trainer: {limit_predict_batches: -0.1}\n", 1, "limit_predict_batches: -0.1 is no share"),
        ("optimizer: {lr: nan}\n", 1, "optimizer.lr: Expected a float. Got value: nan"),
        ("optimizer: {lr: 1e999}\n", 1, "optimizer.lr: "),
        ("trainer: {gradient_clip_val: nan}\n", 1, "trainer.gradient_clip_val: Expected a int or"),
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


@pytest.mark.fault("P1")
@pytest.mark.fault("P2")
@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        pytest.param("sede: 1\n", ":1: unknown key 'sede'; did you mean 'seed'?", id="section"),
        pytest.param("seed: 1\noptimizer: {lrr: 1}\n", ":2: unknown key 'optimizer.lrr'", id="key"),
        pytest.param("net:\n  name: resnet51\n", ":2: net.name: no net is called", id="value"),
        pytest.param("seed: 1\nseed: 2\n", ":2: seed stands there twice", id="twice"),
        pytest.param("optimizer:\n  lr: .nan\n", ":2: optimizer.lr: nan is no finite", id="nan"),
        pytest.param(
            "a: &a [x]\n" + "".join(f"{n}: &{n} [{'*a,' * 9}]\n" for n in "bcdefghi"),
            ":1: YAML anchors and aliases are not read",
            id="aliases",
        ),
        pytest.param("seed: " + "[" * 100_000, ":1: nested over 50 deep", id="deep"),
        pytest.param("seed: [" + "1," * 200_000, ":1: over 20,000 values", id="long"),
        pytest.param("seed: 1\n" * 20_000_000, ": over 512 KiB", id="large"),
    ],
)
def test_a_process_refuses_a_recipe_in_one_line_before_anything_slow_is_imported(
    tmp_path: Path, text: str, refusal: str
):
    (tmp_path / "recipe.yaml").write_text(text)
    code = (
        "import sys; from resnet_hub.cli.__main__ import main\n"
        "code = main(['fit', 'recipe.yaml'])\n"
        "print(*{'torch', 'lightning', 'numpy', 'matplotlib'} & sys.modules.keys()); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,  # a fraction of a second; an alias bomb that is built never ends
    )
    assert done.stderr.startswith(f"resnet-hub: recipe.yaml{refusal}")
    assert (done.returncode, done.stderr.count("\n"), done.stdout) == (1, 1, "\n")


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
    one.write_text("trainer: {max_epochs: 1}\noptimizer:\n  lr: fast\n")
    two.write_text("seed: 1\n\noptimizer:\n  momentum: 0.5\n")
    with pytest.raises(InvalidSetting, match=r"one\.yaml:3: optimizer\.lr"):
        read_recipe([str(one), str(two)], Layer())
    two.write_text("seed: 1\n\noptimizer:\n  lr: slow\n")
    with pytest.raises(InvalidSetting, match=r"two\.yaml:4: optimizer\.lr"):
        read_recipe([str(one), str(two)], Layer())
