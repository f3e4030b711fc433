"""Runs and checkpoints as model folders."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_runs import TINY, checkpoint, command, fit

from resnet_hub.errors import CorruptFile, DataMissing, Diverged, InvalidSetting, WeightsMismatch
from resnet_hub.learning.classifier import Classifier
from resnet_hub.learning.export import export, finished_epochs, trained_net
from resnet_hub.learning.saving.checkpoints import (
    numbered,
    read_training_checkpoint,
    write_checkpoint,
)
from resnet_hub.nets.resnet import ResNet
from resnet_hub.weights.card import read_card

LONG = "--trainer.max_epochs=9"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    flags = ("--trainer.max_epochs=2", "--model.ema_decay=0.5", "--seed=5")
    return fit(tmp_path_factory.mktemp("runs") / "run", *flags)


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the run, to be changed."""
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


def newest(run: Path, kind: str = "step") -> Path:
    return numbered(run / "checkpoints", kind)[0][1]


class Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


def averaged(content: dict, prefix: str = "averaged.module.") -> dict:
    state = content["state_dict"]
    return {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}


def equal(folder: Path, tensors: dict) -> bool:
    found = load_file(folder / "model.safetensors")
    assert found.keys() == tensors.keys()
    return all(torch.equal(tensor, tensors[name]) for name, tensor in found.items())


def test_a_finished_run_gives_its_model_and_what_its_card_says(trained: Path, tmp_path: Path):
    card = export(trained, tmp_path / "model")
    assert card == read_card(tmp_path / "model") == read_card(trained / "model")
    name = "model.safetensors"
    assert (tmp_path / "model" / name).read_bytes() == (trained / "model" / name).read_bytes()


def test_an_unfinished_run_gives_its_best_checkpoints_average(run: Path, tmp_path: Path):
    shutil.rmtree(run / "model")
    card = export(run, tmp_path / "model")
    assert equal(tmp_path / "model", averaged(checkpoint(run, "best")))
    assert not equal(tmp_path / "model", averaged(checkpoint(run, "best"), "net."))
    assert card.provenance.epochs == checkpoint(run, "best")["epoch"] + 1
    assert card.provenance.seed == 5
    assert card.provenance.recipe["net"]["name"] == "cifar_resnet20"
    assert card.provenance.scores == ()
    assert card.labels == tuple("0123456789")


def test_without_a_best_checkpoint_the_last_is_given(run: Path, tmp_path: Path):
    shutil.rmtree(run / "model")
    shutil.rmtree(newest(run, "best"))
    card = export(run, tmp_path / "model")
    assert equal(tmp_path / "model", averaged(checkpoint(run)))
    assert card.provenance.epochs == 2


def test_a_checkpoint_alone_is_enough_wherever_it_lies(run: Path, tmp_path: Path):
    alone = tmp_path / "elsewhere"
    newest(run).rename(alone)
    card = export(alone, tmp_path / "model")
    assert equal(tmp_path / "model", averaged(read_training_checkpoint(alone)))
    assert card.provenance.recipe["net"]["name"] == "cifar_resnet20"
    assert (card.provenance.seed, card.provenance.epochs) == (5, 2)
    assert str(alone) in card.provenance.source
    assert ResNet.from_pretrained(tmp_path / "model").labels == tuple("0123456789")


def test_a_checkpoint_that_tells_no_recipe_and_no_progress_leaves_them_unknown(
    run: Path, tmp_path: Path
):
    path, content = tmp_path / "old", checkpoint(run)
    del content["recipe"], content["loops"]
    write_checkpoint(path, content)
    origin = export(path, tmp_path / "model").provenance
    assert (origin.recipe, origin.seed, origin.epochs) == (None, None, None)


@pytest.mark.parametrize("text", [b"net: [", b"\xff\xfe", b"- a\n- b", b"", b"&a [*a]", b"seed: x"])
def test_whatever_became_of_the_recipes_file_a_checkpoint_holds_its_own(
    run: Path, tmp_path: Path, text: bytes
):
    expected = export(newest(run), tmp_path / "model")
    (run / "recipe.yaml").write_bytes(text)
    assert export(newest(run), tmp_path / "model") == expected


