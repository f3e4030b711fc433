"""Curves: what is read from metrics.csv, and that a picture is drawn of whatever it holds."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from resnet_hub.curves import draw_curves, draw_rates, read_metrics, seconds_at, series
from resnet_hub.errors import CorruptFile

HEADER = "epoch,step,train/loss,lr,train/top1,train/epoch_loss,val/top1,val/loss\n"
ROWS = """0,9,2.5,0.1,,,,
0,19,2.25,0.1,0.25,2.5,0.5,2.0
1,29,2.0,0.1,,,,
1,39,1.75,0.1,0.5,2.0,0.75,1.5
"""


@pytest.fixture
def metrics(tmp_path: Path) -> Path:
    path = tmp_path / "metrics.csv"
    path.write_text(HEADER + ROWS)
    return path


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch):
    """The axes of pictures drawn since."""
    found, save = [], Figure.savefig

    def noted(figure: Figure, *arguments: object, **how: object) -> None:
        found.append(figure.axes)
        save(figure, *arguments, **how)

    monkeypatch.setattr(Figure, "savefig", noted)
    return found


def lines(axes: object) -> dict[str, list[tuple[float, float]]]:
    return {line.get_label(): list(map(tuple, line.get_xydata())) for line in axes.lines}


def test_empty_cells_are_left_out(metrics: Path):
    rows = read_metrics(metrics)
    assert rows[0] == {"epoch": 0, "step": 9, "train/loss": 2.5, "lr": 0.1}
    assert rows[3]["val/loss"] == 1.5
    assert len(rows) == 4


@pytest.mark.parametrize(
    "text",
    [
        "epoch,step,lr\n0,9,much\n",
        "epoch,step\n0,9,3\n",
        "epoch,lr\n0,0.1\n",
        "epoch,step\n0,\n",
        "epoch,step\n0,inf\n",
        "",
        "\0",
        "epoch,step\n\udc80,1\n",
    ],
)
def test_what_are_no_rows_of_numbers_is_refused(tmp_path: Path, text: str):
    path = tmp_path / "metrics.csv"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(CorruptFile, match=r"metrics\.csv: not a run's rows of numbers"):
        read_metrics(path)


def test_a_series_counts_epochs_from_one(metrics: Path):
    assert series(read_metrics(metrics), "val/top1") == ([1.0, 2.0], [0.5, 0.75])
    assert series(read_metrics(metrics), "test/top1") == ([], [])


def test_of_several_values_in_an_epoch_a_series_has_the_last(metrics: Path):
    assert series(read_metrics(metrics), "train/loss") == ([1.0, 2.0], [2.25, 1.75])


def test_error_in_percent_and_loss_are_drawn_over_the_epochs(metrics: Path, drawn: list):
    draw_curves(metrics, metrics.with_name("curves.png"))
    ((error, loss),) = drawn
    assert lines(error) == {"training": [(1, 75), (2, 50)], "validation": [(1, 50), (2, 25)]}
    assert lines(loss) == {"training": [(1, 2.5), (2, 2.0)], "validation": [(1, 2.0), (2, 1.5)]}
    assert (error.get_title(), loss.get_title()) == ("top-1 error (%)", "loss")
    assert error.get_ylim()[0] == loss.get_ylim()[0] == 0
    with Image.open(metrics.with_name("curves.png")) as picture:
        assert (picture.format, picture.size) == ("PNG", (1500, 600))


def test_curves_of_the_test_split_are_called_so(metrics: Path, drawn: list):
    metrics.write_text((HEADER + ROWS).replace("val/", "test/"))
    draw_curves(metrics, metrics.with_name("curves.png"))
    assert lines(drawn[0][0])["test"] == [(1, 50), (2, 25)]
    assert "validation" not in lines(drawn[0][0])


def test_with_a_moving_average_the_live_net_has_a_curve_too(metrics: Path, drawn: list):
    head, *rows = (HEADER + ROWS).splitlines()
    cells = [f"{row},0.25" if row.endswith(("2.0", "1.5")) else f"{row}," for row in rows]
    metrics.write_text("\n".join([f"{head},val/live_top1", *cells]))
    draw_curves(metrics, metrics.with_name("curves.png"))
    assert lines(drawn[0][0])["without averaging"] == [(1, 75), (2, 75)]


def test_of_mixed_batches_the_share_of_their_targets_that_was_missed_is_drawn_by_its_name(
    metrics: Path, drawn: list
):
    metrics.write_text((HEADER + ROWS).replace("train/top1", "train/soft_top1"))
    draw_curves(metrics, metrics.with_name("curves.png"))
    shown = lines(drawn[0][0])
    assert shown["training, of mixed targets"] == [(1, 75), (2, 50)]
    assert set(shown) == {"training, of mixed targets", "validation"}


def test_a_single_epoch_can_be_seen(metrics: Path, drawn: list):
    metrics.write_text(HEADER + "".join(ROWS.splitlines(keepends=True)[:2]))
    draw_curves(metrics, metrics.with_name("curves.png"))
    assert {line.get_marker() for axes in drawn[0] for line in axes.lines} == {"."}


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_loss_that_left_the_numbers_is_no_reason_to_stop(metrics: Path, value: str):
    metrics.write_text(HEADER + ROWS.replace("2.0\n", f"{value}\n").replace("1.5\n", f"{value}\n"))
    draw_curves(metrics, metrics.with_name("curves.png"))
    assert metrics.with_name("curves.png").stat().st_size > 1000


def test_a_run_without_epochs_yet_is_drawn_empty(metrics: Path):
    metrics.write_text(HEADER)
    draw_curves(metrics, metrics.with_name("curves.png"))
    assert metrics.with_name("curves.png").is_file()
    assert sorted(path.name for path in metrics.parent.iterdir()) == ["curves.png", "metrics.csv"]


@pytest.mark.parametrize("suggestion", [0.01, None])
def test_losses_over_rates_are_drawn_with_what_is_suggested(
    tmp_path: Path, drawn: list, suggestion: float | None
):
    rates, losses = [1e-4, 1e-3, 1e-2, 1e-1], [2.3, 2.2, 1.5, 40.0]
    draw_rates(rates, losses, losses, tmp_path / "rates.png", suggestion=suggestion)
    ((axes,),) = drawn
    shown = lines(axes)
    assert shown["smoothed"] == list(zip(rates, losses, strict=True))
    assert axes.get_xscale() == "log"
    assert axes.get_ylim()[1] < 10  # what diverged does not flatten the rest
    marks = [label for label in shown if "steepest descent" in label]
    assert marks == (["steepest descent, 0.01"] if suggestion else [])
    with Image.open(tmp_path / "rates.png") as picture:
        assert picture.format == "PNG"


def test_the_time_after_a_step_lies_between_those_that_were_logged():
    rows = [
        {"epoch": 0.0, "step": 9.0, "seconds": 20.0},
        {"epoch": 0.0, "step": 12.0, "train/loss": 1.0},
        {"epoch": 0.0, "step": 19.0, "seconds": 30.0},
    ]
    assert seconds_at(rows, [5, 10, 13, 20, 25]) == [10, 20, 23, 30, 30]
    assert seconds_at(rows[1:2], [13]) == []
