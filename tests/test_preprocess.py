"""Pixels as the weights expect them: against torchvision, and every image that people have."""

import copy
import io
import json
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms._presets import ImageClassification
from torchvision.transforms.functional import resize

from resnet_hub.architecture import Architecture
from resnet_hub.errors import BadData, InvalidSetting, ResNetHubError
from resnet_hub.preprocess import (
    CIFAR10_MEAN,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Interpolation,
    Preprocess,
)
from resnet_hub.zoo import find_row

CIFAR = Preprocess(size=32, resize=None)
GREY = Preprocess(size=4, resize=None, mean=(0.0,), std=(1.0,))
SIDES = [(500, 375), (375, 500), (333, 257), (256, 256), (255, 1001), (60, 90), (224, 300), (7, 5)]


def picture(height: int, width: int, mode: str = "RGB") -> Image.Image:
    """Return an image with both smooth and sharp parts, so that filters differ visibly."""
    rows, columns = np.mgrid[0:height, 0:width]
    smooth = np.stack([rows * 3, columns * 2, rows + columns], 2) % 256
    noise = np.random.default_rng(height * width).integers(0, 256, (height, width, 3))
    pixels = np.where((rows // 16 + columns // 16)[..., None] % 2, smooth, noise)
    return Image.fromarray(pixels.astype(np.uint8)).convert(mode)


def pixels_of(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def one_line(error: pytest.ExceptionInfo[ResNetHubError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(("height", "width"), SIDES)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_against_torchvisions_preset_on_pictures(
    height: int, width: int, interpolation: Interpolation
) -> None:
    image = picture(height, width)
    reference = ImageClassification(
        crop_size=224, resize_size=256, interpolation=InterpolationMode(interpolation)
    )
    ours = Preprocess(interpolation=interpolation)(image)
    assert ours.dtype is torch.float32
    assert ours.is_contiguous()
    torch.testing.assert_close(ours, reference(image), rtol=0, atol=4e-7)


def test_against_torchvisions_preset_with_a_larger_crop_than_image() -> None:
    image = picture(333, 257)
    reference = ImageClassification(crop_size=225, resize_size=160)
    ours = Preprocess(size=225, resize=160)(image)
    torch.testing.assert_close(ours, reference(image), rtol=0, atol=4e-7)


@pytest.mark.parametrize(("height", "width"), SIDES)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_a_tensor_comes_within_a_grey_level_of_the_picture(
    height: int, width: int, interpolation: Interpolation
) -> None:
    image = picture(height, width)
    preprocess = Preprocess(interpolation=interpolation)
    from_picture, from_tensor = preprocess.crop(image), preprocess.crop(pixels_of(image))
    assert from_picture.dtype is from_tensor.dtype is torch.uint8
    assert from_tensor.shape == (3, 224, 224)
    # Torch's byte kernel rounds the filter's weights coarser than PIL's, which bicubic ones show.
    levels = 1 if interpolation == "bilinear" else 2
    assert (from_picture.int() - from_tensor.int()).abs().max() <= levels


def test_off_the_cpu_bytes_are_resized_as_rounded_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pixels = pixels_of(picture(100, 70))
    for interpolation in get_args(Interpolation):
        preprocess = Preprocess(size=50, resize=60, interpolation=interpolation)
        on_cpu = preprocess.crop(pixels)
        with monkeypatch.context() as patch:
            patch.setattr(torch.Tensor, "is_cpu", False)
            elsewhere = preprocess.crop(pixels)
        assert elsewhere.dtype is torch.uint8
        assert (on_cpu.int() - elsewhere.int()).abs().max() <= 1


@pytest.mark.gpu
def test_a_gpu_resizes_as_the_cpu_does() -> None:
    pixels = pixels_of(picture(300, 200))[None]
    on_gpu = Preprocess().crop(pixels.cuda()).cpu()
    assert (on_gpu.int() - Preprocess().crop(pixels).int()).abs().max() <= 1


def test_a_batch_is_cropped_and_normalised_as_its_images_are() -> None:
    batch = torch.stack([pixels_of(picture(80, 60)), pixels_of(picture(80, 60).rotate(180))])
    preprocess = Preprocess(size=48, resize=56)
    whole = preprocess.normalise(preprocess.crop(batch))
    assert torch.equal(whole, torch.stack([preprocess(image) for image in batch]))


@pytest.mark.parametrize(("height", "width"), SIDES)
def test_resized_but_not_cropped_an_image_is_whole_as_torchvisions(height: int, width: int) -> None:
    image = picture(height, width)
    expected = pixels_of(resize(image, [256]))
    for own in (image, pixels_of(image)):
        found = Preprocess().resized(own)
        assert found.dtype is torch.uint8
        assert found.shape == expected.shape
        assert min(found.shape[1:]) == 256
        assert (found.int() - expected.int()).abs().max() <= (own is not image)
        assert torch.equal(Preprocess().resized(found), found)
    assert Preprocess(size=40, resize=None).resized(image).shape == (3, 40, 40)


def test_a_batch_is_resized_and_refused_as_its_images_are() -> None:
    batch = torch.stack([pixels_of(picture(80, 60)), pixels_of(picture(80, 60).rotate(180))])
    preprocess = Preprocess(size=48, resize=56)
    whole = preprocess.resized(batch)
    assert whole.shape == (2, 3, 74, 56)
    assert torch.equal(whole, torch.stack([preprocess.resized(image) for image in batch]))
    with pytest.raises(InvalidSetting, match="3 channels, the net takes 1"):
        GREY.resized(batch)
    with pytest.raises(BadData, match="too long and thin"):
        Preprocess(size=4096, resize=4096).resized(Image.new("RGB", (1, 60_000)))


def test_an_empty_batch_stays_one() -> None:
    none = torch.empty(0, 3, 40, 50, dtype=torch.uint8)
    assert Preprocess().resized(none).shape == (0, 3, 256, 320)
    empty = torch.empty(0, 3, 40, 50, dtype=torch.uint8)
    assert Preprocess().normalise(Preprocess().crop(empty)).shape == (0, 3, 224, 224)


def test_without_a_resize_the_sides_are_brought_to_the_size() -> None:
    image = picture(50, 70)
    expected = pixels_of(image.resize((32, 32), Image.Resampling.BILINEAR))
    assert torch.equal(CIFAR.crop(image), expected)


def test_an_image_of_the_right_size_keeps_its_pixels() -> None:
    image = picture(32, 32)
    assert torch.equal(CIFAR.crop(image), pixels_of(image))
    assert torch.equal(CIFAR.crop(pixels_of(image)), pixels_of(image))


def test_normalising_leaves_the_pixels_as_they_were_and_refuses_other_types() -> None:
    pixels = pixels_of(picture(32, 32))
    before = pixels.clone()
    CIFAR.normalise(pixels)
    assert torch.equal(pixels, before)
    scaled = pixels.float() / 255
    kept = scaled.clone()
    with pytest.raises(InvalidSetting, match=r"needs uint8 pixels, not torch\.float32"):
        CIFAR.normalise(scaled)
    assert torch.equal(scaled, kept)


def test_a_mean_image_is_subtracted_pixel_by_pixel() -> None:
    mean = tuple(i / 100 for i in range(3 * 4 * 4))
    preprocess = Preprocess(size=4, resize=None, mean=mean, std=(0.5, 0.25, 0.125))
    pixels = torch.arange(0, 240, 5, dtype=torch.uint8).view(3, 4, 4)
    expected = pixels.double() / 255 - torch.tensor(mean, dtype=torch.float64).view(3, 4, 4)
    expected /= torch.tensor([0.5, 0.25, 0.125], dtype=torch.float64).view(3, 1, 1)
    torch.testing.assert_close(preprocess.normalise(pixels).double(), expected, rtol=0, atol=1e-6)
    assert preprocess.channels == 3


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"])
def test_every_common_mode_of_a_picture_becomes_what_the_net_takes(mode: str) -> None:
    image = picture(40, 40).convert(mode)
    assert torch.equal(CIFAR.crop(image), CIFAR.crop(image.convert("RGB")))
    grey = replace(CIFAR, mean=(0.5,), std=(0.5,))
    assert grey(image).shape == (1, 32, 32)


def test_transparency_is_dropped_without_a_word() -> None:
    image = picture(40, 40, "P")
    opaque = CIFAR.crop(image)
    image.info["transparency"] = bytes(range(256))
    assert torch.equal(CIFAR.crop(image), opaque)


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
def test_16_bit_grey_is_scaled_not_clipped(mode: str) -> None:
    levels = np.array([[0, 255, 256, 257], [1000, 32767, 32768, 40000]] * 2, np.uint16)
    if mode == "I":
        image = Image.fromarray(levels.astype(np.int32))
    else:
        order = "<u2" if mode == "I;16" else ">u2"
        image = Image.frombytes(mode, (4, 4), levels.astype(order).tobytes())
    assert image.mode == mode
    assert GREY.crop(image)[0].tolist() == (levels >> 8).tolist()


def test_16_bit_grey_png_files_are_read_so() -> None:
    levels = (np.arange(16, dtype=np.uint16) * 4369 - (np.arange(16) > 14)).reshape(4, 4)
    file = io.BytesIO()
    Image.fromarray(levels.astype(np.uint16)).save(file, "PNG")
    assert GREY.crop(Image.open(file))[0].tolist() == (levels >> 8).tolist()


def test_the_first_frame_of_an_animation_is_taken() -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    assert CIFAR.crop(Image.open(file))[:, 0, 0].tolist() == [255, 0, 0]


def test_a_picture_of_real_numbers_is_refused() -> None:
    image = Image.fromarray(np.zeros((8, 8), np.float32))
    with pytest.raises(BadData, match="real numbers has no known scale") as error:
        CIFAR(image)
    one_line(error)


@pytest.mark.parametrize("level", [-1, 65536])
def test_a_picture_of_32_bit_pixels_is_refused(level: int) -> None:
    with pytest.raises(BadData, match="32-bit pixels, whose range is not known") as error:
        CIFAR(Image.fromarray(np.full((8, 8), level, np.int32)))
    one_line(error)


def test_a_picture_that_pil_cannot_convert_is_refused() -> None:
    with pytest.raises(BadData, match="no way from an image of mode La to RGB") as error:
        CIFAR(Image.new("La", (8, 8)))
    one_line(error)


def test_an_empty_or_very_thin_image_is_refused_before_it_grows() -> None:
    for image in (Image.new("RGB", (0, 5)), torch.empty(3, 5, 0, dtype=torch.uint8)):
        with pytest.raises(BadData, match="is empty") as error:
            Preprocess()(image)
        one_line(error)
    for image in (Image.new("RGB", (60_000, 1)), torch.zeros(3, 60_000, 1, dtype=torch.uint8)):
        with pytest.raises(BadData, match="too long and thin") as error:
            Preprocess(resize=256)(image)
        one_line(error)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (torch.zeros(3, 32, 32), r"torch\.float32 \(3, 32, 32\)"),
        (torch.zeros(32, 32, dtype=torch.uint8), r"\(32, 32\)"),
        (torch.zeros(1, 32, 32, dtype=torch.uint8), "the image has 1 channels, the net takes 3"),
        (torch.zeros(2, 4, 32, 32, dtype=torch.uint8), "the image has 4 channels"),
    ],
)
def test_a_tensor_that_fits_no_net_is_refused(image: torch.Tensor, reason: str) -> None:
    with pytest.raises(InvalidSetting, match=reason) as error:
        CIFAR(image)
    one_line(error)


def test_a_picture_for_a_net_of_many_channels_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="no picture has 5 channels; give a uint8 tensor"):
        CIFAR.with_channels(5)(picture(32, 32))
    assert CIFAR.with_channels(5)(torch.zeros(5, 32, 32, dtype=torch.uint8)).shape == (5, 32, 32)


NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("size", x) for x in (0, -1, 4097, 224.0, True, "224", None, [224])],
        *[("resize", x) for x in (0, -1, 4097, 256.0, True, False, "256", [256])],
        *[("interpolation", x) for x in ("nearest", "", None, 2, ["bilinear"])],
        *[("mean", x) for x in (None, 0.5, "abc", {"a": 1}, (), (0.1,) * 2, (0.1,) * 4)],
        *[("mean", (0.1, 0.2, x)) for x in (NAN, INFINITY, -INFINITY, "0", None, True, [0.1])],
        *[("mean", (0.1, 0.2, x)) for x in (1e39, 10**400)],
        *[("std", x) for x in (None, 0.5, "abc", {"a": 1}, (), (0.1,) * 2)],
        *[("std", (0.1, 0.2, x)) for x in (0, -0.1, 1e-60, NAN, INFINITY, "0", None, True, 1e39)],
    ],
)
def test_a_bad_value_is_refused_in_one_line_that_names_its_field(field: str, value: object) -> None:
    values = {**Preprocess().to_dict(), field: value}
    with pytest.raises(InvalidSetting) as error:
        Preprocess.from_dict(values)
    message = one_line(error)
    assert "preprocess." in message
    if (field, value) not in [("std", (0.1, 0.1))]:  # which changes the number of channels
        assert field in message
    assert len(message) < 200


