"""What a run tells of its pace and its end, by a clock that the tests move."""

import re
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback, RichProgressBar
from small_runs import TINY, command, fit

from resnet_hub.curves import read_metrics
from resnet_hub.data.digits import Digits
from resnet_hub.data.settings import DataSettings
from resnet_hub.learning.classifier import Classifier
from resnet_hub.learning.reporting import progress
from resnet_hub.learning.reporting.journal import MetricsFile
from resnet_hub.learning.reporting.pace import Pace
from resnet_hub.learning.reporting.progress import Progress, RunBar
from resnet_hub.nets.resnet import ResNet

TRAINING, FIRST = 2.0, 7.0  # seconds of a batch, and of the run's first


class Clock(Callback):
    """Time that passes with batches alone, and what was said and forecast at which of it."""

    def __init__(self, evaluating: float) -> None:
        self.now, self.evaluating = 100.0, evaluating
        self.said: list[tuple[float, str]] = []
        self.forecasts: list[tuple[float, float | None]] = []
        self.progress: Progress | None = None

    def __call__(self) -> float:
        return self.now

    def say(self, line: str) -> None:
        self.said.append((self.now, line))

    # Behind the other: its readings of a batch's end come before the forecasts here.
    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        first = trainer.fit_loop.total_batch_idx == 0
        self.now += FIRST if first else TRAINING

    def on_validation_batch_start(self, *_: Any) -> None:
        self.now += self.evaluating

    on_test_batch_start = on_validation_batch_start

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self.forecasts.append((self.now, self.progress.seconds_left(trainer)))

    on_validation_batch_end = on_test_batch_end = on_train_batch_end


def run(
    tmp_path: Path,
    *,
    evaluating: float = 0.5,
    clock: Clock | None = None,
    lines: bool = True,
    heartbeat: float = 0,
    **options: Any,
) -> Clock:
    """Train and test on a few batches of digits; return the clock, at the end of it all."""
    torch.manual_seed(0)
    clock = clock or Clock(evaluating)
    metrics = MetricsFile(tmp_path / "metrics.csv")
    metrics.begin(())
    pace = Pace(clock)
    clock.progress = Progress(metrics, clock.say, lines=lines, heartbeat=heartbeat, pace=pace)
    own = {
        "accelerator": "cpu",
        "max_epochs": 3,
        "limit_train_batches": 6,
        "limit_val_batches": 2,
        "limit_test_batches": 4,
        "logger": [metrics],
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 2,
        "use_distributed_sampler": False,
        "callbacks": [clock.progress, clock],
    }
    trainer = L.Trainer(**{**own, **options})
    data = Digits(DataSettings(name="Digits", batch_size=32), seed=3)
    classifier = Classifier(ResNet("cifar_resnet20", in_channels=1))
    trainer.fit(classifier, data)
    metrics.write()
    trainer.test(classifier, data, verbose=False)
    return clock


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="a validation an epoch"),
        pytest.param({"val_check_interval": 3}, id="two an epoch"),
        pytest.param({"check_val_every_n_epoch": 3}, id="one in three epochs"),
        pytest.param({"check_val_every_n_epoch": None, "val_check_interval": 9}, id="by batches"),
        pytest.param({"limit_val_batches": 0}, id="none"),
        pytest.param({"accumulate_grad_batches": 4}, id="two batches are left over an epoch"),
        pytest.param({"max_epochs": -1, "max_steps": 12}, id="by steps"),
        pytest.param({"limit_test_batches": 0.25}, id="a share of the test"),
    ],
)
def test_the_time_left_is_that_of_the_steps_validations_and_test_to_come(tmp_path: Path, options):
    clock = run(tmp_path, evaluating=TRAINING, **options)
    known = [(now, left) for now, left in clock.forecasts if left is not None]
    assert len(known) == len(clock.forecasts) - 1  # the first batch is no measure
    # Of a validation that follows this very batch, or of a step half done, nothing is known.
    validation = 0 if options.get("limit_val_batches") == 0 else 2
    unknown = max(validation, options.get("accumulate_grad_batches", 0)) * TRAINING
    for now, left in known:
        assert left == pytest.approx(clock.now - now, abs=unknown + 0.2)


