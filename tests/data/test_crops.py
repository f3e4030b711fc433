"""Crops of tensors: torchvision's draws, and the pixels of its crops of PIL images to a level."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import pattern
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from resnet_hub.data.crops import Transform, resized_crop_flip, scale_crop_flip, with_policy
from resnet_hub.data.images import read_image
from resnet_hub.data.pixels import read_pixels
from resnet_hub.preprocess import Interpolation, Preprocess
from resnet_hub.randomness import keyed_generator

SIDES = [(500, 375), (333, 500), (64, 64), (40, 300), (300, 40), (7, 5)]
Reference = Callable[[Image.Image], Tensor]


def of_pictures(size: int) -> Reference:
    """Return what torchvision's recipe does to a PIL image before it is scaled."""
    pipeline: Reference = v2.Compose(
        [v2.RandomResizedCrop(size), v2.RandomHorizontalFlip(), v2.PILToTensor()]
    )
    return pipeline


def resized(picture: Image.Image, width: int, height: int) -> Image.Image:
    """Resize by PIL's bicubic filter, across before down.

    What the filter overshoots is cut between the two, and Pillow's order is its version's: from 13
    on whichever takes less.
    """
    across = picture.resize((width, picture.height), Image.Resampling.BICUBIC)
    return across.resize((width, height), Image.Resampling.BICUBIC)


def bicubic_of_pictures(size: int) -> Reference:
    """Return the same as :func:`of_pictures`, by :func:`resized`."""

    def pipeline(picture: Image.Image) -> Tensor:
        box = v2.RandomResizedCrop(size).make_params([picture])
        edges = (box["left"] + box["width"], box["top"] + box["height"])
        crop = resized(picture.crop((box["left"], box["top"], *edges)), size, size)
        flipped: Tensor = v2.PILToTensor()(v2.RandomHorizontalFlip()(crop))
        return flipped

    return pipeline


def keyed(transform: Callable[..., Tensor], picture: Image.Image | Tensor, key: int) -> Tensor:
    with keyed_generator(key):
        return transform(picture)


def noisy(width: int, height: int) -> Image.Image:
    grains = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    return Image.blend(pattern(width, height), Image.fromarray(grains), 0.5)


def tensor_of(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def levels_apart(one: Tensor, other: Tensor) -> Tensor:
    assert one.dtype is other.dtype is torch.uint8
    assert one.shape == other.shape
    return (one.int() - other.int()).abs()


@pytest.mark.parametrize(("interpolation", "most"), [("bilinear", 1), ("bicubic", 2)])
@pytest.mark.parametrize(("width", "height"), SIDES)
def test_random_crops_are_torchvisions_of_pil_images_to_a_level_or_two(
    width: int, height: int, interpolation: Interpolation, most: int
) -> None:
    picture, pixels = noisy(width, height), tensor_of(noisy(width, height))
    ours = resized_crop_flip(56, interpolation=interpolation)
    theirs = of_pictures(56) if interpolation == "bilinear" else bicubic_of_pictures(56)
    apart = torch.stack(
        [levels_apart(keyed(ours, pixels, key), keyed(theirs, picture, key)) for key in range(60)]
    )
    assert apart.max() <= most
    assert apart.float().mean() < 0.1


@pytest.mark.data
def test_random_crops_of_real_photographs_are_within_a_level_but_for_a_few_pixels(
    real_data: Path,
) -> None:
    ours, theirs = resized_crop_flip(224, interpolation="bilinear"), of_pictures(224)
    files = sorted(real_data.glob("imagenet-sample/val/*/*.JPEG"))
    sums, beyond = [], 0
    for key, path in enumerate(files):
        apart = levels_apart(
            keyed(ours, read_pixels(path), key), keyed(theirs, read_image(path), key)
        )
        assert apart.max() <= 2
        beyond += int((apart > 1).sum())
        sums.append(float(apart.float().mean()))
    assert len(sums) >= 500
    assert beyond < 1e-6 * len(sums) * 3 * 224**2
    assert sum(sums) / len(sums) < 0.1


@pytest.mark.data
@pytest.mark.parametrize(
    "preprocess", [Preprocess(), Preprocess(resize=232), Preprocess(size=288, resize=303)]
)
def test_evaluation_of_real_photographs_is_within_two_levels_of_pillows(
    real_data: Path, preprocess: Preprocess
) -> None:
    files = sorted(real_data.glob("imagenet-sample/val/*/*.JPEG"))[::5]
    sums = []
    for path in files:
        apart = levels_apart(preprocess.crop(read_pixels(path)), preprocess.crop(read_image(path)))
        assert apart.max() <= 2
        sums.append(float(apart.float().mean()))
    assert len(sums) == 100
    assert sum(sums) / len(sums) < 0.02


@pytest.mark.data
def test_bicubic_evaluation_of_real_photographs_is_within_two_levels_of_pillows_in_one_order(
    real_data: Path,
) -> None:
    preprocess = Preprocess(size=224, resize=None, interpolation="bicubic")
    files = sorted(real_data.glob("imagenet-sample/val/*/*.JPEG"))[::5]
    for path in files:
        expected = tensor_of(resized(read_image(path), 224, 224))
        assert levels_apart(preprocess.crop(read_pixels(path)), expected).max() <= 2
    assert len(files) == 100


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_random_crops_and_what_is_drawn_after_them_are_torchvisions_of_tensors(
    interpolation: Interpolation,
) -> None:
    how = InterpolationMode[interpolation.upper()]
    theirs = v2.Compose([v2.RandomResizedCrop(32, interpolation=how), v2.RandomHorizontalFlip()])
    ours = resized_crop_flip(32, interpolation=interpolation)
    for key, (width, height) in enumerate(SIDES * 10):
        pixels = tensor_of(noisy(width, height))
        with keyed_generator(key):
            expected, after = theirs(pixels), torch.rand(3)
        with keyed_generator(key):
            assert torch.equal(ours(pixels), expected)
            assert torch.equal(torch.rand(3), after)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_crops_at_a_random_scale_and_what_is_drawn_after_them_are_torchvisions(
    interpolation: Interpolation,
) -> None:
    how = InterpolationMode[interpolation.upper()]
    rest = v2.Compose([v2.RandomCrop(32), v2.RandomHorizontalFlip()])
    ours = scale_crop_flip(32, scale=(32, 60), interpolation=interpolation)
    for key, (width, height) in enumerate(SIDES * 10):
        pixels = tensor_of(noisy(width, height))
        with keyed_generator(key):
            side = int(torch.randint(32, 61, ()))
            expected = rest(v2.functional.resize(pixels, [side], interpolation=how))
            after = torch.rand(3)
        with keyed_generator(key):
            assert torch.equal(ours(pixels), expected)
            assert torch.equal(torch.rand(3), after)


@pytest.mark.parametrize(
    "transform",
    [
        resized_crop_flip(16, interpolation="bilinear"),
        scale_crop_flip(16, scale=(16, 20), interpolation="bicubic"),
        with_policy(resized_crop_flip(16, interpolation="bilinear"), v2.TrivialAugmentWide()),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_however_the_channels_lie_in_memory_a_crop_is_the_same(
    transform: Transform, channels: int
) -> None:
    by_pixel = tensor_of(noisy(60, 40))[:channels]
    by_channel = by_pixel.contiguous()
    for key in range(5):
        expected = keyed(transform, by_channel, key)
        assert expected.shape == (channels, 16, 16)
        assert torch.equal(keyed(transform, by_pixel, key), expected)