def test_the_largest_side_is_said_where_it_is_passed() -> None:
    assert Preprocess(size=4096, resize=4096).size == 4096
    for field in ("size", "resize"):
        with pytest.raises(InvalidSetting, match=rf"^preprocess\.{field}: 4097 is not 1 to 4,096"):
            Preprocess(**{field: 4097})


def test_lists_are_refused_where_a_value_must_not_change() -> None:
    with pytest.raises(InvalidSetting, match="mean: not a tuple"):
        Preprocess(mean=[0.5, 0.5, 0.5])  # type: ignore[arg-type]


def test_an_unknown_field_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(InvalidSetting, match="no field 'resise'; did you mean 'resize'") as error:
        Preprocess.from_dict({"resise": 3})
    one_line(error)


@pytest.mark.parametrize(
    "preprocess",
    [
        Preprocess(),
        CIFAR,
        Preprocess(size=2, resize=3, interpolation="bicubic", mean=(0.25,) * 4, std=(0.5,)),
        Preprocess(mean=(0, 0, 0), std=(1, 1, 1)),
    ],
)
def test_what_is_written_as_json_is_read_back_equal(preprocess: Preprocess) -> None:
    preprocess.normalise(  # whatever it remembers of its first use is not written
        torch.zeros(preprocess.channels, preprocess.size, preprocess.size, dtype=torch.uint8)
    )
    text = json.dumps(preprocess.to_dict())
    again = Preprocess.from_dict(json.loads(text))
    assert again == preprocess == copy.deepcopy(preprocess)
    assert hash(again) == hash(preprocess)
    assert json.dumps(again.to_dict()) == text
    assert list(json.loads(text)) == ["size", "resize", "interpolation", "mean", "std"]


