"""Whether a run that goes on is still the same run."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from pictures import class_folders
from small_runs import (
    checkpoint,
    command,
    fit,
    flip_last_bit,
    refusal,
    start,
    untimed_rows,
)

from resnet_hub.data.digits import Digits
from resnet_hub.data.settings import DataSettings
from resnet_hub.errors import InvalidSetting
from resnet_hub.learning import fit as fit_module
from resnet_hub.learning.saving.checkpoints import numbered, read_training_checkpoint
from resnet_hub.learning.saving.resuming import check_same_run, clear_later, situation_of
from resnet_hub.learning.settings import (
    CheckpointSettings,
    ModelSettings,
    OptimizerSettings,
    Recipe,
    ScheduleSettings,
)
from resnet_hub.learning.settings import (
    DataSettings as Data,
)
from resnet_hub.nets.resnet import ResNet

RECIPE = Recipe(optimizer=OptimizerSettings(lr=0.1), trainer={"precision": "32-true"})
SITUATION = {"data": "a" * 64, "processes": 1, "images a batch": 32, "batches a step": 1}


def saved(*, ends_epoch: bool = True, situation: Mapping = SITUATION) -> dict:
    loop = {"epoch_loop.batch_progress": {"is_last_batch": ends_epoch}}
    recipe = {"recipe": RECIPE.to_dict(), "situation": dict(situation)}
    return {**recipe, "loops": {"fit_loop": loop}}


def differences(recipe: Recipe, situation: Mapping = SITUATION, **how: object) -> list[str]:
    return check_same_run(saved(**how), recipe, situation, allowed=True)


@pytest.mark.fault("R7")
@pytest.mark.parametrize(
    ("recipe", "difference"),
    [
        ({"optimizer": OptimizerSettings(lr=0.2)}, "optimizer.lr: 0.1 before, 0.2 now"),
        ({"model": ModelSettings(ema_decay=0.9)}, "model.ema_decay: None before, 0.9 now"),
        ({"model": ModelSettings(compile=True)}, "model.compile: False before, True now"),
        ({"seed": 3}, "seed: 0 before, 3 now"),
        ({"trainer": {"precision": "bf16-mixed"}}, "trainer.precision: '32-true' before"),
        ({"data": Data(augment="none")}, "data.augment: None before, 'none' now"),
        ({"schedule": ScheduleSettings(warmup=2)}, "schedule.warmup: 0.0 before, 2 now"),
    ],
)
def test_what_fixes_the_numbers_is_compared(recipe: dict, difference: str):
    now = Recipe(**{"optimizer": RECIPE.optimizer, "trainer": RECIPE.trainer, **recipe})
    (found,) = differences(now)
    assert found.startswith(difference)
    with pytest.raises(InvalidSetting, match="go on all the same with --allow-changed"):
        check_same_run(saved(), now, SITUATION, allowed=False)


@pytest.mark.fault("R7")
@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"data": "b" * 64}, "data: 'aaa"),
        ({"processes": 2}, "processes: 1 before, 2 now"),
        ({"images a batch": 64}, "images a batch: 32 before, 64 now"),
        ({"batches a step": 2}, "batches a step: 1 before, 2 now"),
    ],
)
def test_so_are_the_data_the_processes_and_the_images_of_a_step(change: dict, difference: str):
    now = {**SITUATION, **change}
    (found,) = differences(RECIPE, now)
    assert found.startswith(difference)
    with pytest.raises(InvalidSetting, match=f"has changed since it was saved .{difference}"):
        check_same_run(saved(), RECIPE, now, allowed=False)


@pytest.mark.parametrize(
    "recipe",
    [
        {"trainer": {"precision": "32-true", "devices": 2, "max_epochs": 9}},
        {"callbacks": ({"class_path": "a.B"},)},
        {"checkpoint": CheckpointSettings(every_steps=3)},
        {"data": Data(root="elsewhere", workers=2)},
        {"data": Data(resident=False)},
        {"data": Data(batch_size=16)},  # what counts is the images of a step
    ],
)
def test_what_fixes_none_may_change(recipe: dict):
    now = Recipe(**{"optimizer": RECIPE.optimizer, "trainer": RECIPE.trainer, **recipe})
    assert check_same_run(saved(), now, SITUATION, allowed=False) == []


@pytest.mark.parametrize(
    "change", [{"images a batch": 64}, {"images a batch": 16, "batches a step": 2}]
)
def test_other_batches_need_an_epochs_end(change: dict):
    now = {**SITUATION, **change}
    assert len(differences(RECIPE, now)) == len(change)
    with pytest.raises(InvalidSetting, match="need a checkpoint at an epoch's end"):
        differences(RECIPE, now, ends_epoch=False)
    assert len(differences(RECIPE, {**SITUATION, "processes": 2}, ends_epoch=False)) == 1


def test_a_checkpoint_that_says_nothing_of_it_is_taken():
    assert check_same_run({}, RECIPE, SITUATION, allowed=False) == []


def test_the_situation_is_what_the_trainer_and_the_data_make_it():
    data = Digits(DataSettings(name="Digits", batch_size=16))
    trainer = L.Trainer(accelerator="cpu", accumulate_grad_batches=3, max_epochs=4, logger=False)
    found = situation_of(trainer, data, Recipe())
    sizes = {"images a batch": 16, "batches a step": 3}
    images = {"train": 1257, "test": 360, "val": 180}
    assert found == {"data": data.fingerprint(), "images": images, "processes": 1, **sizes}
    bending = situation_of(trainer, data, Recipe(schedule=ScheduleSettings(name="cosine")))
    assert bending == {**found, "epochs": 4, "steps": -1}
    other = Digits(DataSettings(name="Digits", held_out=0))
    assert other.fingerprint() != data.fingerprint()


def test_a_run_that_its_steps_cut_within_an_epoch_goes_on_with_the_epochs_rest(tmp_path: Path):
    flags = ("--trainer.limit_train_batches=6", "--trainer.max_epochs=3", "--data.held_out=0")
    flags = (*flags, "--schedule.name=constant", "--trainer.max_steps")
    run, whole = fit(tmp_path / "run", *flags, 9), fit(tmp_path / "whole", *flags, 15)
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("max_steps: 9", "max_steps: 15"))
    assert command("fit", "--resume", run) == 0
    assert checkpoint(run)["global_step"] == 15
    assert untimed_rows(run) == untimed_rows(whole)
    for name, tensor in checkpoint(whole)["state_dict"].items():
        assert torch.equal(checkpoint(run)["state_dict"][name], tensor), name


@pytest.mark.slow
@pytest.mark.fault("R7")
def test_a_run_goes_on_with_more_processes_where_it_is_allowed(tmp_path: Path, capsys):
    flags = ("--trainer.limit_train_batches=6", "--trainer.max_epochs=2")
    run = fit(tmp_path / "run", *flags, "--trainer.max_steps=9", "--schedule.name=constant")
    assert checkpoint(run)["global_step"] == 9
    recipe = run / "recipe.yaml"
    text = recipe.read_text()
    for old, new in (
        ("batch_size: 32", "batch_size: 16"),
        ("max_steps: 9", "max_steps: 12\n  devices: 2\n  strategy: ddp"),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    recipe.write_text(text)
    message = refusal(capsys, "fit", "--resume", run)
    assert "(processes: 1 before, 2 now); set it back" in message
    with start("fit", "--resume", run, "--allow-changed", cwd=tmp_path) as process:
        out, err = process.communicate(timeout=200)
    assert (process.returncode, err) == (0, "")
    assert "changed: processes: 1 before, 2 now" in out
    assert checkpoint(run)["global_step"] == 12
    assert command("test", run) == 0


# What lies in the way


SIX = ("--trainer.limit_train_batches=6", "--trainer.max_epochs=3")


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of three epochs of six steps."""
    return fit(tmp_path_factory.mktemp("runs") / "three", *SIX)


