"""Stopping a run by a signal and going on with it: nothing may tell it from a run left alone."""

import json
import os
import shlex
import shutil
import signal
import time
from csv import DictReader
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from small_runs import checkpoint, command, fit, flip_last_bit, refusal, start, untimed_rows

from resnet_hub.learning.saving.checkpoints import FILES, numbered, write_checkpoint

SIX = ("--trainer.limit_train_batches=6", "--trainer.max_epochs=2", "--trainer.log_every_n_steps=4")
AVERAGED = (
    *SIX,
    "--model.ema_decay=0.9",
    "--net.stochastic_depth=0.2",
    "--net.shortcut_dropout=0.1",
    "--data.held_out=0",
)
AUGMENTED = (
    *SIX,
    "--data.augment=pad_crop_alternating_flip",
    "--data.pad_mode=reflect",
    "--data.policy=randaugment_increasing",
    "--data.policy_std=0.5",
    "--data.erase=0.5",
    "--data.erase_fill=noise",
    "--data.repeats=3",
    "--data.sizes=[[0, 8], [1, 12]]",
)
MIXED = (
    *SIX,
    "--mixing.mixup=0.2",
    "--mixing.cutmix=1",
    "--mixing.probability=0.8",
    "--model.loss=bce",
    "--model.target_threshold=0.2",
    "--model.ema_decay=0.9",
    "--model.precise_bn=100",
)
SKEWED = (
    *SIX,
    "--data.sampling=balanced",
    "--model.class_weights=[9, 1, 1, 1, 1, 1, 1, 1, 1, 0.1]",
)
ACCUMULATED = (*SIX, "--trainer.accumulate_grad_batches=2", "--trainer.log_every_n_steps=1")
VALIDATED = (*SIX, "--trainer.val_check_interval=3")
COUNTED = (*VALIDATED, "--trainer.check_val_every_n_epoch=null", "--trainer.val_check_interval=4")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory):
    """Runs that nothing stopped, by their flags."""
    home, made = tmp_path_factory.mktemp("whole"), {}

    def run(flags: tuple[str, ...]) -> Path:
        if flags not in made:
            made[flags] = fit(home / str(len(made)), *flags)
        return made[flags]

    return run


