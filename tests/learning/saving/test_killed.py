"""Runs killed at any step, and gone on with: nothing may tell them from runs left alone."""

import json
import random
import shutil
import signal
import time
from pathlib import Path

import lightning as L
import pytest
import torch
from disks import remount, small_disk
from forks import Forks
from lightning.pytorch.callbacks import ModelCheckpoint
from small_runs import checkpoint, command, failure, fit, refusal, start, untimed_rows
from torch.utils.data import DataLoader, TensorDataset

from resnet_hub.learning.saving.checkpoints import numbered

EPOCH = 6
RUN = (
    *(f"--trainer.limit_train_batches={EPOCH}", "--trainer.max_epochs=2"),
    *("--trainer.log_every_n_steps=1", "--model.ema_decay=0.9", "--net.stochastic_depth=0.2"),
)
THAWING = (
    *("--freezing.freeze=all_but_head", "--freezing.thaw=[[1, layer3]]"),
    *("--optimizer=lamb", "--optimizer.lr=0.005", "--optimizer.nesterov=false"),
    *("--optimizer.layer_decay=0.75", "--optimizer.head_lr=4", "--optimizer.agc=0.1"),
    *("--schedule=constant", "--schedule.warmup=0", "--schedule.warmup_until_error=0.95"),
)


@pytest.fixture(scope="module")
def forks():
    server = Forks()
    yield server
    server.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory):
    """Runs that nothing stopped, by their flags."""
    home, made = tmp_path_factory.mktemp("whole"), {}

    def run(*flags: str) -> Path:
        if flags not in made:
            made[flags] = fit(home / str(len(made)), *RUN, *flags)
        return made[flags]

    return run


def killing(mark: Path, **how: object) -> tuple[str, str]:
    settings = {"mark": str(mark), "signal": "SIGKILL", **how}
    entry = {"class_path": "interruption.SignalAt", "init_args": settings}
    return ("--callbacks", json.dumps([entry]))


def assert_same(run: Path, other: Path) -> None:
    """Every number of two runs is the same: weights, averages, momentum, schedule, scores, rows."""
    one, two = checkpoint(run), checkpoint(other)
    for name in ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step"):
        assert_equal(one[name], two[name], name)
    assert one["callbacks"]["Keeper"] == two["callbacks"]["Keeper"]
    assert untimed_rows(run) == untimed_rows(other)
    weights = "model/model.safetensors"
    assert (run / weights).read_bytes() == (other / weights).read_bytes()


def assert_equal(one: object, two: object, where: str) -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, two), where
    elif isinstance(one, dict):
        assert one.keys() == two.keys(), where
        for key, value in one.items():
            assert_equal(value, two[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(two), where
        for number, (value, other) in enumerate(zip(one, two, strict=True)):
            assert_equal(value, other, f"{where}.{number}")
    else:
        assert one == two, where


@pytest.mark.fault("R1")
@pytest.mark.fault("R2")
@pytest.mark.parametrize("place", ["in the first epoch", "in the second", "at an epoch's end"])
@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("--data.workers=2",),
        ("--trainer.accumulate_grad_batches=2",),
        ("--data.workers=2", "--trainer.accumulate_grad_batches=2"),
        THAWING,
    ],
    ids=" ".join,
)
def test_a_run_killed_at_any_step_ends_with_the_same_bits(
    tmp_path: Path, forks: Forks, whole, flags: tuple[str, ...], every: int, place: str
):
    batch = {
        "in the first epoch": random.randrange(1, EPOCH),
        "in the second": random.randrange(EPOCH, 2 * EPOCH),
        "at an epoch's end": 0,
    }[place]
    hook = "validation" if place == "at an epoch's end" else "train_batch"
    run, log = tmp_path / "run", tmp_path / "log"
    kill = killing(tmp_path / "mark", batch=batch, hook=hook)
    cadence = f"--checkpoint.every_steps={every}"
    arguments = ("fit", "quickstart", *RUN, *flags, cadence, *kill, "--out", run)
    assert forks.run(*arguments, log=log) == -signal.SIGKILL, log.read_text()
    assert not (run / "model").exists()
    code = forks.run("fit", "--resume", run, log=log)
    if not numbered(run / "checkpoints", "step"):  # killed before the first was due
        assert code == 1
        assert "no checkpoint was saved yet" in log.read_text()
        return
    assert code == 0, (batch, log.read_text())
    assert_same(run, whole(*flags))


def test_a_run_killed_again_and_again_at_any_moment_ends_with_the_same_bits(
    tmp_path: Path, forks: Forks, whole
):
    run, log, kills = tmp_path / "run", tmp_path / "log", 0
    arguments = ("fit", "quickstart", *RUN, "--checkpoint.every_steps=1", "--out", run)
    while not (run / "model").exists():
        process = forks.start(*arguments, log=log)
        known = len(numbered(run / "checkpoints", "step")) and checkpoint(run)["global_step"]
        end = time.monotonic() + 60
        while not (run / "model").exists() and time.monotonic() < end:
            found = numbered(run / "checkpoints", "step")
            if kills < 5 and found and found[0][0] > known:
                break
            time.sleep(0.005)
        if kills == 5:
            assert forks.finish() == 0, log.read_text()
            break
        time.sleep(random.random() / 20)
        forks.kill(process, signal.SIGKILL)
        kills += 1
        arguments = ("fit", "--resume", run)
    assert kills == 5
    assert_same(run, whole())