@pytest.fixture
def run(three: Path, tmp_path: Path) -> Path:
    """A copy of it, whose checkpoints are of steps 12 and 18."""
    return shutil.copytree(three, tmp_path / "run")


def newest(run: Path) -> Path:
    return numbered(run / "checkpoints", "step")[0][1]


def damage(folder: Path, how: str) -> None:
    if how == "flipped":
        flip_last_bit(folder / "tensors.safetensors")
    elif how == "incomplete":
        (folder / "manifest.json").unlink()
    elif how == "more":
        (folder / ".nfs123").touch()
    else:  # a copy of another step under this one's name
        shutil.rmtree(folder)
        shutil.copytree(folder.with_name("step-00000012"), folder)


@pytest.mark.fault("R5")
@pytest.mark.parametrize("how", ["flipped", "incomplete", "more", "renamed"])
def test_a_damaged_checkpoint_is_set_aside_and_ends_nothing_later(
    run: Path, three: Path, capsys, how: str
):
    damage(newest(run), how)
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("every_steps: null", "every_steps: 2"))
    assert command("fit", "--resume", run) == 0
    out = capsys.readouterr().out
    assert "left out: " in out
    assert f"set aside as {run}/checkpoints/set-aside-step-00000018: of a later step" in out
    assert checkpoint(run)["global_step"] == 18
    for name in ("config.json", "model.safetensors"):
        one, two = ((folder / "model" / name).read_bytes() for folder in (run, three))
        assert (one == two) or name == "config.json"  # which says where the run lies