def table(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(DictReader(file))


def stopping(mark: Path, **how: object) -> tuple[str, str]:
    settings = {"mark": str(mark), **how}
    entry = {"class_path": "interruption.SignalAt", "init_args": settings}
    return ("--callbacks", json.dumps([entry]))


def stopped(run: Path, flags: tuple[str, ...], **how: object) -> int:
    flags = (*flags, *stopping(run.with_suffix(".mark"), **how))
    return command("fit", "quickstart", *flags, "--out", run)


def same(run: Path, other: Path) -> bool:
    """Whether two runs ended with the same bits: the net, its average, the optimizer, the rows."""
    one, two = checkpoint(run), checkpoint(other)
    assert one["state_dict"].keys() == two["state_dict"].keys()
    for name, tensor in one["state_dict"].items():
        assert torch.equal(tensor, two["state_dict"][name]), name
    moments, others = (content["optimizer_states"][0]["state"] for content in (one, two))
    for key, moment in moments.items():
        assert torch.equal(moment["momentum_buffer"], others[key]["momentum_buffer"])
    assert one["lr_schedulers"][0]["last_epoch"] == two["lr_schedulers"][0]["last_epoch"]
    assert untimed_rows(run) == untimed_rows(other)
    weights = "model/model.safetensors"
    return (run / weights).read_bytes() == (other / weights).read_bytes()


@pytest.mark.parametrize(
    ("flags", "batch", "saved"),
    [
        pytest.param(SIX, 0, 1, id="the first step"),
        pytest.param(SIX, 2, 3, id="between two logged steps"),
        pytest.param(SIX, 3, 4, id="a logged step"),
        pytest.param(SIX, 5, 6, id="an epoch's last step"),
        pytest.param(SIX, 10, 11, id="the second epoch"),
        pytest.param(AVERAGED, 2, 3, id="average and stochastic depth"),
        pytest.param(AVERAGED, 8, 9, id="average and stochastic depth, second epoch"),
        pytest.param(AUGMENTED, 2, 3, id="augmentation, repeats and sizes"),
        pytest.param(AUGMENTED, 8, 9, id="augmentation, repeats and sizes, second epoch"),
        pytest.param(MIXED, 2, 3, id="mixed batches"),
        pytest.param(MIXED, 8, 9, id="mixed batches, second epoch"),
        pytest.param(SKEWED, 2, 3, id="balanced sampling and class weights"),
        pytest.param(SKEWED, 8, 9, id="balanced sampling and class weights, second epoch"),
        pytest.param(ACCUMULATED, 0, 1, id="gradients half accumulated"),
        pytest.param(ACCUMULATED, 7, 4, id="gradients accumulated"),
        pytest.param(VALIDATED, 2, 3, id="a validation follows"),
        pytest.param(COUNTED, 3, 4, id="a validation by steps follows"),
    ],
)
def test_a_run_stopped_at_any_step_ends_with_the_same_bits(
    tmp_path: Path, whole, flags: tuple[str, ...], batch: int, saved: int
):
    run = tmp_path / "run"
    assert stopped(run, flags, batch=batch) == 130
    assert checkpoint(run)["global_step"] == saved
    assert not (run / "model").exists()
    assert command("fit", "--resume", run) == 0
    assert same(run, whole(flags))


def test_a_run_that_learns_from_a_teacher_ends_with_the_same_bits(tmp_path: Path, whole):
    teacher = whole(SIX) / "model"
    flags = (*SIX, f"--distillation.teacher={teacher}", "--distillation.temperature=2")
    run = tmp_path / "run"
    assert stopped(run, flags, batch=2) == 130
    assert command("fit", "--resume", run) == 0
    assert same(run, whole(flags))


class Batches(Callback):
    """Counts what it saw, to be named in a recipe."""

    def __init__(self) -> None:
        self.count = 0

    def on_train_batch_end(self, *_: object) -> None:
        self.count += 1

    def state_dict(self) -> dict[str, int]:
        return {"count": self.count}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.count = state_dict["count"]


def test_the_state_of_a_recipes_callback_is_that_of_the_saved_step(tmp_path: Path):
    run = tmp_path / "run"
    (entry,) = json.loads(stopping(tmp_path / "mark", batch=3)[1])
    callbacks = json.dumps([entry, f"{__name__}.Batches"])
    assert command("fit", "quickstart", *SIX, "--callbacks", callbacks, "--out", run) == 130
    assert checkpoint(run)["callbacks"]["Batches"] == {"count": 4}
    assert command("fit", "--resume", run) == 0
    assert checkpoint(run)["callbacks"]["Batches"] == {"count": 12}


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_within_a_validation_stops_it_and_it_is_begun_anew(
    tmp_path: Path, whole, name: str
):
    run = tmp_path / "run"
    assert stopped(run, SIX, signal=name, hook="validation") == 128 + getattr(signal, name)
    assert checkpoint(run)["global_step"] == 6
    assert command("fit", "--resume", run) == 0
    assert same(run, whole(SIX))


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_within_the_runs_last_step_leaves_its_validation_to_do(
    tmp_path: Path, whole, name: str
):
    run = tmp_path / "run"
    assert stopped(run, SIX, signal=name, batch=11) == 128 + getattr(signal, name)
    assert checkpoint(run)["global_step"] == 12
    assert command("fit", "--resume", run) == 0
    assert same(run, whole(SIX))


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_within_the_final_test_stops_and_resuming_only_tests_and_exports(
    tmp_path: Path, whole, name: str
):
    run = tmp_path / "run"
    assert stopped(run, SIX, signal=name, hook="test") == 128 + getattr(signal, name)
    before = (run / "metrics.csv").read_text()
    assert not (run / "model").exists()
    assert command("fit", "--resume", run) == 0
    assert (run / "metrics.csv").read_text() == before
    assert same(run, whole(SIX))


def test_a_run_can_be_stopped_twice(tmp_path: Path, whole):
    run = tmp_path / "run"
    assert stopped(run, AVERAGED, batch=2) == 130
    (tmp_path / "run.mark").unlink()
    again = run / "recipe.yaml"
    again.write_text(again.read_text().replace("batch: 2\n", "batch: 7\n"))
    assert command("fit", "--resume", run) == 130
    assert checkpoint(run)["global_step"] == 8
    assert command("fit", "--resume", run) == 0
    assert same(run, whole(AVERAGED))


def test_a_finished_run_has_nothing_left_to_train(tmp_path: Path, whole):
    run = tmp_path / "run"
    shutil.copytree(whole(SIX), run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    shutil.rmtree(run / "model")
    assert command("fit", "--resume", run) == 0
    for path, content in before.items():
        if path.name not in ("config.json", "README.md"):  # they say where the run lies
            assert path.read_bytes() == content, path.name


def test_a_run_whose_folder_was_moved_goes_on_and_keeps_its_best(tmp_path: Path, whole):
    run, moved = tmp_path / "run", tmp_path / "elsewhere" / "moved"
    assert stopped(run, SIX, batch=8) == 130
    moved.parent.mkdir()
    run.rename(moved)
    assert command("fit", "--resume", moved) == 0
    assert same(moved, whole(SIX))
    scores = [checkpoint(folder)["callbacks"]["Keeper"]["best"] for folder in (moved, whole(SIX))]
    assert scores[0] == scores[1]
    assert not run.exists()


def test_stopping_before_anything_was_saved_leaves_nothing(tmp_path: Path, capsys):
    run = tmp_path / "made" / "run"
    (tmp_path / "made").mkdir()
    assert (
        command("fit", "quickstart", *SIX, "--out", run, *stopping(tmp_path / "mark", hook="setup"))
        == 130
    )
    assert "stopped by SIGINT; nothing was saved yet" in capsys.readouterr().out
    assert list((tmp_path / "made").iterdir()) == []


@pytest.mark.parametrize("how", [{"batch": 2}, {"hook": "test"}, {"hook": "setup"}])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_the_signals_go_back_to_who_had_them(tmp_path: Path, name: str, how: dict):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert stopped(tmp_path / "run", SIX, signal=name, **how) == 128 + getattr(signal, name)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_resuming_what_is_no_run_is_refused(tmp_path: Path, capsys):
    assert "no run to resume" in refusal(capsys, "fit", "--resume", tmp_path)
    assert "no run to resume" in refusal(capsys, "fit", "--resume", tmp_path / "nothing")
    assert list(tmp_path.iterdir()) == []


def test_resuming_a_run_without_a_checkpoint_is_refused(tmp_path: Path, whole, capsys):
    run = tmp_path / "run"
    shutil.copytree(whole(SIX), run)
    for folder in (run / "checkpoints").glob("step-*"):
        shutil.rmtree(folder)
    assert "no checkpoint was saved yet" in refusal(capsys, "fit", "--resume", run)
    assert (run / "recipe.yaml").is_file()


def steps(run: Path) -> list[Path]:
    return [folder for _, folder in numbered(run / "checkpoints", "step")]


@pytest.mark.fault("R5")
def test_the_highest_whole_step_goes_on_whatever_the_clock_says(tmp_path: Path, whole, capsys):
    run = tmp_path / "run"
    shutil.copytree(whole(SIX), run)
    newest, _ = steps(run)
    for path in (newest, *newest.iterdir()):
        os.utime(path, (1, 1))
    assert command("fit", "--resume", run) == 0
    assert "left out" not in capsys.readouterr().out
    shutil.rmtree(run / "model")
    tensors = newest / "tensors.safetensors"
    flip_last_bit(tensors)
    assert command("fit", "--resume", run) == 0
    out = capsys.readouterr().out
    assert f"left out: {tensors}: damaged, its manifest has another SHA-256" in out
    assert "6 steps an epoch, 12 steps" in out
    assert same(run, whole(SIX))


def test_where_no_checkpoint_is_whole_the_run_does_not_begin_anew(tmp_path: Path, whole, capsys):
    run = tmp_path / "run"
    shutil.copytree(whole(SIX), run)
    newest, older = steps(run)
    (newest / "manifest.json").unlink()
    (older / "state.json").write_text("{}")
    before = sorted(run.rglob("*"))
    capsys.readouterr()
    assert command("fit", "--resume", run) == 1
    out, err = capsys.readouterr()
    assert f"left out: {newest}: not a checkpoint of a run (it holds no manifest.json)" in out
    assert err == f"resnet-hub: {older}/state.json: damaged, its manifest has another SHA-256\n"
    assert sorted(run.rglob("*")) == before


class Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.mark}",)


def test_resuming_never_unpickles(tmp_path: Path, whole, capsys, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    run, mark = tmp_path / "run", tmp_path / "mark"
    shutil.copytree(whole(SIX), run)
    for folder in steps(run):
        for name in FILES:
            torch.save({"state_dict": {}, "callbacks": Bomb(mark)}, folder / name)
    assert "damaged, it is no manifest" in refusal_behind(capsys, "fit", "--resume", run)
    for folder in steps(run):
        shutil.rmtree(folder)
        torch.save({"state_dict": {}, "callbacks": Bomb(mark)}, folder)
    assert "a run's checkpoints are folders" in refusal_behind(capsys, "fit", "--resume", run)
    assert not mark.exists()


def refusal_behind(capsys, *arguments: object) -> str:
    """Run a command that refuses in one line, after lines that say what was left out."""
    capsys.readouterr()
    assert command(*arguments) == 1
    out, err = capsys.readouterr()
    assert all(line.startswith("left out: ") for line in out.splitlines())
    assert err.count("\n") == 1
    return err


def test_resuming_from_bare_weights_is_refused(tmp_path: Path, whole, capsys):
    run = tmp_path / "run"
    shutil.copytree(whole(SIX), run)
    state = checkpoint(run)["state_dict"]
    for step, folder in zip((12, 6), steps(run), strict=True):
        write_checkpoint(folder, {"state_dict": state, "global_step": step})
    message = refusal_behind(capsys, "fit", "--resume", run)
    assert "training cannot go on from it (it holds no loops, optimizer_states" in message


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: cifar_resnet20", "name: cifar_resnet32", "net.name: 'cifar_resnet20' before"),
        ("lr: 0.1", "lr: 0.2", "saved (optimizer.lr: 0.1 before, 0.2 now); set it back"),
        ("ema_decay: null", "ema_decay: 0.9", "model.ema_decay: None before, 0.9 now"),
        ("seed: 1", "seed: 2", "seed: 1 before, 2 now"),
        ("batch_size: 32", "batch_size: 16", "images a batch: 32 before, 16 now"),
        ("held_out: null", "held_out: 0", "data.held_out: None before, 0 now; data: '"),
    ],
)
def test_a_recipe_that_was_changed_does_not_go_on(
    tmp_path: Path, whole, capsys, old: str, new: str, message: str
):
    run = tmp_path / "run"
    shutil.copytree(whole(SIX), run)
    recipe = run / "recipe.yaml"
    assert recipe.read_text().count(old) == 1
    recipe.write_text(recipe.read_text().replace(old, new))
    assert message in refusal(capsys, "fit", "--resume", run)


