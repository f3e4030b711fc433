"""Runs over each other: which values at which places, what is dashed, what a band is of."""

import pytest

from resnet_hub.errors import DataMissing, InvalidSetting
from resnet_hub.figures import PALETTE
from resnet_hub.report.overlay import overlay


def lines(figure) -> list[tuple[str, str, list[float], list[float]]]:
    (axes,) = figure.axes
    return [
        (line.get_linestyle(), line.get_color(), list(line.get_xdata()), list(line.get_ydata()))
        for line in axes.lines
        if line.get_xdata()[0] == line.get_xdata()[0]  # the legend's own are of no place
    ]


def legend(figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_training_is_dashed_and_what_was_watched_solid_in_percent(trained):
    figure = overlay([trained()])
    assert lines(figure) == [
        ("--", PALETTE[0], [1, 2], [75, 50]),
        ("-", PALETTE[0], [1, 2], [50, 25]),
    ]
    assert legend(figure) == ["cifar_resnet20", "test", "training"]
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "top-1 error (%)")


@pytest.mark.parametrize(
    ("x", "places", "label"),
    [
        ("iteration", [2, 4], "iteration"),
        ("epoch", [1, 2], "epoch"),
        ("time", [20, 40], "time in training (seconds)"),
    ],
)
def test_curves_lie_over_iterations_epochs_or_time(trained, x: str, places: list, label: str):
    figure = overlay([trained()], x=x, y="loss")
    assert [line[2:] for line in lines(figure)] == [(places, [1.75, 0.75]), (places, [1.5, 0.5])]
    assert figure.axes[0].get_xlabel() == label


def test_the_learning_rate_is_one_line_a_run(trained):
    assert lines(overlay([trained()], y="lr", x="iteration")) == [
        ("-", PALETTE[0], [1, 2, 3, 4], [0.1] * 4)
    ]


def test_seeds_are_a_mean_within_one_standard_deviation(trained):
    figure = overlay([trained(seed=0), trained("b", seed=1, by=0.2)])
    _, (_, _, _, test) = lines(figure)
    assert test == pytest.approx([60, 35])
    *_, band = figure.axes[0].collections
    low, high = band.get_datalim(figure.axes[0].transData).intervaly
    deviation = 20 / 2**0.5
    assert (low, high) == pytest.approx((35 - deviation, 60 + deviation))
    assert legend(figure)[0] == "cifar_resnet20, 2 runs, mean ± std"


def test_of_three_seeds_the_deviation_is_of_a_sample(trained):
    runs = [trained(f"run{seed}", seed=seed, by=by) for seed, by in enumerate((0.0, 0.1, 0.2))]
    figure = overlay(runs)
    _, (_, _, _, test) = lines(figure)
    assert test == pytest.approx([60, 35])
    *_, band = figure.axes[0].collections
    assert band.get_datalim(figure.axes[0].transData).intervaly == pytest.approx((25, 70))
    assert legend(figure)[0] == "cifar_resnet20, 3 runs, mean ± std"


def test_seeds_apart_are_a_line_each_of_one_colour(trained):
    figure = overlay([trained(seed=0), trained("b", seed=1, by=0.2)], seeds="apart")
    solid = [line for line in lines(figure) if line[0] == "-"]
    assert [line[3] for line in solid] == [[50, 25], pytest.approx([70, 45])]
    assert {line[1] for line in solid} == {PALETTE[0]}
    assert not figure.axes[0].collections
    assert legend(figure)[0] == "cifar_resnet20, 2 runs"


def test_a_seed_that_is_behind_ends_the_mean_there(trained):
    behind = trained("b", seed=1)
    del behind.rows[2:]
    assert [line[2] for line in lines(overlay([trained(), behind]))] == [[1], [1]]


def test_a_run_without_times_is_refused_by_its_name(trained):
    with pytest.raises(DataMissing, match=r"^old: its metrics\.csv has no column of seconds"):
        overlay([trained(), trained("old", times=False, seed=1)], x="time")


def test_a_run_that_logged_no_such_values_is_refused_by_its_name(trained):
    run = trained("young")
    del run.rows[1:]
    with pytest.raises(DataMissing, match=r"^young: no loss was logged yet"):
        overlay([run], y="loss")


def test_more_recipes_than_colours_are_refused(trained):
    runs = [trained(str(n), optimizer={"lr": 0.1 * (n + 1)}) for n in range(8)]
    with pytest.raises(InvalidSetting, match="8 recipes are more than the 7 colours"):
        overlay(runs)
