"""Pictures as tensors: whatever decodes a file, pixels and refusals are Pillow's."""

import io
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pictures import cut, damage, pattern, save
from PIL import Image
from torch.utils.data import get_worker_info

from resnet_hub.data import jpegs, pixels
from resnet_hub.data.images import MAX_PIXELS, Exif, Mode, read_image
from resnet_hub.data.pixels import read_pixels
from resnet_hub.errors import BadData

SIDES = [(1, 1), (8, 8), (17, 9), (9, 17), (40, 30), (333, 257)]
FORMS: dict[str, dict[str, Any]] = {
    "4:4:4": {"subsampling": 0},
    "4:2:2": {"subsampling": 1},
    "4:2:0": {"subsampling": 2},
    "progressive": {"progressive": True},
    "optimised": {"optimize": True, "quality": 97},
    "coarse": {"quality": 5},
    "with restarts": {"restart_marker_rows": 1},
    "with a comment and a profile": {"comment": b"a comment", "icc_profile": b"p" * 500},
}


@pytest.fixture(params=["simplejpeg", "torchvision"])
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """One decoder beside Pillow, which must be used."""
    name: str = request.param
    if name == "simplejpeg":
        pytest.importorskip("simplejpeg")
    else:
        monkeypatch.setattr(jpegs, "simplejpeg", None)
        # Other tests leave threads behind, which write nothing.
        monkeypatch.setattr(threading, "active_count", lambda: 1)
        if not jpegs.decoder_warns():
            pytest.skip("this torchvision decodes no JPEGs, or does not warn")
    return name


def past_pillow(path: Path, mode: Mode = "RGB", exif: Exif = "ignore") -> bool:
    """Return whether a file is decoded by another than Pillow."""
    return pixels._usual_jpeg(path, mode, exif) is not None


def same(path: Path, mode: Mode = "RGB", exif: Exif = "ignore") -> bool:
    """Return whether a file's pixels are Pillow's; their form is checked."""
    found = read_pixels(path, mode=mode, exif=exif)
    expected = np.asarray(read_image(path, mode=mode, exif=exif))
    expected = expected.reshape(*expected.shape[:2], -1)
    assert found.dtype is torch.uint8
    assert found.permute(1, 2, 0).is_contiguous()
    return np.array_equal(found.permute(1, 2, 0).numpy(), expected)


def refusal(read: Callable[..., object], path: Path) -> str:
    with pytest.raises(BadData) as caught:
        read(path)
    return str(caught.value)


def outcome(read: Callable[[Path], object], path: Path) -> str:
    """Return why a file is refused, or nothing."""
    try:
        read(path)
    except BadData as error:
        return str(error)
    return ""