@pytest.mark.fault("R7")
def test_a_run_may_be_made_longer_where_it_is_allowed(tmp_path: Path, whole, capsys):
    run = tmp_path / "run"
    shutil.copytree(whole(SIX), run)
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("max_epochs: 2", "max_epochs: 3"))
    message = refusal(capsys, "fit", "--resume", run)  # its schedule bends with its length
    assert "saved (epochs: 2 before, 3 now); set it back" in message
    assert command("fit", "--resume", run, "--allow-changed") == 0
    assert "changed: epochs: 2 before, 3 now\n" in capsys.readouterr().out
    assert checkpoint(run)["global_step"] == 18


@pytest.mark.parametrize("batch", [2, 8])
def test_a_run_may_begin_to_mix_or_stop_to_in_the_middle_where_it_is_allowed(
    tmp_path: Path, batch: int
):
    run, on = tmp_path / "run", "mixup: 0.2"
    before, after = (on, "mixup: 0.0") if batch == 2 else ("mixup: 0.0", on)
    assert stopped(run, (*SIX, f"--mixing.{before.replace(': ', '=')}"), batch=batch) == 130
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace(before, after))
    assert command("fit", "--resume", run, "--allow-changed") == 0
    last = untimed_rows(run)[-1]
    score = "train/soft_top1" if after == on else "train/top1"
    assert 0 < float(last[score]) <= 1
    assert 0 < float(last["train/epoch_loss"]) < 10


