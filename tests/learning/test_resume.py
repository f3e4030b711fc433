"""Stopping a run by a signal and going on with it: nothing may tell it from a run left alone."""

import json
import os
import shlex
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from small_runs import checkpoint, command, fit, refusal, start

SIX = ("--trainer.limit_train_batches=6", "--trainer.max_epochs=2", "--trainer.log_every_n_steps=4")
AVERAGED = (
    *SIX,
    "--model.ema_decay=0.9",
    "--net.stochastic_depth=0.2",
    "--data.held_out=0",
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
    assert (run / "metrics.csv").read_text() == (other / "metrics.csv").read_text()
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
        pytest.param(ACCUMULATED, 0, 1, id="gradients half accumulated"),
        pytest.param(ACCUMULATED, 7, 4, id="gradients accumulated"),
        pytest.param(VALIDATED, 2, 4, id="a validation follows"),
        pytest.param(COUNTED, 3, 5, id="a validation by steps follows"),
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


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_within_the_validation_lets_the_epoch_end(tmp_path: Path, whole, name: str):
    run = tmp_path / "run"
    assert stopped(run, SIX, signal=name, hook="validation") == 128 + getattr(signal, name)
    assert checkpoint(run)["global_step"] == 6
    assert command("fit", "--resume", run) == 0
    assert same(run, whole(SIX))


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_within_the_last_epochs_last_step_is_no_stop(tmp_path: Path, whole, name: str):
    run = tmp_path / "run"
    assert stopped(run, SIX, signal=name, batch=11) == 0
    assert same(run, whole(SIX))


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_within_the_final_test_stops_and_resuming_only_tests_and_exports(
    tmp_path: Path, whole, name: str
):
    run = tmp_path / "run"
    assert stopped(run, SIX, signal=name, hook="test") == 128 + getattr(signal, name)
    rows = (run / "metrics.csv").read_text()
    assert not (run / "model").exists()
    assert command("fit", "--resume", run) == 0
    assert (run / "metrics.csv").read_text() == rows
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
    (state,) = (
        state
        for state in checkpoint(moved)["callbacks"].values()
        if state.get("monitor") == "val/top1"
    )
    assert state["best_model_path"] == str(moved / "checkpoints/best.ckpt")
    assert list(state["best_k_models"]) == [state["best_model_path"]]
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
    (run / "checkpoints/last.ckpt").unlink()
    assert "no last.ckpt was saved yet" in refusal(capsys, "fit", "--resume", run)
    assert (run / "recipe.yaml").is_file()


def test_resuming_from_a_damaged_checkpoint_is_refused(tmp_path: Path, whole, capsys):
    run = tmp_path / "run"
    shutil.copytree(whole(SIX), run)
    last = run / "checkpoints/last.ckpt"
    last.write_bytes(last.read_bytes()[:-1000])
    message = refusal(capsys, "fit", "--resume", run)
    assert str(last) in message
    assert "not a checkpoint of a run" in message


class Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.mark}",)


def test_resuming_never_runs_code_of_a_checkpoint(tmp_path: Path, whole, capsys, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    run, mark = tmp_path / "run", tmp_path / "mark"
    shutil.copytree(whole(SIX), run)
    torch.save({**checkpoint(run), "callbacks": Bomb(mark)}, run / "checkpoints/last.ckpt")
    assert "code in it is never run" in refusal(capsys, "fit", "--resume", run)
    assert not mark.exists()


def test_resuming_from_bare_weights_is_refused(tmp_path: Path, whole, capsys):
    run = tmp_path / "run"
    shutil.copytree(whole(SIX), run)
    torch.save({"state_dict": checkpoint(run)["state_dict"]}, run / "checkpoints/last.ckpt")
    message = refusal(capsys, "fit", "--resume", run)
    assert (
        "last.ckpt: training cannot go on from it (it holds no loops, optimizer_states" in message
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: cifar_resnet20", "name: cifar_resnet32", "net.name: the run was trained with"),
        ("lr: 0.1", "lr: 0.2", "optimizer.lr: the run was trained with 0.1, its recipe.yaml now"),
        ("ema_decay: null", "ema_decay: 0.9", "model.ema_decay: the run was trained with None"),
        ("seed: 1", "seed: 2", "seed: the run was trained with 1, its recipe.yaml now says 2; set"),
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


def test_a_run_may_be_made_longer(tmp_path: Path, whole):
    run = tmp_path / "run"
    shutil.copytree(whole(SIX), run)
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("max_epochs: 2", "max_epochs: 3"))
    assert command("fit", "--resume", run) == 0
    assert checkpoint(run)["global_step"] == 18


def test_rows_that_are_none_are_named_before_any_step(tmp_path: Path, whole, capsys):
    run = tmp_path / "run"
    assert stopped(run, SIX, batch=8) == 130
    before = (run / "checkpoints/last.ckpt").read_bytes()
    (run / "metrics.csv").write_text("epoch,step,lr\n0,1,much\n")
    message = refusal(capsys, "fit", "--resume", run)
    assert message.startswith(f"{run}/metrics.csv: not a run's rows of numbers (could not convert")
    assert (run / "metrics.csv").read_text() == "epoch,step,lr\n0,1,much\n"
    assert (run / "checkpoints/last.ckpt").read_bytes() == before


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