@pytest.mark.slow
@pytest.mark.fault("R1")
@pytest.mark.fault("X1")
@pytest.mark.parametrize(
    ("batch", "how"),
    [
        (2, ()),
        (EPOCH, ()),
        (EPOCH + 3, ()),
        (EPOCH + 3, THAWING),
        (EPOCH + 3, ("--mixing.mixup=0.2", "--mixing.cutmix=1", "--model.precise_bn=100")),
    ],
)
def test_two_ranks_of_which_one_is_killed_end_with_the_same_bits(
    tmp_path: Path, batch: int, how: tuple[str, ...]
):
    ranks = ("--trainer.devices=2", "--trainer.strategy=ddp", "--data.batch_size=16")
    flags = (*RUN, *ranks, *how, "--checkpoint.every_steps=1")

    def ended(*arguments: object) -> int:
        with start("fit", *arguments, cwd=tmp_path) as process:
            _, err = process.communicate(timeout=200)
        assert err.count("Traceback") == 0, err
        return process.returncode

    assert ended("quickstart", *flags, "--out", "whole") == 0
    kill = killing(tmp_path / "mark", batch=batch)
    began = time.monotonic()
    assert ended("quickstart", *flags, *kill, "--out", "run") != 0
    assert time.monotonic() - began < 60
    assert not (tmp_path / "run/model").exists()
    assert ended("--resume", "run") == 0
    assert_same(tmp_path / "run", tmp_path / "whole")


class Plain(L.LightningModule):
    """What Lightning's own guide would have one write."""

    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Dropout(0.2), torch.nn.Linear(8, 3))

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1, momentum=0.9)

    def train_dataloader(self) -> DataLoader:
        draw = torch.Generator().manual_seed(0)
        pixels, labels = torch.randn(48, 8, generator=draw), torch.arange(48) % 3
        return DataLoader(TensorDataset(pixels, labels), 8, shuffle=True)


@pytest.mark.fault("R1")
@pytest.mark.filterwarnings("ignore")
def test_plain_lightning_does_not_go_on_as_if_nothing_had_been(tmp_path: Path):
    def trained(name: str, steps: int, **how: object) -> dict[str, torch.Tensor]:
        L.seed_everything(0, workers=True, verbose=False)
        module = Plain()
        saving = ModelCheckpoint(tmp_path / name, every_n_train_steps=1, save_last=True)
        trainer = L.Trainer(
            accelerator="cpu",
            max_steps=steps,
            callbacks=[saving],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, **how)
        return module.state_dict()

    left_alone = trained("whole", 10)
    trained("stopped", 4)
    gone_on = trained("resumed", 10, ckpt_path=tmp_path / "stopped/last.ckpt")
    assert not torch.equal(left_alone["net.1.weight"], gone_on["net.1.weight"])


# Two hands on one run


@pytest.mark.fault("R8")
def test_a_run_that_another_process_trains_is_refused_until_that_is_killed(
    tmp_path: Path, forks: Forks, capsys
):
    run, log = tmp_path / "run", tmp_path / "log"
    flags = (*RUN, "--trainer.max_epochs=500", "--data.workers=2")
    process = forks.start("fit", "quickstart", *flags, "--out", run, log=log)
    end = time.monotonic() + 60
    while not numbered(run / "checkpoints", "step"):
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.05)
    message = refusal(capsys, "fit", "--resume", run)
    assert message == f"{run}: another process trains this run; wait for it, or begin another run"
    assert "is there and not empty" in refusal(capsys, "fit", "quickstart", "--out", run)
    assert forks.kill(process, signal.SIGKILL) == -signal.SIGKILL
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("max_epochs: 500", "max_epochs: 2"))
    for folder in (run / "checkpoints").iterdir():
        if numbered(run / "checkpoints", "step")[0][0] > 2 * EPOCH:
            shutil.rmtree(folder)
    capsys.readouterr()
    command("fit", "--resume", run, "--allow-changed")
    assert "another process" not in capsys.readouterr().err  # its lock died with it


@pytest.mark.fault("R8")
def test_of_two_runs_that_begin_together_in_one_folder_one_is_refused(tmp_path: Path):
    both = [start("fit", "quickstart", *RUN, "--out", "run", cwd=tmp_path) for _ in range(2)]
    errors = [process.communicate(timeout=100)[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 1]
    (error,) = (text for text in errors if text)
    assert "another process trains this run" in error or "is there and not empty" in error
    assert (tmp_path / "run/model").is_dir()


# Disks


@pytest.mark.fault("W1")
def test_a_disk_that_fills_ends_the_run_in_one_line_and_leaves_what_it_can_go_on_from(
    tmp_path: Path, capsys
):
    disk = tmp_path / "disk"
    flags = (*RUN, "--checkpoint.every_steps=1", "--checkpoint.keep=9", "--model.ema_decay=null")
    with small_disk(disk, "6m"):
        message = failure(capsys, "fit", "quickstart", *flags, "--out", disk / "run")
        assert "could not be written (No space left on device); what was there is intact" in message
        found = numbered(disk / "run/checkpoints", "step")
        assert found
        assert checkpoint(disk / "run")["global_step"] == found[0][0]
        names = [path.name for path in (disk / "run/checkpoints").iterdir()]
        assert not [name for name in names if name.startswith(".")]
        remount(disk, "size=60m")
        assert command("fit", "--resume", disk / "run") == 0
        run = fit(tmp_path / "whole", *flags)
        assert_same(disk / "run", run)


@pytest.mark.fault("W1")
def test_no_temporary_folder_elsewhere_is_needed(tmp_path: Path, monkeypatch, whole):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "not there"))
    assert_same(fit(tmp_path / "run", *RUN), whole())


@pytest.mark.fault("R6")
def test_where_nothing_was_saved_no_run_begins_from_scratch(tmp_path: Path, whole, capsys):
    run = tmp_path / "run"
    shutil.copytree(whole(), run)
    shutil.rmtree(run / "checkpoints")
    message = refusal(capsys, "fit", "--resume", run)
    assert message.startswith(f"{run}: no checkpoint was saved yet; begin the run anew")