def test_a_run_whose_schedule_knows_no_end_may_be_made_longer(tmp_path: Path):
    run = fit(tmp_path / "run", *SIX, "--schedule.name=constant")
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("max_epochs: 2", "max_epochs: 3"))
    assert command("fit", "--resume", run) == 0
    assert checkpoint(run)["global_step"] == 18


@pytest.mark.parametrize("text", ["epoch,step,lr\n0,1,much\n", None])
def test_the_rows_are_the_checkpoints_whatever_became_of_the_file(
    tmp_path: Path, whole, text: str | None
):
    run = tmp_path / "run"
    assert stopped(run, SIX, batch=8) == 130
    (run / "metrics.csv").unlink()
    if text:
        (run / "metrics.csv").write_text(text)
    assert command("fit", "--resume", run) == 0
    assert same(run, whole(SIX))


def test_the_time_in_training_goes_on_over_a_resume(tmp_path: Path):
    run = tmp_path / "run"
    assert stopped(run, SIX, batch=8) == 130
    state = checkpoint(run)["callbacks"]["Progress"]
    before = [float(row["seconds"]) for row in table(run) if row["seconds"]]
    assert 0 < before[-1] <= state["seconds"]
    assert command("fit", "--resume", run) == 0
    seconds = [float(row["seconds"]) for row in table(run) if row["seconds"]]
    assert seconds[: len(before)] == before
    assert state["seconds"] < seconds[len(before)]
    assert seconds == sorted(seconds)