def test_evaluations_have_a_pace_of_their_own_once_one_was_seen(tmp_path: Path):
    clock = run(tmp_path)
    _, left = clock.forecasts[1]
    batches, validated, tested = 16, 3 * 2, 4
    assert left == pytest.approx((batches + validated + tested) * TRAINING)
    now, left = clock.forecasts[8]  # the second epoch's first batch
    assert left == pytest.approx(clock.now - now) == 11 * TRAINING + (2 * 2 + 4) * 0.5


def test_a_run_with_less_time_than_steps_ends_with_its_time(tmp_path: Path):
    forecasts = run(tmp_path, max_time={"seconds": 10}).forecasts
    evaluations = (3 * 2 + 4) * TRAINING
    assert all(left <= 10 + evaluations for _, left in forecasts if left is not None)


def test_rows_have_the_images_a_second_and_the_share_of_waiting(tmp_path: Path):
    run(tmp_path)
    table = read_metrics(tmp_path / "metrics.csv")
    timed = {int(row["step"]): row["images_per_s"] for row in table if "images_per_s" in row}
    assert sorted(timed) == [1, 3, 5, 7, 9, 11, 13, 15, 17]
    assert timed.pop(1) == pytest.approx(2 * 32 / (FIRST + TRAINING), rel=1e-5)
    assert set(timed.values()) == {32 / TRAINING}  # validations take none of it
    for row in table:
        assert ("train/loss" in row) == ("images_per_s" in row) == ("data_wait" in row)
        assert 0 <= row.get("data_wait", 0) <= 1
    columns = (tmp_path / "metrics.csv").read_text().partition("\n")[0].split(",")
    assert columns[-3:] == ["images_per_s", "data_wait", "seconds"]


def test_rows_have_the_time_in_training_so_far_without_validations(tmp_path: Path):
    run(tmp_path)
    timed = [row for row in read_metrics(tmp_path / "metrics.csv") if "seconds" in row]
    assert [row["seconds"] for row in timed] == [FIRST + TRAINING * row["step"] for row in timed]
    assert timed[-1]["step"] == 17


def test_waiting_for_the_loader_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    times = iter(range(1, 10_000))
    monkeypatch.setattr("resnet_hub.data.loader.perf_counter", lambda: float(next(times)))
    run(tmp_path)  # a batch is waited for one second by the loader's clock, of two
    table = read_metrics(tmp_path / "metrics.csv")
    shares = [row["data_wait"] for row in table if "data_wait" in row]
    assert shares[0] == pytest.approx(2 / (FIRST + TRAINING), rel=1e-5)
    assert set(shares[1:]) == {0.5}


def test_a_long_epoch_is_told_of_in_between(tmp_path: Path):
    clock = run(tmp_path, heartbeat=5)
    lines = [line for _, line in clock.said]
    assert lines[1] == "step 1 of 18  epoch 1"
    assert re.fullmatch(
        r"step 4 of 18  epoch 1  train/loss \d\.\d+  images/s 16  data wait \d%  left 0:00:\d\d",
        lines[2],
    )
    silent = [b - a for (a, _), (b, _) in zip(clock.said, clock.said[1:], strict=False)]
    assert max(silent) <= 7
    assert [line[:7] for line in lines if line.startswith("epoch")] == [
        "epoch 1",
        "epoch 2",
        "epoch 3",
    ]
    assert "  images/s 16  data wait " in next(line for line in lines if line[:7] == "epoch 2")


def test_evaluations_are_told_of_too(tmp_path: Path):
    clock = run(tmp_path, heartbeat=0.4)
    lines = [line for _, line in clock.said]
    assert any("  validating 32 of 64 images  images/s" in line for line in lines)
    testing = [line for line in lines if line.startswith("testing ")]
    assert [line.partition("  ")[0] for line in testing] == [
        f"testing {n} of 128 images" for n in (32, 64, 96, 128)
    ]
    assert testing[0].endswith("left 0:00:02")


def test_an_epoch_within_the_heartbeat_has_its_line_alone(tmp_path: Path):
    said = [line for _, line in run(tmp_path, heartbeat=60).said]
    assert [line.partition(" ")[0] for line in said] == ["cifar_resnet20:", *["epoch"] * 3]


