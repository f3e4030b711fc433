"""What happens to a batch on the device, against formulas and torchvision's functions."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as transforms

from resnet_hub.data.augment import alternating_flip, boxes, erase, flip, lighting, shift
from resnet_hub.preprocess import IMAGENET_STD
from resnet_hub.randomness import integers, keyed_generator, sample_keys

AREA, ASPECT = (0.02, 0.33), (0.3, 3.3)
MEASURES: dict[str, Callable[[Any, int], Any]] = {
    "area": lambda boxes, side: boxes[:, 2] * boxes[:, 3] / side**2,
    "aspect": lambda boxes, side: np.log(boxes[:, 2] / boxes[:, 3]),
    "upper edge": lambda boxes, side: boxes[:, 0] / (side - boxes[:, 2]),
    "left edge": lambda boxes, side: boxes[:, 1] / (side - boxes[:, 3]),
}


def keys(count: int, epoch: int = 0) -> Tensor:
    return sample_keys(0, epoch, torch.arange(count))


def made(count: int = 60, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, *(shape or (3, 9, 6)), generator=generator)


@pytest.mark.parametrize("pad", [1, 4])
def test_a_reflected_shift_is_a_window_of_the_reflected_image(pad: int) -> None:
    images = made()
    ours = shift(images, keys(60), pad=pad, mode="reflect")
    for image, key, shifted in zip(images, keys(60), ours, strict=True):
        down, right = (int(integers(key, stream, 2 * pad + 1)) for stream in (0, 1))
        mirrored = np.pad(image.numpy(), ((0, 0), (pad, pad), (pad, pad)), mode="reflect")
        window = mirrored[:, down : down + 9, right : right + 6]
        assert np.array_equal(shifted.numpy(), window)
    zeros = shift(images, keys(60), pad=pad)
    assert torch.equal(ours != zeros, (zeros == 0) & (ours != 0))


@pytest.mark.parametrize("mode", ["zeros", "reflect"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_numpys_copies_of_pixels_are_torchs(mode: str, layout: torch.memory_format) -> None:
    images = made().to(memory_format=layout)
    before, exact = images.clone(), images.double()  # NumPy is asked for single precision alone
    shifted = shift(images, keys(60), pad=3, mode=mode)
    assert torch.equal(shifted.double(), shift(exact, keys(60), pad=3, mode=mode))
    assert torch.equal(flip(images, keys(60)).double(), flip(exact, keys(60)))
    assert torch.equal(images, before)


def test_no_image_is_moved_of_an_empty_batch() -> None:
    none = made()[:0]
    assert shift(none, keys(0), pad=2).shape == flip(none, keys(0)).shape == none.shape


def test_an_alternating_flip_shows_both_sides_in_any_two_epochs() -> None:
    images, indices = made(2000, 1, 1, 2), torch.arange(2000)
    shown = [alternating_flip(images, indices, seed=5, epoch=epoch) for epoch in range(4)]
    mirrored = [(x != images).flatten(1).any(1) for x in shown]
    assert abs(int(mirrored[0].sum()) - 1000) < 5 * math.sqrt(500)
    assert torch.equal(mirrored[1], ~mirrored[0])
    assert torch.equal(mirrored[2], mirrored[0])
    assert torch.equal(mirrored[3], mirrored[1])
    assert torch.equal(shown[0][mirrored[0]], images[mirrored[0]].flip(3))
    other = alternating_flip(images, indices, seed=6, epoch=0)
    assert not torch.equal(other, shown[0])
    part = torch.tensor([1999, 3])
    alone = alternating_flip(images[part], part, seed=5, epoch=1)
    assert torch.equal(alone, shown[1][part])  # whatever the batch


def test_lighting_is_the_formula_of_fb_resnet_torch() -> None:
    # Its covariance by channel is the eigenvectors' times the squared eigenvalues times sd².
    values = np.array([0.2175, 0.0188, 0.0045])
    vectors = np.array(
        [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
    )
    assert np.allclose(vectors @ vectors.T, np.eye(3), atol=1e-3)
    count = 40_000
    images = torch.zeros(count, 3, 1, 2)
    lit = lighting(images, keys(count), sd=0.1, std=IMAGENET_STD)
    assert torch.equal(lit[..., 0], lit[..., 1])  # one shift an image
    shifts = lit[:, :, 0, 0].double().numpy() * np.array(IMAGENET_STD)  # of pixels in [0, 1]
    along = shifts @ vectors / (0.1 * values)
    assert np.allclose(along.mean(0), 0, atol=5 / math.sqrt(count))
    assert np.allclose(np.cov(along.T), np.eye(3), atol=5 * math.sqrt(2 / count))
    images = made(8, 3, 2, 2)
    added = lighting(images, keys(8), sd=0.1, std=IMAGENET_STD) - images
    torch.testing.assert_close(added, lit[:8].expand(8, 3, 2, 2), rtol=0, atol=1e-6)
    assert torch.equal(lighting(images, keys(8), sd=0.0, std=IMAGENET_STD), images)


def test_boxes_are_spread_as_torchvisions_are() -> None:
    count, fewer, side = 40_000, 1500, 224
    top, left, tall, wide = boxes(keys(count), height=side, width=side, area=AREA, aspect=ASPECT)
    assert ((tall > 0) & (tall < side) & (wide > 0) & (wide < side)).all()
    assert ((top >= 0) & (left >= 0) & (top + tall <= side) & (left + wide <= side)).all()
    assert int((top + tall).max()) == int((left + wide).max()) == side
    image = torch.zeros(1, side, side)
    reference = v2.RandomErasing(1.0, scale=AREA, ratio=ASPECT)
    with keyed_generator(0):
        drawn = [reference.make_params([image]) for _ in range(fewer)]
    names = ("i", "j", "h", "w")
    theirs = np.array([[box[name] for name in names] for box in drawn], dtype=float)
    ours = torch.stack((top, left, tall, wide), dim=1).double().numpy()
    for name, measure in MEASURES.items():
        one, other = np.sort(measure(ours, side)), np.sort(measure(theirs, side))
        places = np.linspace(one.min(), one.max(), 200)
        shares = [np.searchsorted(x, places) / len(x) for x in (one, other)]
        gap = abs(shares[0] - shares[1]).max()
        # Kolmogorov and Smirnov's bound, which one in 1,000 is above.
        assert gap < 1.95 * math.sqrt(1 / count + 1 / fewer), name


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 20, 47)])
def test_an_erased_image_is_torchvisions_for_the_same_box(shape: tuple[int, int, int]) -> None:
    images = made(200, *shape)
    where = dict(zip(("i", "j", "h", "w"), boxes(
        keys(200), height=shape[1], width=shape[2], area=AREA, aspect=ASPECT
    ), strict=True))  # fmt: skip
    erased = erase(images, keys(200), probability=1.0, area=AREA, aspect=ASPECT)
    noisy = erase(images, keys(200), probability=1.0, area=AREA, aspect=ASPECT, fill="noise")
    for n, image in enumerate(images):
        i, j, h, w = (int(x[n]) for x in where.values())
        assert h * w > 0
        assert torch.equal(erased[n], transforms.erase(image, i, j, h, w, torch.zeros(1, 1, 1)))
        patch = noisy[n, :, i : i + h, j : j + w]
        assert torch.equal(noisy[n], transforms.erase(image, i, j, h, w, patch))
        assert (patch != image[:, i : i + h, j : j + w]).all()


def test_erased_noise_is_standard_normal_and_every_samples_own() -> None:
    images = torch.zeros(300, 3, 32, 32)
    noisy = erase(images, keys(300), probability=1.0, area=AREA, aspect=ASPECT, fill="noise")
    numbers = noisy[noisy != 0].double()
    assert abs(numbers.mean()) < 5 / math.sqrt(len(numbers))
    assert abs(numbers.var() - 1) < 5 * math.sqrt(2 / len(numbers))
    assert len(numbers.unique()) > 0.9 * len(numbers)
    part = torch.tensor([250, 7])
    alone = erase(
        images[part], keys(300)[part], probability=1.0, area=AREA, aspect=ASPECT, fill="noise"
    )
    assert torch.equal(alone, noisy[part])


@pytest.mark.parametrize("probability", [0.0, 0.1, 0.25, 1.0])
def test_so_many_images_are_erased(probability: float) -> None:
    images = torch.ones(8000, 1, 16, 16)
    erased = erase(images, keys(8000), probability=probability, area=AREA, aspect=ASPECT)
    share = float((erased == 0).flatten(1).any(1).double().mean())
    assert abs(share - probability) <= 5 * math.sqrt(probability * (1 - probability) / 8000)


def test_a_fixed_area_and_aspect_cut_a_square_out_of_every_image() -> None:
    area = 12**2 / 32**2
    erased = erase(
        torch.ones(500, 1, 32, 32), keys(500), probability=1.0, area=(area, area), aspect=(1.0, 1.0)
    )
    holes = erased[:, 0] == 0
    assert (holes.sum((1, 2)) == 144).all()
    assert (holes.any(1).sum(1) == 12).all()
    assert len(holes.flatten(1).unique(dim=0)) > 250  # of 441 places


def test_a_rectangle_that_never_fits_erases_nothing() -> None:
    images = torch.ones(50, 1, 16, 16)
    for fill in ("zeros", "noise"):
        erased = erase(
            images, keys(50), probability=1.0, area=(1.0, 1.0), aspect=(1.0, 1.0), fill=fill
        )
        assert torch.equal(erased, images)


@pytest.mark.parametrize("fill", ["zeros", "noise"])
def test_a_batch_of_no_images_stays_one(fill: str) -> None:
    none, indices = torch.zeros(0, 3, 8, 8), torch.arange(0)
    erased = erase(none, indices, probability=0.5, area=AREA, aspect=ASPECT, fill=fill)  # type: ignore[arg-type]
    assert erased.shape == none.shape
    assert lighting(none, indices, sd=0.1, std=IMAGENET_STD).shape == none.shape
    assert alternating_flip(none, indices, seed=0, epoch=0).shape == none.shape


def test_erasing_lighting_and_flipping_draw_independently() -> None:
    count = 20_000
    ones = torch.ones(count, 1, 16, 16)
    ones[..., 8:] = 2
    erased = (erase(ones, keys(count), probability=0.5, area=AREA, aspect=ASPECT) == 0).flatten(1)
    draws = torch.stack((
        erased.any(1).double(),
        flip(ones, keys(count))[:, 0, 0, 0].double(),
        lighting(torch.zeros(count, 3, 1, 1), keys(count), sd=0.1, std=IMAGENET_STD)[:, 0, 0, 0],
    ))  # fmt: skip
    correlations = torch.corrcoef(draws) - torch.eye(3)
    assert correlations.abs().max() < 5 / math.sqrt(count)


@pytest.mark.gpu
def test_a_gpu_erases_lights_and_pads_as_the_cpu_does() -> None:
    images = made(64, 3, 32, 32)
    for fill in ("zeros", "noise"):
        ours, theirs = (
            erase(x.to(d), k.to(d), probability=0.5, area=AREA, aspect=ASPECT, fill=fill).cpu()
            for x, k, d in ((images, keys(64), "cpu"), (images, keys(64), "cuda"))
        )
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    lit = lighting(images.cuda(), keys(64).cuda(), sd=0.1, std=IMAGENET_STD).cpu()
    expected = lighting(images, keys(64), sd=0.1, std=IMAGENET_STD)
    torch.testing.assert_close(lit, expected, rtol=0, atol=1e-5)
    assert torch.equal(
        shift(images.cuda(), keys(64).cuda(), pad=4, mode="reflect").cpu(),
        shift(images, keys(64), pad=4, mode="reflect"),
    )


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_nothing_waits_for_the_device() -> None:
    images, device_keys = made(64, 3, 32, 32).cuda(), keys(64).cuda()
    lighting(images, device_keys, sd=0.1, std=IMAGENET_STD)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for fill in ("zeros", "noise"):
            erase(images, device_keys, probability=0.5, area=AREA, aspect=ASPECT, fill=fill)
        lighting(images, device_keys, sd=0.1, std=IMAGENET_STD)
        alternating_flip(images, device_keys, seed=0, epoch=1)
        flip(shift(images, device_keys, pad=4, mode="reflect"), device_keys)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert F.relu(images).isfinite().all()