@pytest.mark.parametrize(
    ("flags", "stop", "last", "best"),
    [
        pytest.param(("--trainer.max_epochs=2",), None, 2, None, id="whole"),
        pytest.param(("--trainer.max_epochs=3",), 3, 1, 1, id="stopped in the second epoch"),
        pytest.param(("--trainer.max_epochs=3",), 0, 0, None, id="stopped in the first"),
        pytest.param((LONG, "--trainer.max_steps=5"), None, 1, 1, id="cut by steps"),
        pytest.param(
            (LONG, "--trainer.max_steps=6"), None, 2, None, id="steps that fill two epochs"
        ),
        pytest.param(
            (LONG, "--trainer.max_steps=4", "--trainer.val_check_interval=1"),
            *(None, 1, None),
            id="validated at each step",
        ),
    ],
)
def test_only_whole_epochs_are_counted(
    tmp_path: Path, flags: tuple[str, ...], stop: int | None, last: int, best: int | None
):
    run, code = tmp_path / "run", 0
    flags = (*TINY, "--trainer.limit_train_batches=3", *flags)
    if stop is not None:
        settings = {"mark": str(tmp_path / "mark"), "batch": stop}
        entry = {"class_path": "interruption.SignalAt", "init_args": settings}
        flags, code = (*flags, "--callbacks", json.dumps([entry])), 130
    assert command("fit", "quickstart", *flags, "--out", run) == code
    for kind, epochs in (("step", last), ("best", best)):
        if epochs is not None:
            card = export(newest(run, kind), tmp_path / "model")
            assert card.provenance.epochs == epochs, kind


def test_epochs_are_counted_on_where_a_stopped_run_went_on(tmp_path: Path):
    run, settings = tmp_path / "run", {"mark": str(tmp_path / "mark"), "batch": 3}
    entry = {"class_path": "interruption.SignalAt", "init_args": settings}
    flags = (*TINY, "--trainer.limit_train_batches=3", "--trainer.max_epochs=3")
    flags = (*flags, "--callbacks", json.dumps([entry]))
    assert command("fit", "quickstart", *flags, "--out", run) == 130
    assert command("fit", "--resume", run) == 0
    assert export(newest(run), tmp_path / "model").provenance.epochs == 3


def test_a_net_that_diverged_is_not_exported(run: Path, tmp_path: Path):
    content, path = checkpoint(run), tmp_path / "nan"
    content["state_dict"]["averaged.module.layer1.0.bn1.weight"][3] = float("nan")
    write_checkpoint(path, content)
    with pytest.raises(Diverged, match=r"layer1\.0\.bn1\.weight are not finite") as error:
        export(path, tmp_path / "model")
    assert f"checkpoint {path}" in str(error.value)
    assert not (tmp_path / "model").exists()


def test_the_home_folder_is_found_on_both_sides(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    export("~/run", "~/model")
    export(f"~/run/checkpoints/{newest(run).name}", "~/other")
    assert {"run", "model", "other"} == {path.name for path in tmp_path.iterdir()}
    for arguments in (("~no-such-user/run", "~/third"), ("~/run", "~no-such-user/m")):
        with pytest.raises(InvalidSetting, match="there is no home of a user 'no-such-user'"):
            export(*arguments)


def test_the_last_checkpoint_can_be_named_where_there_is_a_better_one(run: Path, tmp_path: Path):
    export(newest(run), tmp_path / "model")
    assert equal(tmp_path / "model", averaged(checkpoint(run)))


def test_without_an_average_the_net_itself_is_given(run: Path):
    content = checkpoint(run)
    live = {n: t for n, t in content["state_dict"].items() if not n.startswith("averaged.")}
    net = trained_net({**content, "state_dict": live}, Path("somewhere"))
    assert torch.equal(net.fc.weight, live["net.fc.weight"])
    assert not net.training


def test_a_checkpoint_that_does_not_say_what_net_it_holds_is_refused(run: Path, tmp_path: Path):
    content, path = checkpoint(run), tmp_path / "other"
    del content["net"]
    write_checkpoint(path, content)
    with pytest.raises(CorruptFile, match=r"other: does not say what net .* convert"):
        export(path, tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    "net",
    [
        None,
        "cifar_resnet20",
        {},
        {"architecture": {}},
        {"architecture": {"depths": [1], "block": "basic"}, "preprocess": {}, "labels": 3},
        {"architecture": {"depths": [10**9], "block": "basic"}},
        {
            "architecture": {"depths": [2], "block": "basic", "classes": 3},
            "preprocess": {},
            "labels": [1, 2, 3],
        },
        {
            "architecture": {"depths": [2], "block": "basic", "in_channels": 1},
            "preprocess": {},
            "labels": None,
        },
        {
            "architecture": {"depths": [300, 300], "block": "basic", "width": 8192},
            "preprocess": {},
            "labels": None,
        },
    ],
)
def test_a_checkpoint_that_says_nonsense_is_refused_in_one_line(
    run: Path, tmp_path: Path, net: object
):
    path = tmp_path / "odd"
    write_checkpoint(path, {**checkpoint(run), "net": net})
    with pytest.raises(CorruptFile, match=r"odd") as error:
        export(path, tmp_path / "model")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "recipe", [3, "x", [1], {"seed": "x"}, {"seed": [1]}, {"lr": float("nan")}, {(1, 2): 3}]
)
def test_a_checkpoint_whose_recipe_is_none_is_refused_in_one_line(
    run: Path, tmp_path: Path, recipe: object
):
    path = tmp_path / "odd"
    write_checkpoint(path, {**checkpoint(run), "recipe": recipe})
    with pytest.raises((CorruptFile, InvalidSetting), match=r"odd|cannot hold this") as error:
        export(path, tmp_path / "model")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    "state", [3, None, [], {1: torch.zeros(1)}, {}, {"net.conv1.weight": 3, 4: 5}]
)
def test_a_checkpoint_whose_state_is_none_is_refused_in_one_line(
    run: Path, tmp_path: Path, state: object
):
    path = tmp_path / "odd"
    write_checkpoint(path, {**checkpoint(run), "state_dict": state})
    with pytest.raises((CorruptFile, WeightsMismatch), match=r"^\S*odd: ") as error:
        export(path, tmp_path / "model")
    assert "\n" not in str(error.value)