def noisy(width: int, height: int) -> Image.Image:
    """A picture with colours that change from pixel to pixel, and smooth parts."""
    grains = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    mask = Image.fromarray((np.indices((height, width)).sum(0) // 8 % 2 * 255).astype(np.uint8))
    return Image.composite(Image.fromarray(grains), pattern(width, height), mask)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("colour", ["RGB", "L"])
def test_jpegs_are_decoded_past_pillow_to_its_very_pixels(
    tmp_path: Path, decoder: str, form: str, colour: str
) -> None:
    path = tmp_path / "a.jpg"
    for width, height in SIDES:
        noisy(width, height).convert(colour).save(path, **FORMS[form])
        assert past_pillow(path)
        assert same(path)


def test_grey_of_a_grey_jpeg_is_decoded_so_and_of_a_coloured_one_is_pillows(
    tmp_path: Path, decoder: str
) -> None:
    grey, coloured = tmp_path / "grey.jpg", tmp_path / "coloured.jpg"
    noisy(40, 30).convert("L").save(grey)
    noisy(40, 30).save(coloured)
    assert (past_pillow(grey, "L"), past_pillow(coloured, "L")) == (True, False)
    assert same(grey, "L")
    assert same(coloured, "L")


@pytest.mark.data
def test_real_photographs_are_decoded_to_pillows_pixels(real_data: Path, decoder: str) -> None:
    files = sorted(real_data.glob("imagenet-sample/val/*/*.JPEG"))
    past = [past_pillow(path) for path in files]
    assert all(map(same, files))
    assert len(past) >= 500
    assert sum(past) > 0.99 * len(past)


@pytest.mark.parametrize("sampling", ["440", "411"])
@pytest.mark.parametrize("marked", [False, True])
def test_colours_of_rare_sampling_are_pillows_to_smooth(
    tmp_path: Path, sampling: str, marked: bool
) -> None:
    simplejpeg = pytest.importorskip("simplejpeg")
    picture = np.random.default_rng(0).integers(0, 256, (33, 47, 3), dtype=np.uint8)
    content = simplejpeg.encode_jpeg(picture, colorsubsampling=sampling)
    usual = simplejpeg.encode_jpeg(picture, colorsubsampling="420")
    # A mark that nobody knows leaves the header to Pillow.
    mark = b"\xff\xef\x00\x06mark" if marked else b""
    for name, written in (("rare.jpg", content), ("usual.jpg", usual)):
        (tmp_path / name).write_bytes(written[:2] + mark + written[2:])
    assert not past_pillow(tmp_path / "rare.jpg")
    assert past_pillow(tmp_path / "usual.jpg")
    assert same(tmp_path / "rare.jpg")


def exif_of(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def xmp_of(orientation: int) -> bytes:
    return (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description tiff:Orientation="'
        + str(orientation).encode()
        + b'"/></rdf:RDF></x:xmpmeta>'
    )


@pytest.mark.fault("D4")
@pytest.mark.parametrize("orientation", range(10))
def test_a_photograph_is_turned_upright_where_that_is_asked_for(
    tmp_path: Path, decoder: str, orientation: int
) -> None:
    by_exif, by_xmp = tmp_path / "exif.jpg", tmp_path / "xmp.jpg"
    pattern(40, 24).save(by_exif, exif=exif_of(orientation))
    pattern(40, 24).save(by_xmp, xmp=xmp_of(orientation))
    for path in (by_exif, by_xmp):
        assert same(path, exif="apply")
        assert past_pillow(path, exif="apply") == (orientation == 1)
        assert same(path, exif="ignore")
        assert past_pillow(path, exif="ignore")
    upright = read_pixels(by_exif, exif="apply").shape
    assert upright == ((3, 40, 24) if orientation in range(5, 9) else (3, 24, 40))


def with_marker(path: Path, marker: int, content: bytes) -> Path:
    """Put a segment of application data behind the first marker of a JPEG."""
    whole = path.read_bytes()
    segment = bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, "big") + content
    path.write_bytes(whole[:2] + segment + whole[2:])
    return path


def cmyk(path: Path) -> Path:
    Image.merge("CMYK", [*noisy(40, 30).split(), Image.new("L", (40, 30), 20)]).save(path)
    return path


def rgb_inside(path: Path) -> Path:
    noisy(40, 30).save(path, keep_rgb=True)
    return path


def multi_picture(path: Path) -> Path:
    noisy(40, 30).save(path, "MPO", save_all=True, append_images=[pattern(40, 30)])
    return path


RARE: dict[str, Callable[[Path], Path]] = {
    "CMYK": cmyk,
    "two pictures": multi_picture,
    "RGB, not YCbCr": rgb_inside,
    "Adobe's mark": lambda path: with_marker(save(path), 0xEE, b"Adobe\0\x64\0\0\0\0\1"),
    "Photoshop's": lambda path: with_marker(save(path), 0xED, b"Photoshop 3.0\x008BIM\4\4\0\0"),
    "an unknown mark": lambda path: with_marker(save(path), 0xEB, b"whatever"),
    "a short mark": lambda path: with_marker(save(path), 0xE0, b""),
}


@pytest.mark.fault("D4")
@pytest.mark.parametrize("form", RARE)
def test_jpegs_of_a_rare_form_are_read_as_pillow_reads_them(
    tmp_path: Path, decoder: str, form: str
) -> None:
    assert same(RARE[form](tmp_path / "a.jpg"))


@pytest.mark.fault("D4")
@pytest.mark.parametrize("colour", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_other_formats_are_pillows_whatever_their_name(
    tmp_path: Path, colour: str, ending: str
) -> None:
    path = tmp_path / f"a{ending}"
    if colour == "I;16":
        Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 50).save(path, "PNG")
    else:
        noisy(40, 30).convert(colour).save(path, "PNG")
    for mode in ("RGB", "L"):
        assert same(path, mode)
        assert not past_pillow(path, mode)


@pytest.mark.parametrize("ending", [".gif", ".bmp", ".webp", ".tif", ".ppm"])
def test_formats_that_are_no_jpeg_keep_pillows_pixels(tmp_path: Path, ending: str) -> None:
    assert same(save(tmp_path / f"a{ending}"))


@pytest.mark.fault("D1")
def test_a_truncated_jpeg_is_refused_in_pillows_words(tmp_path: Path, decoder: str) -> None:
    path = tmp_path / "a.jpg"
    for progressive in (False, True):
        noisy(200, 150).save(path, progressive=progressive)
        whole = path.read_bytes()
        for share in (0.1, 0.5, 0.9):
            path.write_bytes(whole[: int(share * len(whole))])
            assert refusal(read_pixels, path) == refusal(read_image, path)


@pytest.mark.fault("D2")
def test_a_jpeg_damaged_in_its_middle_is_left_to_pillow_in_silence(
    tmp_path: Path, decoder: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.jpg"
    noisy(200, 150).save(path)
    whole, left = path.read_bytes(), 0
    for seed in range(10):
        path.write_bytes(whole)
        damage(path, seed=seed)
        left += not past_pillow(path)
        assert same(path)
    assert left >= 8
    assert capfd.readouterr().err == ""


def test_changed_bytes_give_what_pillow_gives(tmp_path: Path, decoder: str) -> None:
    path, draw, outcomes = tmp_path / "a.jpg", random.Random(0), {True: 0, False: 0}
    noisy(70, 50).save(path, comment=b"a comment", icc_profile=b"p" * 40)
    whole = path.read_bytes()
    for turn in range(400):
        content = bytearray(whole)
        for _ in range(2):
            content[draw.randrange(len(content) if turn % 2 else 750)] = draw.randrange(256)
        path.write_bytes(content)
        past = past_pillow(path)
        outcomes[past] += 1
        expected = outcome(read_image, path)
        assert outcome(read_pixels, path) == expected
        assert expected or same(path)
    assert min(outcomes.values()) > 40


@pytest.mark.fault("D5")
def test_a_bomb_is_refused_by_its_header_before_decoding(
    tmp_path: Path, decoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "a.jpg")
    content = bytearray(path.read_bytes())
    frame = content.index(b"\xff\xc0")
    monkeypatch.setattr(pixels, "decoded", lambda *_, **__: pytest.fail("decoded"))
    for width, height in ((12_000, 9_000), (65_535, 65_535), (1, 60_000)):
        assert width * height > MAX_PIXELS or height > 100 * width
        content[frame + 5 : frame + 9] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
        path.write_bytes(content)
        assert refusal(read_pixels, path) == refusal(read_image, path)


def test_a_file_longer_than_any_jpeg_is_not_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("simplejpeg")
    path = save(tmp_path / "a.jpg")
    assert past_pillow(path)
    monkeypatch.setattr(pixels, "_MOST_BYTES", path.stat().st_size - 1)
    assert not past_pillow(path)
    assert same(path)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    for path in (tmp_path / "pipe.jpg", tmp_path, tmp_path / "gone.jpg"):
        assert refusal(read_pixels, path) == refusal(read_image, path)


def test_memory_that_runs_out_is_no_damage(tmp_path: Path, monkeypatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(pixels, "decoded", full)
    with pytest.raises(MemoryError):
        read_pixels(save(tmp_path / "a.jpg"))


def test_without_another_decoder_pillow_reads_all_to_the_same_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jpg"
    noisy(40, 30).save(path)
    expected = read_pixels(path)
    monkeypatch.setattr(jpegs, "simplejpeg", None)
    monkeypatch.setattr(jpegs, "decode_jpeg", None)
    assert not past_pillow(path)
    assert torch.equal(read_pixels(path), expected)


def test_torchvision_decodes_only_where_no_other_thread_can_write_to_standard_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "a.jpg")
    monkeypatch.setattr(jpegs, "simplejpeg", None)
    monkeypatch.setattr(threading, "active_count", lambda: 2)
    assert get_worker_info() is None
    assert not past_pillow(path)
    assert same(path)
    monkeypatch.setattr(jpegs, "get_worker_info", object)  # a worker has one that feeds its queue
    assert past_pillow(path)


def test_torchvision_is_not_used_where_it_keeps_warnings_to_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jpegs, "simplejpeg", None)
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    monkeypatch.setattr(jpegs, "_warns", lambda: False)
    path = save(tmp_path / "a.jpg")
    assert not past_pillow(path)
    assert same(path)


def test_a_decoder_of_another_size_than_the_header_says_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "a.jpg", pattern(40, 30))
    turned = torch.zeros(3, 40, 30, dtype=torch.uint8)
    monkeypatch.setattr(pixels, "decoded", lambda *_, **__: turned)
    assert not past_pillow(path)
    assert same(path)


def test_the_header_is_pillows_own_where_it_is_read_past_it(tmp_path: Path) -> None:
    for colour in ("RGB", "L"):
        file = io.BytesIO()
        noisy(37, 23).convert(colour).save(file, "JPEG", progressive=True)
        with Image.open(file) as image:
            assert pixels._plain_header(file.getvalue()) == (image.mode, *image.size)
    assert pixels._plain_header(cut(save(tmp_path / "a.png")).read_bytes()) is None