def test_missing_fields_take_their_defaults() -> None:
    assert Preprocess.from_dict({}) == Preprocess()


def test_the_convention_of_a_fresh_net_follows_its_stem() -> None:
    imagenet = Preprocess.default_for(find_row("resnet50").architecture)
    assert imagenet == Preprocess(
        size=224, resize=256, interpolation="bilinear", mean=IMAGENET_MEAN, std=IMAGENET_STD
    )
    cifar = Preprocess.default_for(find_row("cifar_resnet20").architecture)
    assert (cifar.size, cifar.resize, cifar.mean) == (32, None, CIFAR10_MEAN)
    grey = Architecture(depths=(1,), block="basic", stem="cifar", in_channels=1)
    assert Preprocess.default_for(grey).channels == 1


def test_other_channels_are_averaged_or_repeated_exactly() -> None:
    base = Preprocess(mean=(0.1, 0.2, 0.6), std=(0.25, 0.5, 0.75))
    assert base.with_channels(3) is base
    assert base.with_channels(1) == replace(base, mean=(0.3,), std=(0.5,))
    assert base.with_channels(2) == replace(base, mean=(0.1, 0.2), std=(0.25, 0.5))
    five = base.with_channels(5)
    assert five.mean == (0.1, 0.2, 0.6, 0.1, 0.2)
    assert five.std == (0.25, 0.5, 0.75, 0.25, 0.5)


