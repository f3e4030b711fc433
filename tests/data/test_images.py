import os
import random
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from pictures import cut, pattern, save
from PIL import Image

from resnet_hub.data.images import EXTENSIONS, MAX_PIXELS, read_image
from resnet_hub.errors import BadData


def pixel(image: Image.Image, x: int = 0, y: int = 0) -> tuple[int, ...]:
    value = image.getpixel((x, y))
    return value if isinstance(value, tuple) else (int(value or 0),)


def png_claiming(path: Path, width: int, height: int) -> Path:
    """A PNG of a few bytes whose header says it is of this size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )  # fmt: skip

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    return path


@pytest.mark.parametrize("ending", EXTENSIONS)
def test_every_ending_is_read_as_saved(tmp_path: Path, ending: str) -> None:
    grey = ending == ".pgm"
    path = save(tmp_path / f"a{ending}", pattern().convert("L") if grey else pattern())
    image = read_image(path)
    assert (image.mode, image.size) == ("RGB", (40, 30))
    if ending in (".png", ".bmp", ".tif", ".tiff", ".ppm"):
        np.testing.assert_array_equal(np.asarray(image), np.asarray(pattern()))


def test_a_picture_can_be_used_after_its_file_is_gone(tmp_path: Path) -> None:
    for ending in (".png", ".jpg", ".gif", ".webp", ".tif"):
        path = save(tmp_path / f"a{ending}")
        image = read_image(path)
        path.unlink()
        assert image.resize((20, 20)).size == (20, 20)
        assert len(np.asarray(image)) == 30


@pytest.mark.fault("D1")
@pytest.mark.parametrize("ending", [".jpg", ".png", ".bmp", ".webp", ".tif", ".ppm"])
def test_a_truncated_file_is_named_in_one_line(tmp_path: Path, ending: str) -> None:
    path = cut(save(tmp_path / f"photo{ending}", pattern(200, 150)))
    with pytest.raises(BadData) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    empty, text, folder = tmp_path / "empty.jpg", tmp_path / "text.png", tmp_path / "folder.png"
    empty.touch()
    text.write_text("<html>not found</html>")
    folder.mkdir()
    for path in (empty, text):
        with pytest.raises(BadData, match="not a readable image; formats are JPEG, PNG") as caught:
            read_image(path)
        assert str(path) in str(caught.value)
    with pytest.raises(BadData, match=r"folder\.png: no picture"):
        read_image(folder)
    with pytest.raises(BadData, match=r"gone\.png: No such file"):
        read_image(tmp_path / "gone.png")


def test_a_format_that_runs_programs_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "script.jpg"
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    with pytest.raises(BadData, match="not a readable image"):
        read_image(path)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_damage_in_the_middle_of_a_png_is_caught(tmp_path: Path, share: float) -> None:
    path = save(tmp_path / "a.png", pattern(200, 150))
    content = bytearray(path.read_bytes())
    content[int(share * len(content))] ^= 0x55
    path.write_bytes(content)
    with pytest.raises(BadData, match=r"a\.png"):
        read_image(path)


@pytest.mark.parametrize("ending", [".png", ".gif", ".webp", ".tif", ".jpg", ".bmp"])
def test_flipped_bytes_give_a_picture_or_bad_data_and_nothing_else(
    tmp_path: Path, ending: str
) -> None:
    whole = save(tmp_path / f"whole{ending}").read_bytes()
    path, draw, said = tmp_path / f"hurt{ending}", random.Random(0), []
    for turn in range(60):
        content = bytearray(whole)
        for _ in range(3):
            end = len(content) if turn % 2 else 40  # every other time, the header
            content[draw.randrange(end)] = draw.randrange(256)
        path.write_bytes(content)
        try:
            assert read_image(path, exif="apply").mode == "RGB"
        except BadData as error:
            said.append(str(error))
    assert said
    assert all(line.startswith(f"{path}: ") and "\n" not in line for line in said)


@pytest.mark.fault("D3")
@pytest.mark.parametrize("name", ["grey.png", "grey.tif", "grey.pgm"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path: Path, name: str) -> None:
    ramp = np.linspace(0, 65535, 300, dtype=np.uint16).reshape(15, 20)
    path = tmp_path / name
    if name.endswith("pgm"):  # older Pillows read it and do not write it
        path.write_bytes(b"P5 20 15 65535\n" + ramp.astype(">u2").tobytes())
    else:
        save(path, Image.fromarray(ramp))
    expected = (ramp >> 8).astype(np.uint8)
    np.testing.assert_array_equal(np.asarray(read_image(path, mode="L")), expected)
    np.testing.assert_array_equal(np.asarray(read_image(path)), np.stack([expected] * 3, -1))


def test_32_bit_pixels_are_refused(tmp_path: Path) -> None:
    for kind in (np.float32, np.int32):
        path = save(tmp_path / "deep.tif", Image.fromarray(np.ones((4, 5), kind)))
        with pytest.raises(BadData, match=r"deep\.tif: 32-bit pixels"):
            read_image(path)


@pytest.mark.fault("D4")
def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    inks = {"red": (0, 255, 255, 0), "blue": (255, 255, 0, 0), "black": (0, 0, 0, 255)}
    expected = {"red": (255, 0, 0), "blue": (0, 0, 255), "black": (0, 0, 0)}
    for name, ink in inks.items():
        path = save(tmp_path / f"{name}.jpg", Image.new("CMYK", (16, 16), ink))
        assert np.abs(np.subtract(pixel(read_image(path), 8, 8), expected[name])).max() <= 2


@pytest.mark.fault("D4")
def test_transparency_is_dropped_and_the_colour_under_it_stays(tmp_path: Path) -> None:
    clear = save(tmp_path / "clear.png", Image.new("RGBA", (3, 3), (10, 20, 30, 0)))
    assert pixel(read_image(clear)) == (10, 20, 30)
    grey = save(tmp_path / "grey.png", Image.new("LA", (3, 3), (77, 5)))
    assert pixel(read_image(grey)) == (77, 77, 77)
    assert pixel(read_image(grey, mode="L")) == (77,)


@pytest.mark.fault("D4")
def test_a_palette_with_transparency_is_read_without_a_warning(tmp_path: Path) -> None:
    palette = Image.new("P", (3, 3), 1)
    palette.putpalette([0, 0, 0, 200, 100, 50])
    path = tmp_path / "palette.png"
    palette.save(path, transparency=bytes([0, 128]))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert pixel(read_image(path)) == (200, 100, 50)
    assert not caught


@pytest.mark.fault("D4")
def test_one_bit_and_grey_pictures_become_rgb(tmp_path: Path) -> None:
    assert pixel(read_image(save(tmp_path / "a.png", Image.new("1", (2, 2), 1)))) == (255,) * 3
    assert pixel(read_image(save(tmp_path / "b.png", Image.new("L", (2, 2), 90)))) == (90,) * 3


def test_one_channel_is_luma(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", Image.new("RGB", (2, 2), (255, 0, 0)))
    assert pixel(read_image(path, mode="L")) == (76,)


@pytest.mark.fault("D4")
@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_of_an_animation_the_first_frame_is_read(tmp_path: Path, name: str) -> None:
    red, green = Image.new("RGB", (8, 8), (250, 0, 0)), Image.new("RGB", (8, 8), (0, 250, 0))
    path, options = tmp_path / name, {"lossless": True} if name.endswith("webp") else {}
    red.save(path, save_all=True, append_images=[green], **options)
    assert pixel(read_image(path)) == (250, 0, 0)


@pytest.mark.fault("D5")
@pytest.mark.parametrize(("width", "height"), [(12_000, 9_000), (20_000, 20_000), (65_535, 65_535)])
def test_a_bomb_is_refused_by_its_header_before_decoding(
    tmp_path: Path, width: int, height: int
) -> None:
    assert width * height > MAX_PIXELS
    path = png_claiming(tmp_path / "bomb.png", width, height)
    with pytest.raises(BadData, match=r"bomb\.png: .*pixels.* limit of \d") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def test_a_large_photograph_is_no_bomb(tmp_path: Path) -> None:
    path = png_claiming(tmp_path / "large.png", 9_000, 6_000)
    with pytest.raises(BadData, match="truncated"):  # the header passes: it fails in decoding
        read_image(path)


@pytest.mark.fault("D5")
def test_a_strip_that_resizing_would_blow_up_is_refused(tmp_path: Path) -> None:
    path = png_claiming(tmp_path / "strip.png", 1, 60_000)
    with pytest.raises(BadData, match=r"strip\.png: 1 × 60,000 pixels are narrower than 1:100"):
        read_image(path)
    assert read_image(save(tmp_path / "b.png", Image.new("RGB", (3, 300)))).size == (3, 300)


@pytest.mark.fault("D4")
def test_exif_orientation_is_applied_only_when_asked_for(tmp_path: Path) -> None:
    picture = Image.new("RGB", (20, 10), (255, 0, 0))
    picture.paste((0, 0, 255), (10, 0, 20, 10))  # blue on the right
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned: its right side is the bottom
    path = tmp_path / "turned.png"
    picture.save(path, exif=exif)
    stored, upright = read_image(path), read_image(path, exif="apply")
    assert (stored.size, upright.size) == ((20, 10), (10, 20))
    assert pixel(stored, 15, 5) == (0, 0, 255)
    assert (pixel(upright, 5, 5), pixel(upright, 5, 15)) == ((255, 0, 0), (0, 0, 255))


def test_exif_turns_16_bit_grey_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.png"
    Image.fromarray(np.full((10, 20), 40_000, np.uint16)).save(path, exif=exif)
    assert read_image(path, exif="apply").size == (10, 20)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", tmp_path):
        with pytest.raises(BadData, match="no picture \\(it is not a file\\)"):
            read_image(path)