@pytest.mark.filterwarnings("ignore:.*logging interval")
def test_an_epochs_line_has_the_epochs_own_values_and_the_images_validated(tmp_path: Path):
    lines = [line for _, line in run(tmp_path, log_every_n_steps=8).said]
    epochs = [dict(part.rsplit(" ", 1) for part in line.split("  ")) for line in lines[1:]]
    # Of 18 steps the 8th and the 16th are logged, in the second epoch and the third.
    rows = {int(row["epoch"]): row for row in read_metrics(tmp_path / "metrics.csv") if "lr" in row}
    assert ["train/loss" in epoch for epoch in epochs] == [False, True, True]
    for number, row in rows.items():
        assert float(epochs[number]["train/loss"]) == pytest.approx(row["train/loss"], rel=1e-3)
    assert {epoch["val/n"] for epoch in epochs} == {"64"}


def test_where_a_bar_shows_it_no_line_is_said(tmp_path: Path):
    said = [line for _, line in run(tmp_path, lines=False, heartbeat=0.1).said]
    assert len(said) == 1


def test_only_logged_steps_ask_for_a_tensors_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    item, asked = torch.Tensor.item, []

    def noted(tensor: torch.Tensor) -> Any:
        asked.append(len(clock.forecasts))
        return item(tensor)

    clock = Clock(0.5)
    monkeypatch.setattr(torch.Tensor, "item", noted)
    run(tmp_path, clock=clock, max_epochs=1, limit_train_batches=12, log_every_n_steps=4)
    assert {batches for batches in asked if 0 < batches < 12} == {4, 8}


def test_the_bar_shows_the_pace_and_the_runs_end_and_asks_no_tensor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shown = []
    get_metrics = RunBar.get_metrics

    def seen(bar: RunBar, trainer: L.Trainer, module: L.LightningModule) -> dict[str, Any]:
        with monkeypatch.context() as patch:
            patch.setattr(torch.Tensor, "item", None)
            patch.setattr(torch.Tensor, "__float__", None)
            shown.append(get_metrics(bar, trainer, module))
        return shown[-1]

    monkeypatch.setattr(RunBar, "get_metrics", seen)
    flags = ("--trainer.limit_train_batches=4", "--trainer.enable_progress_bar=true")
    fit(tmp_path / "run", *flags)
    assert list(shown[-1]) == ["run left", "images/s", "data wait", "train/loss", "lr"]
    assert all(isinstance(shown[-1][name], float) for name in ("train/loss", "lr"))
    assert re.fullmatch(r"\d:\d\d:\d\d", shown[-1]["run left"])


def test_the_bar_of_a_terminal_has_it_on_its_line(tmp_path: Path, capsys):
    flags = ("--trainer.limit_train_batches=8", "--trainer.enable_progress_bar=true")
    assert command("fit", "quickstart", *TINY, *flags, "--out", tmp_path / "run") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert re.search(
        r"run left: 0:\d\d:\d\d images/s: [\d,.]+ data wait: \d+% train/loss: \d\.", out
    )
    assert "it/s" not in out


def test_the_bar_is_brought_up_to_date_by_time_and_at_an_epochs_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    drawn: list[int] = []
    monkeypatch.setattr(
        RichProgressBar, "on_train_batch_end", lambda _, *given: drawn.append(given[-1])
    )
    now = iter(0.1 * tick for tick in range(100))
    monkeypatch.setattr(progress, "monotonic", lambda: next(now))
    flags = ("--trainer.limit_train_batches=9", "--trainer.enable_progress_bar=true")
    fit(tmp_path / "run", *flags)
    assert drawn == [0, 3, 6, 8]  # a batch takes a tenth of a second: four times in one


def test_a_heartbeat_is_set_in_the_recipe(tmp_path: Path, capsys):
    fit(tmp_path / "run", "--trainer.limit_train_batches=4", "--progress.heartbeat=1e-6")
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("step ") for line in lines) >= 4
    assert sum(line.startswith("testing ") for line in lines) >= 1