def test_a_mean_image_becomes_its_mean_for_other_channels() -> None:
    base = Preprocess(size=2, resize=None, mean=(0, 1, 0, 1, 2, 2, 2, 2), std=(1, 3))
    assert base.with_channels(1) == Preprocess(size=2, resize=None, mean=(1.25,), std=(2,))
    assert base.with_channels(3).mean == (0.5, 2, 0.5)


@pytest.mark.parametrize(("height", "width"), [(60, 90), (91, 64), (64, 64), (40, 20)])
@pytest.mark.parametrize("sizes", [(32, 36), (32, None), (32, 20), (32, 32)])
def test_the_window_is_what_the_crop_keeps(
    height: int, width: int, sizes: tuple[int, int | None]
) -> None:
    size, resize = sizes
    own = Preprocess(size=size, resize=resize)
    rows, columns = np.mgrid[0:height, 0:width]
    ramps = np.stack([columns + 50, rows + 50, 0 * rows], 2).astype(np.uint8)
    kept = own.crop(Image.fromarray(ramps)).double()
    left, top, right, bottom = own.window(height, width)
    middles = (torch.arange(size) + 0.5) / size
    x, y = left + middles * (right - left) - 0.5, top + middles * (bottom - top) - 0.5
    inner = [(side > 2) & (side < most - 3) for side, most in ((x, width), (y, height))]
    across, down = kept[0][:, inner[0]][inner[1]], kept[1][:, inner[0]][inner[1]]
    assert across.numel()
    assert (across - 50 - x[inner[0]]).abs().max() < 0.75  # uint8, and filters at whole pixels
    assert (down - 50 - y[inner[1]][:, None]).abs().max() < 0.75
