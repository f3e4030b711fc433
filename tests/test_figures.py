"""Figures: lines and bands as they were given, and files of either kind, the same each time."""

from pathlib import Path

import pytest
from PIL import Image

from resnet_hub.errors import InvalidSetting
from resnet_hub.figures import PALETTE, Line, count_along, draw, panels, plain, write_figure


def test_a_line_is_drawn_with_its_band_behind_it():
    _, (axes,) = panels()
    draw(axes, Line([1, 2], [3, 4], "net", PALETTE[1], dashed=True, band=([2, 3], [4, 5])))
    (line,), (band,) = axes.lines, axes.collections
    assert line.get_xydata().tolist() == [[1, 3], [2, 4]]
    assert (line.get_label(), line.get_linestyle(), line.get_color()) == ("net", "--", PALETTE[1])
    assert band.get_datalim(axes.transData).bounds == (1, 2, 1, 3)


def test_a_single_point_is_seen():
    _, (axes,) = panels()
    draw(axes, Line([1], [3]))
    draw(axes, Line([1, 2], [3, 4]))
    assert [line.get_marker() for line in axes.lines] == [".", "None"]


def test_a_single_point_of_training_is_told_from_one_of_test():
    _, (axes,) = panels()
    for dashed in (False, True):
        draw(axes, Line([1], [3], colour=PALETTE[1], dashed=dashed))
    assert [line.get_markerfacecolor() for line in axes.lines] == [PALETTE[1], "white"]


def test_charts_come_row_by_row():
    _, charts = panels(3, 2)
    assert [axes.get_subplotspec().num1 for axes in charts] == list(range(6))


@pytest.mark.parametrize("ending", ["png", "svg", "PNG"])
def test_a_file_is_what_its_ending_says_and_always_the_same_bytes(tmp_path: Path, ending: str):
    pictures = [tmp_path / f"{name}.{ending}" for name in "ab"]
    for picture in pictures:
        figure, (axes,) = panels()
        draw(axes, Line([1, 2], [3, 4], "a net"))
        axes.legend()
        write_figure(figure, picture)
    first, second = (picture.read_bytes() for picture in pictures)
    assert first == second
    if ending == "svg":
        assert b">a net</text>" in first
    else:
        with Image.open(pictures[0]) as picture:
            assert picture.format == "PNG"


def test_another_ending_is_refused_and_nothing_is_written(tmp_path: Path):
    figure, _ = panels()
    with pytest.raises(InvalidSetting, match=r"curves\.jpg: ends in neither \.png nor \.svg"):
        write_figure(figure, tmp_path / "curves.jpg")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_words_of_others_are_drawn_letter_by_letter(tmp_path: Path, ending: str, recwarn):
    figure, (axes,) = panels()
    draw(axes, Line([1, 2], [3, 4], "run $\\foo$ \u202e猫\n"))
    axes.set_title(plain("$\\bar{$"))
    axes.legend()
    write_figure(figure, picture := tmp_path / f"words.{ending}")
    assert not recwarn.list
    if ending == "svg":
        drawn = picture.read_text("utf-8")
        assert "$\\foo$ \\u202e猫\\n</text>" in drawn
        assert "$\\bar{$</text>" in drawn


def test_a_label_that_begins_with_an_underscore_is_in_the_legend():
    _, (axes,) = panels()
    draw(axes, Line([0, 1], [1, 2], "_mine"))
    assert [text.get_text() for text in axes.legend().get_texts()] == [" _mine"]


def test_a_single_step_has_no_fractions_of_itself_beside_it():
    figure, (axes,) = panels()
    draw(axes, Line([8], [0.5]))
    count_along(axes)
    figure.draw_without_rendering()
    assert all(tick == int(tick) for tick in axes.get_xticks())
