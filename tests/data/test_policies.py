"""Policies: torchvision's under a key, and timm's increasing form against timm."""

import math
import pickle
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import timm.data.auto_augment as timms
import torch
from pictures import pattern
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from resnet_hub.data.policies import OPERATIONS, IncreasingRandAugment, Policy, policy_of
from resnet_hub.data.settings import DataSettings
from resnet_hub.preprocess import Preprocess
from resnet_hub.randomness import keyed_generator

TIMMS_NAMES = {
    **{name: name for name in ("AutoContrast", "Equalize", "Invert", "Rotate", "SolarizeAdd")},
    **{name: name for name in ("ShearX", "ShearY")},
    **{f"Translate{axis}": f"Translate{axis}Rel" for axis in "XY"},
    **{
        name: f"{name}Increasing"
        for name in ("Posterize", "Solarize", "Color", "Contrast", "Brightness", "Sharpness")
    },
}
AUTO = {
    "autoaugment_imagenet": v2.AutoAugmentPolicy.IMAGENET,
    "autoaugment_cifar10": v2.AutoAugmentPolicy.CIFAR10,
}
FILL = (124, 116, 104)
OURS = IncreasingRandAugment(fill=FILL, resample=Image.Resampling.BILINEAR)
PICTURE = pattern(40, 30, seed=3)


def policy(name: Any, preprocess: Preprocess | None = None, **settings: Any) -> Policy:
    chosen = policy_of(DataSettings(policy=name, **settings), preprocess or Preprocess())
    assert chosen is not None
    return chosen


def keyed(policy: Policy, keys: int, picture: Image.Image = PICTURE) -> list[Any]:
    results = []
    for key in range(keys):
        with keyed_generator(key):
            results.append(np.array(policy(picture)))
    return results