def test_resuming_takes_the_runs_own_recipe_and_nothing_else(tmp_path: Path, capsys):
    message = refusal(capsys, "fit", "--resume", tmp_path, "--trainer.max_epochs", 3)
    assert "the run's own recipe is used" in message


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_real_process_stops_at_a_signal_and_prints_the_command_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    flags = (*SIX, "--trainer.max_epochs=8", "--model.ema_decay=0.9")
    run, number = "a run", getattr(signal, name)
    with start("fit", "quickstart", *flags, "--out", run, cwd=tmp_path) as process:
        while not process.stdout.readline().startswith("epoch 1 "):
            assert process.poll() is None, process.stderr.read()
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert err == ""
    assert 6 <= checkpoint(tmp_path / run)["global_step"] < 48
    last = out.splitlines()[-1]
    assert last.startswith(f"stopped by {name}; go on with: resnet-hub fit --resume ")
    monkeypatch.chdir(tmp_path)
    assert command(*shlex.split(last.partition("resnet-hub ")[2])) == 0
    assert same(tmp_path / run, fit(tmp_path / "whole", *flags))


def test_a_second_signal_stops_at_once_and_leaves_whole_files(tmp_path: Path):
    hang = stopping(tmp_path / "mark", batch=8, hang=60)
    with start("fit", "quickstart", *SIX, *hang, "--out", "run", cwd=tmp_path) as process:
        while "once more to stop at once" not in (line := process.stdout.readline()):
            assert line, process.stderr.read()
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT
    assert time.monotonic() - began < 10
    assert checkpoint(tmp_path / "run")["global_step"] == 6
    assert command("fit", "--resume", tmp_path / "run") == 0