def test_the_best_weights_of_a_later_step_are_not_those_of_a_changed_run(run: Path, capsys):
    shutil.rmtree(newest(run))
    (run / "checkpoints/best-00000018").mkdir(exist_ok=True)
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("label_smoothing: 0.1", "label_smoothing: 0.2"))
    assert command("fit", "--resume", run, "--allow-changed") == 0
    assert "set-aside-best-00000018" in capsys.readouterr().out
    (_, best), *_ = numbered(run / "checkpoints", "best")
    assert read_training_checkpoint(best)["recipe"]["model"]["label_smoothing"] in (0.1, 0.2)


def test_damaged_best_weights_are_said_and_the_best_of_what_comes_is_exported(run: Path, capsys):
    shutil.rmtree(newest(run))
    (_, best), *_ = numbered(run / "checkpoints", "best")
    best = best.rename(best.with_name("best-00000012"))  # whichever it is on this machine
    flip_last_bit(best / "tensors.safetensors")
    assert command("fit", "--resume", run) == 0
    assert f"set-aside-{best.name}: {best}/tensors.safetensors: damaged" in capsys.readouterr().out
    assert numbered(run / "checkpoints", "best")[0][0] == 18


def test_best_weights_damaged_while_a_run_goes_on_leave_its_newest_to_export(
    run: Path, capsys, monkeypatch: pytest.MonkeyPatch
):
    (_, best), *_ = numbered(run / "checkpoints", "best")

    def cleared(*arguments: Any) -> None:  # and a moment later the disk loses a bit
        clear_later(*arguments)
        flip_last_bit(best / "tensors.safetensors")

    monkeypatch.setattr(fit_module, "clear_later", cleared)
    assert command("fit", "--resume", run) == 0
    line = f"left out, and the newest weights are exported: {best}/tensors.safetensors: damaged"
    assert line in capsys.readouterr().out
    weights = checkpoint(run)["state_dict"]["net.fc.weight"]
    assert torch.equal(ResNet.from_pretrained(run / "model").fc.weight, weights)


def test_what_lies_where_the_model_goes_is_refused_before_a_run_goes_on(run: Path, capsys):
    (run / "model/notes.txt").write_text("mine")
    line = refusal(capsys, "fit", "--resume", run)
    assert line.endswith("model: holds something else than the model that goes there; move it away")


def test_an_allowed_change_of_the_optimizer_is_in_force(run: Path, three: Path):
    shutil.rmtree(newest(run))
    recipe = run / "recipe.yaml"
    text = recipe.read_text()
    for old, new in (("lr: 0.1", "lr: 0.05"), ("weight_decay: 0.0005", "weight_decay: 0.001")):
        assert text.count(old) == 1
        text = text.replace(old, new)
    recipe.write_text(text)
    assert command("fit", "--resume", run, "--allow-changed") == 0
    before, now = (
        checkpoint(folder)["optimizer_states"][0]["param_groups"] for folder in (three, run)
    )
    for old, new in zip(before, now, strict=True):
        assert new["lr"] == pytest.approx(old["lr"] / 2)
        assert new["weight_decay"] == 2 * old["weight_decay"]
        assert new["momentum"] == old["momentum"]


def test_other_classes_are_never_gone_on_with(tmp_path: Path, capsys):
    class_folders(tmp_path / "pictures/train", {"ant": 6, "bee": 6})
    data = (f"--data.root={tmp_path / 'pictures'}", "--data.held_out=2", "--data.batch_size=4")
    sizes = ("--data.eval_size=16", "--net.name=cifar_resnet20")
    flags = ("--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--trainer.precision=32-true")
    fit_flags = ("finetune_folder", *data, *sizes, "--net.weights=null", *flags)
    assert command("fit", *fit_flags, "--out", tmp_path / "run") == 0
    (tmp_path / "pictures/train/ant").rename(tmp_path / "pictures/train/zebra")
    message = refusal(capsys, "fit", "--resume", tmp_path / "run", "--allow-changed")
    assert message == (
        "the data have other classes than the run was trained on (gone: 'ant'; new: 'zebra'); "
        "begin another run, with net.weights for its weights"
    )


@pytest.mark.fault("R6")
def test_a_run_that_saved_nothing_is_begun_anew_in_its_folder(tmp_path: Path, capsys):
    run = fit(tmp_path / "run", *SIX)
    for name in ("checkpoints", "model"):
        shutil.rmtree(run / name)
    message = refusal(capsys, "fit", "--resume", run)
    assert message.endswith(
        "no checkpoint was saved yet; begin the run anew, --out takes its folder"
    )
    assert fit(run, *SIX) == run
    assert checkpoint(run)["global_step"] == 18
    assert "is there and not empty" in refusal(capsys, "fit", "quickstart", "--out", run)