@pytest.fixture(params=[False, True])
def negative(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """The way that timm's operations take, in place of a coin."""
    monkeypatch.setattr(timms, "_randomly_negate", lambda v: -v if request.param else v)
    return bool(request.param)


def test_the_operations_are_timms_of_the_increasing_form() -> None:
    assert {TIMMS_NAMES[name] for name in OPERATIONS} == set(timms._RAND_INCREASING_TRANSFORMS)
    assert len(OPERATIONS) == len(timms._RAND_INCREASING_TRANSFORMS) == 15


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("resample", [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC])
@pytest.mark.parametrize("name", TIMMS_NAMES)
def test_every_operation_gives_timms_picture_at_every_level(
    name: str, resample: Image.Resampling, mode: Any, negative: bool
) -> None:
    picture = PICTURE.convert(mode)
    fill = FILL if mode == "RGB" else FILL[0]
    look = IncreasingRandAugment(fill=fill, resample=resample)
    hparams = {"img_mean": fill, "interpolation": resample}
    # Pillow 13 refuses timm's posterising at 10, to no bit at all.
    for level in (0.0, 0.3, 2.5, 3.1, 6.0, 7.0, 7.49, 9.9, *([10.0] * (name != "Posterize"))):
        theirs = timms.AugmentOp(TIMMS_NAMES[name], 1.0, level, hparams)(picture)
        ours = look.apply(name, picture, level=level, negative=negative)
        assert ours.mode == theirs.mode
        assert ours.tobytes() == theirs.tobytes(), level


def test_posterising_to_no_bit_leaves_black() -> None:
    assert not np.array(OURS.apply("Posterize", PICTURE, level=10.0)).any()


@pytest.mark.parametrize("name", sorted(set(TIMMS_NAMES) - {"AutoContrast", "Equalize", "Invert"}))
def test_every_graded_operation_changes_more_at_a_higher_level(name: str) -> None:
    def change(level: float) -> float:
        after = np.array(OURS.apply(name, PICTURE, level=level)).astype(float)
        return float(abs(after - np.array(PICTURE)).mean())

    assert change(1.0) < change(9.0)


def test_operations_levels_and_ways_are_drawn_as_timm_draws_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[tuple[str, float, bool]] = []

    def note(
        self: IncreasingRandAugment, name: str, picture: Any, *, level: float, negative: bool
    ) -> Any:
        drawn.append((name, level, negative))
        return picture

    monkeypatch.setattr(IncreasingRandAugment, "apply", note)
    keyed(IncreasingRandAugment(magnitude=7, std=0.5, ops=2), 6000)
    assert abs(len(drawn) - 6000) < 5 * math.sqrt(12000 / 4)  # each of the two half of the time
    counts = Counter(name for name, _, _ in drawn)
    assert set(counts) == set(OPERATIONS)
    assert all(abs(count - 400) < 5 * 20 for count in counts.values())
    levels = np.array([level for _, level, _ in drawn])
    assert abs(levels.mean() - 7) < 5 * 0.5 / math.sqrt(len(drawn))
    assert abs(levels.std() - 0.5) < 0.03
    assert abs(sum(negative for *_, negative in drawn) - 3000) < 5 * math.sqrt(1500)


def test_levels_are_cut_to_timms_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    levels: list[float] = []
    monkeypatch.setattr(
        IncreasingRandAugment,
        "apply",
        lambda self, name, picture, *, level, negative: levels.append(level) or picture,
    )
    keyed(IncreasingRandAugment(magnitude=9, std=4.0), 200)
    keyed(IncreasingRandAugment(magnitude=1, std=4.0), 200)
    assert (min(levels), max(levels)) == (0.0, 10.0)
    levels.clear()
    keyed(IncreasingRandAugment(magnitude=6), 20)
    assert set(levels) == {6.0}


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("name", ["trivial", "randaugment", *AUTO])
def test_torchvisions_policies_are_torchvisions_under_the_same_key(
    name: str, interpolation: Any
) -> None:
    filtered = InterpolationMode[interpolation.upper()]
    reference: Callable[..., Any] = v2.TrivialAugmentWide(interpolation=filtered)
    if name == "randaugment":
        reference = v2.RandAugment(num_ops=3, magnitude=15, interpolation=filtered)
    if name in AUTO:
        reference = v2.AutoAugment(AUTO[name], interpolation=filtered)
    chosen = policy(
        name, Preprocess(interpolation=interpolation), policy_ops=3, policy_magnitude=15
    )
    ours, theirs = keyed(chosen, 60), keyed(reference, 60)
    assert all(map(np.array_equal, ours, theirs))
    assert len({picture.tobytes() for picture in ours}) > 15


@pytest.mark.parametrize("name", ["trivial", "randaugment", "randaugment_increasing", *AUTO])
def test_policies_draw_from_torchs_default_generator_alone(name: str) -> None:
    chosen = policy(name)
    random.seed(1)
    np.random.seed(1)
    before = random.getstate(), str(np.random.get_state())
    first = keyed(chosen, 40)
    assert (random.getstate(), str(np.random.get_state())) == before
    random.seed(2)
    np.random.seed(2)
    torch.manual_seed(2)
    assert all(map(np.array_equal, first, keyed(chosen, 40)))


@pytest.mark.parametrize("name", ["trivial", "randaugment", "randaugment_increasing", *AUTO])
def test_policies_keep_size_and_mode_and_can_be_sent_to_a_fresh_worker(name: str) -> None:
    for preprocess in (Preprocess(), Preprocess().with_channels(1)):
        chosen = policy(name, preprocess)
        picture = PICTURE.convert("RGB" if preprocess.channels == 3 else "L")
        results = keyed(chosen, 60, picture)
        assert {result.shape for result in results} == {np.array(picture).shape}
        sent = keyed(pickle.loads(pickle.dumps(chosen)), 60, picture)
        assert all(map(np.array_equal, results, sent))


def test_a_moved_picture_shows_the_mean_colour_behind_it_as_timms_does() -> None:
    chosen = policy("randaugment_increasing", policy_magnitude=7, policy_std=0.5)
    assert isinstance(chosen, IncreasingRandAugment)
    assert (chosen.fill, chosen.magnitude, chosen.std, chosen.ops) == (FILL, 7, 0.5, 2)
    moved = chosen.apply("TranslateX", Image.new("RGB", (40, 30), "white"), level=10.0)
    assert moved.getpixel((39, 0)) == FILL
    mean_image = Preprocess(size=2, resize=None, mean=(0.2, 0.4, 0.6, 0.8) * 3, std=(1.0,) * 3)
    assert policy("randaugment_increasing", mean_image).fill == (128,) * 3  # type: ignore[attr-defined]


def test_no_policy_is_none() -> None:
    assert policy_of(DataSettings(), Preprocess()) is None