def test_what_is_no_tensor_in_a_checkpoint_is_named(run: Path, tmp_path: Path):
    content, path = checkpoint(run), tmp_path / "odd"
    content["state_dict"]["averaged.module.bn1.weight"] = 3
    write_checkpoint(path, content)
    with pytest.raises(WeightsMismatch, match=r"bn1\.weight \(int"):
        export(path, tmp_path / "model")


@pytest.mark.parametrize(
    "loops",
    [None, 3, {}, {"fit_loop": None}, {"fit_loop": {"epoch_progress": {"current": {"ready": 2}}}}],
)
def test_epochs_are_unknown_where_a_checkpoint_does_not_tell_them(loops: object):
    assert finished_epochs({"loops": loops, "epoch": 3}) is None


def test_a_checkpoint_that_lacks_tensors_names_them(run: Path, tmp_path: Path):
    content, path = checkpoint(run), tmp_path / "odd"
    del content["state_dict"]["averaged.module.layer1.0.conv1.weight"]
    write_checkpoint(path, content)
    with pytest.raises(WeightsMismatch, match=r"missing: layer1\.0\.conv1\.weight"):
        export(path, tmp_path / "model")


@pytest.mark.fault("L4")
def test_a_pickle_bomb_is_refused_and_never_goes_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    mark, path = tmp_path / "mark", tmp_path / "bomb"
    torch.save({"state_dict": {}, "net": Bomb(mark)}, path)
    with pytest.raises(CorruptFile, match=r"bomb: a file, and a run's checkpoints are") as error:
        export(path, tmp_path / "model")
    assert "\n" not in str(error.value)
    assert not mark.exists()
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04 but no more"])
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "odd"
    path.write_bytes(content)
    with pytest.raises(CorruptFile, match=r"odd: a file, and a run's checkpoints are folders"):
        export(path, tmp_path / "model")


def test_what_is_neither_run_nor_checkpoint_is_refused(tmp_path: Path):
    for name in ("", "nothing"):
        with pytest.raises(DataMissing, match="no run"):
            export(tmp_path / name, tmp_path / "model")


def test_a_folder_that_holds_something_else_is_never_replaced(trained: Path, tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("all of it")
    with pytest.raises(InvalidSetting, match="holds other things"):
        export(trained, tmp_path / "mine")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "all of it"


def test_an_older_model_folder_is_replaced_also_the_runs_own(run: Path, tmp_path: Path):
    shutil.copytree(run / "model", tmp_path / "model")
    before = (run / "model/model.safetensors").read_bytes()
    export(newest(run), tmp_path / "model")
    assert equal(tmp_path / "model", averaged(checkpoint(run)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "run"]
    export(run, run / "model")  # onto itself
    assert (run / "model/model.safetensors").read_bytes() == before


def test_a_checkpoint_is_a_classifier_again(run: Path):
    found = Classifier.load_from_checkpoint(newest(run))
    assert (found.recipe.seed, found.recipe.model.ema_decay, found.recipe.optimizer.nesterov) == (
        5,
        0.5,
        True,
    )
    expected = ResNet.from_pretrained(export(newest(run), run / "again") and run / "again")
    images = torch.randn(2, 1, 8, 8)
    assert torch.equal(found.eval()(images), expected(images))
    assert found.finished.labels == expected.labels
    assert found.recipe.schedule.name == "onecycle"


@pytest.mark.parametrize(
    "recipe",
    [{"net": 3}, {"nets": {}}, {"seed": 1, "model": {"x": 1}}, {"model": {"ema_every": 0}}],
)
def test_settings_that_are_none_make_no_classifier(run: Path, tmp_path: Path, recipe: dict):
    write_checkpoint(tmp_path / "odd", {**checkpoint(run), "settings": recipe})
    with pytest.raises(CorruptFile, match="odd: its settings cannot be"):
        Classifier.load_from_checkpoint(tmp_path / "odd")


def test_a_checkpoint_that_tells_no_settings_makes_no_classifier(run: Path, tmp_path: Path):
    content = checkpoint(run)
    del content["settings"]
    write_checkpoint(tmp_path / "c", content)
    with pytest.raises(CorruptFile, match="c: does not say by what settings it was trained"):
        Classifier.load_from_checkpoint(str(tmp_path / "c"))
