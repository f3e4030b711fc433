"""A run's rows of metrics."""

from pathlib import Path

import pytest

from resnet_hub.learning.reporting.journal import MetricsFile


@pytest.fixture
def metrics(tmp_path: Path) -> MetricsFile:
    file = MetricsFile(tmp_path / "metrics.csv")
    file.begin(())
    return file


def test_values_of_one_step_share_a_row_and_columns_come_as_they_first_appear(metrics: MetricsFile):
    metrics.log_metrics({"epoch": 0, "train/loss": 2.123456789, "lr": 0.1}, step=4)
    metrics.log_metrics({"epoch": 0, "train/loss": 1e-7}, step=9)
    metrics.log_metrics({"epoch": 0, "val/top1": 0.5}, step=9)
    assert metrics.filled
    metrics.write()
    assert metrics.path.read_text() == (
        "epoch,step,train/loss,lr,val/top1\n0,4,2.12346,0.1,\n0,9,1e-07,,0.5\n"
    )


def test_going_on_keeps_the_rows_of_then_and_drops_what_is_done_again(metrics: MetricsFile):
    for step in (1, 3):
        metrics.log_metrics({"epoch": 0, "train/loss": step / 3}, step=step)
    kept = metrics.rows
    metrics.log_metrics({"epoch": 0, "train/loss": 5 / 3}, step=5)
    metrics.finalize("failed")
    rows = metrics.path.read_text().splitlines(keepends=True)
    again = MetricsFile(metrics.path)
    again.begin(kept)
    again.write()
    assert metrics.path.read_text() == "".join(rows[:3])
    again.log_metrics({"epoch": 0, "train/loss": 5 / 3}, step=5)
    again.write()
    assert metrics.path.read_text() == "".join(rows)


def test_what_is_logged_outside_training_is_left_out(metrics: MetricsFile):
    metrics.log_metrics({"epoch": 0, "train/loss": 1.0}, step=0)
    metrics.finalize("success")
    rows = metrics.path.read_text()
    metrics.log_metrics({"epoch": 1, "test/top1": 1.0}, step=1)
    metrics.finalize("success")
    other = MetricsFile(metrics.path)  # of a run that is resumed with nothing left to train
    other.log_metrics({"epoch": 1, "test/top1": 1.0}, step=1)
    other.finalize("success")
    assert metrics.path.read_text() == rows


def test_nothing_logged_is_no_file(metrics: MetricsFile):
    metrics.finalize("success")
    assert not metrics.path.exists()
