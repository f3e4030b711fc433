"""Pictures of Grad-CAM maps: what colours mean, and that nothing is cut or lost."""

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from pictures import pattern
from PIL import Image

from resnet_hub.evaluation.heat import beside, enlarged, overlay


def test_no_heat_is_the_grey_picture_and_most_heat_the_last_colour_over_it():
    picture = pattern(40, 30)
    heat = torch.zeros(30, 40)
    heat[3, 7] = 0.2
    hot = np.asarray(overlay(picture, heat)).astype(int)
    grey = np.asarray(picture.convert("L")).astype(int)
    cold = np.ones((30, 40), bool)
    cold[3, 7] = False
    assert (hot[cold] == grey[cold][:, None]).all()
    last = 255 * np.array(colormaps["inferno"](1.0)[:3])
    assert np.abs(hot[3, 7] - (0.25 * grey[3, 7] + 0.75 * last)).max() <= 1


def test_what_the_net_did_not_see_is_dimmed():
    picture = pattern(40, 30)
    heat = torch.zeros(30, 40)
    heat[:, :10] = torch.nan
    hot = np.asarray(overlay(picture, heat)).astype(int)
    grey = np.asarray(picture.convert("L")).astype(int)[..., None]
    assert (hot[:, :10].sum() < 0.4 * (grey[:, :10] + 0 * hot[:, :10]).sum()).all()
    assert (hot[:, 10:] == grey[:, 10:]).all()


def test_more_heat_is_brighter_so_that_a_grey_print_shows_it():
    black = Image.new("RGB", (100, 1))
    hot = np.asarray(overlay(black, torch.linspace(0, 1, 100)[None]).convert("L")).astype(int)
    assert (np.diff(hot[0]) >= 0).all()
    assert hot[0, -1] > 150


def test_a_map_without_heat_is_no_division_by_nothing():
    picture = pattern(40, 30)
    hot = overlay(picture, torch.zeros(30, 40))
    assert hot.tobytes() == picture.convert("L").convert("RGB").tobytes()


@pytest.mark.parametrize(
    ("size", "factor"), [((32, 32), 7), ((28, 20), 8), ((500, 375), 1), ((30, 224), 1)]
)
def test_small_pictures_are_enlarged_by_whole_numbers(size: tuple[int, int], factor: int):
    picture = pattern(*size)
    larger = enlarged(picture)
    assert larger.size == (size[0] * factor, size[1] * factor)
    pixels = np.asarray(picture).repeat(factor, 0).repeat(factor, 1)
    assert (np.asarray(larger) == pixels).all()


@pytest.mark.parametrize("size", [(300, 200), (32, 400), (2000, 90)])
def test_both_pictures_stand_whole_and_at_their_size_on_the_sheet(size: tuple[int, int]):
    picture, hot = pattern(*size, seed=1), pattern(*size, seed=2)
    sheet = np.asarray(beside(picture, hot, titles=("dog.jpg", "93.20%  dog")))
    places = [_found(sheet, np.asarray(part)) for part in (picture, hot)]
    assert places[0][0] == places[1][0] > 10
    assert places[1][1] - places[0][1] > size[0]


def test_words_that_do_not_fit_stay_within_their_own_panel():
    picture = Image.new("RGB", (250, 100), "white")
    short = beside(picture, picture, titles=("", "dog"))
    long = beside(picture, picture, titles=("x" * 400, "dog"))
    assert short.size == long.size
    gap = (short.width - 2 * 250) // 3
    right = (gap + 250, 0, short.width, short.height)
    assert short.crop(right).tobytes() == long.crop(right).tobytes()
    assert short.tobytes() != long.tobytes()


def test_words_of_others_cannot_break_the_line():
    picture = Image.new("RGB", (250, 100), "white")
    assert beside(picture, picture, titles=("a\nb", "$x^")).height == (
        beside(picture, picture, titles=("ab", "x")).height
    )


def _found(sheet: np.ndarray, part: np.ndarray) -> tuple[int, int]:
    """Where a picture stands on a sheet."""
    height, width = part.shape[:2]
    for row in range(sheet.shape[0] - height + 1):
        for column in range(sheet.shape[1] - width + 1):
            if (sheet[row, column] == part[0, 0]).all() and (
                sheet[row : row + height, column : column + width] == part
            ).all():
                return row, column
    raise AssertionError("it is not on the sheet")
