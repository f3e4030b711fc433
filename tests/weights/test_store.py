"""Files that are whole or not there, and tensors that are what their digest says."""

import errno
import json
import os
import stat
import struct
from contextlib import contextmanager
from pathlib import Path

import pytest
import safetensors.torch
import torch
from disks import files_of_at_most

from resnet_hub.errors import CorruptFile, InvalidSetting, ResNetHubError
from resnet_hub.weights import store
from resnet_hub.weights.store import (
    read_tensors,
    sha256_of,
    tensors_sha256,
    write_file,
    write_folder,
    write_tensors,
    write_text,
)

NAMES = ("a.txt", "b.txt")


@contextmanager
def umask(mask: int):
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fill_with(text: str):
    def fill(folder: Path) -> None:
        for name in NAMES:
            write_text(folder / name, text)

    return fill


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


# Single files


def test_a_file_is_written_with_its_folders_and_nothing_else(tmp_path):
    path = tmp_path / "new" / "deep" / "résumé {0}.txt"
    write_text(path, "café\n")
    assert path.read_bytes() == "café\n".encode()
    assert names(path.parent) == [path.name]


@pytest.mark.fault("W6")
@pytest.mark.parametrize(("mask", "rights"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_files_rights_follow_the_umask(tmp_path, mask, rights):
    with umask(mask):
        write_text(tmp_path / "a", "x")
        write_folder(tmp_path / "folder", fill_with("x"), names=NAMES)
    assert mode(tmp_path / "a") == mode(tmp_path / "folder" / "a.txt") == rights
    assert mode(tmp_path / "folder") == rights | (rights & 0o444) >> 2


def test_writing_leaves_the_umask_alone(tmp_path):
    with umask(0o027):
        write_text(tmp_path / "a", "x")
        assert os.umask(0o027) == 0o027


def test_a_disk_that_refuses_halfway_leaves_the_old_file(tmp_path):
    path = tmp_path / "a"
    write_text(path, "old")
    with (
        files_of_at_most(1 << 16),
        pytest.raises(ResNetHubError, match="could not be written") as caught,
    ):
        write_file(path, lambda file: file.write(b"x" * (1 << 20)))
    assert str(path) in str(caught.value)
    assert contents(tmp_path) == {"a": "old"}


def test_a_disk_that_refuses_at_the_flush_leaves_the_old_file(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "a"
    write_text(path, "old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResNetHubError, match="No space left on device"):
        write_text(path, "new")
    assert contents(tmp_path) == {"a": "old"}


def test_a_writer_that_fails_leaves_the_old_file(tmp_path):
    def fail(file):
        file.write(b"half")
        raise KeyboardInterrupt

    write_text(tmp_path / "a", "old")
    with pytest.raises(KeyboardInterrupt):
        write_file(tmp_path / "a", fail)
    assert contents(tmp_path) == {"a": "old"}


def test_a_parent_that_is_a_file_is_named_in_one_line(tmp_path):
    write_text(tmp_path / "a", "x")
    for write in (
        lambda: write_text(tmp_path / "a" / "b", "x"),
        lambda: write_folder(tmp_path / "a" / "b", fill_with("x"), names=NAMES),
        lambda: write_text(tmp_path / ("n" * 300), "x"),
    ):
        with pytest.raises(ResNetHubError, match="could not be written") as caught:
            write()
        assert "\n" not in str(caught.value)


@pytest.mark.fault("W3")
def test_a_file_is_flushed_before_it_is_named_and_its_folder_after(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(
        os, "fsync", lambda fd: (events.append(stat.S_ISDIR(os.fstat(fd).st_mode)), fsync(fd))
    )
    monkeypatch.setattr(
        Path, "replace", lambda self, to: (events.append("named"), replace(self, to))[1]
    )
    write_text(tmp_path / "a", "x")
    assert events == [False, "named", True]


# Whole folders


def test_a_folder_replaces_an_earlier_one_of_its_kind(tmp_path):
    for text in ("old", "new"):
        write_folder(tmp_path / "f", fill_with(text), names=NAMES)
        assert contents(tmp_path / "f") == {"a.txt": text, "b.txt": text}
    assert names(tmp_path) == ["f"]


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "f").mkdir()
    write_folder(tmp_path / "f", fill_with("new"), names=NAMES)
    assert contents(tmp_path / "f") == {"a.txt": "new", "b.txt": "new"}


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "full"), ValueError(), KeyboardInterrupt()]
)
def test_a_failure_while_filling_leaves_the_old_folder(tmp_path, error):
    def fail(folder):
        write_text(folder / "a.txt", "new")
        raise error

    write_folder(tmp_path / "f", fill_with("old"), names=NAMES)
    expected = ResNetHubError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected):
        write_folder(tmp_path / "f", fail, names=NAMES)
    with pytest.raises(expected):
        write_folder(tmp_path / "fresh", fail, names=NAMES)
    assert names(tmp_path) == ["f"]
    assert contents(tmp_path / "f") == {"a.txt": "old", "b.txt": "old"}


@pytest.mark.parametrize("swaps", [True, False])
def test_an_earlier_folder_leaves_nothing_behind(tmp_path, monkeypatch, swaps):
    if not swaps:
        monkeypatch.setattr(store, "_swapped", lambda one, other: False)
    write_folder(tmp_path / "f", fill_with("old"), names=NAMES)
    write_folder(tmp_path / "f", fill_with("new"), names=NAMES)
    assert contents(tmp_path / "f") == {"a.txt": "new", "b.txt": "new"}
    assert names(tmp_path) == ["f"]


def test_a_failure_while_exchanging_puts_the_old_folder_back(tmp_path, monkeypatch):
    write_folder(tmp_path / "f", fill_with("old"), names=NAMES)
    monkeypatch.setattr(store, "_swapped", lambda one, other: False)  # not every system can
    rename, calls = Path.rename, []

    def refuse_the_second(self, target):
        calls.append(self)
        if len(calls) == 2:
            raise OSError(errno.EIO, "refused")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse_the_second)
    with pytest.raises(ResNetHubError, match="refused"):
        write_folder(tmp_path / "f", fill_with("new"), names=NAMES)
    assert names(tmp_path) == ["f"]
    assert contents(tmp_path / "f") == {"a.txt": "old", "b.txt": "old"}


@pytest.mark.parametrize("own", [["thesis.tex"], ["a.txt", "b.txt", "notes.txt"], ["a.txt"]])
def test_a_folder_with_anything_else_in_it_is_never_replaced(tmp_path, own):
    (tmp_path / "f").mkdir()
    for name in own:
        (tmp_path / "f" / name).write_text("years of work")
    with pytest.raises(InvalidSetting, match="choose another folder"):
        write_folder(tmp_path / "f", fill_with("new"), names=NAMES)
    assert contents(tmp_path / "f") == dict.fromkeys(own, "years of work")


def test_a_file_where_the_folder_should_be_is_never_replaced(tmp_path):
    (tmp_path / "f").write_text("mine")
    with pytest.raises(InvalidSetting, match="is a file"):
        write_folder(tmp_path / "f", fill_with("new"), names=NAMES)
    assert contents(tmp_path) == {"f": "mine"}


def test_a_link_stays_and_its_folder_is_replaced(tmp_path):
    write_folder(tmp_path / "real", fill_with("old"), names=NAMES)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_folder(tmp_path / "link", fill_with("new"), names=NAMES)
    assert (tmp_path / "link").is_symlink()
    assert contents(tmp_path / "real") == {"a.txt": "new", "b.txt": "new"}
    assert names(tmp_path) == ["link", "real"]


# Tensors


@pytest.fixture
def weights(tmp_path) -> Path:
    path = tmp_path / "model.safetensors"
    write_tensors(path, {"a": torch.arange(64.0).view(8, 8), "b": torch.tensor(3)})
    return path


def test_tensors_come_back_bit_for_bit_in_any_layout(tmp_path):
    tensors = {
        "last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "view": torch.randn(4, 6).T,
        "half": torch.randn(3).half(),
        "brain": torch.randn(3).bfloat16(),
        "count": torch.tensor(7),
        "learnt": torch.nn.Parameter(torch.randn(2)),
    }
    write_tensors(tmp_path / "w", tensors)
    found = read_tensors(tmp_path / "w", sha256=sha256_of(tmp_path / "w"))
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor.detach())
        assert found[name].is_contiguous()


def test_training_what_was_read_leaves_the_file_alone(weights):
    before = sha256_of(weights)
    read_tensors(weights)["a"].add_(1)
    assert sha256_of(weights) == before


def test_replacing_a_file_leaves_what_was_read_from_it_alone(weights):
    found = read_tensors(weights)["a"]
    write_tensors(weights, {"a": torch.zeros(8, 8), "b": torch.tensor(0)})
    assert found.sum() == 64 * 63 / 2


def test_another_digest_is_refused_and_both_are_named(weights):
    with pytest.raises(CorruptFile, match=r"SHA-256 [0-9a-f]{12}…, its card says 000000000000…"):
        read_tensors(weights, sha256="0" * 64)


@pytest.mark.fault("L2")
@pytest.mark.parametrize("position", [0, 7, 8, 20, 100, -256, -100, -1])
@pytest.mark.parametrize("bit", [0, 7])
def test_a_flipped_bit_is_found_by_the_digest(weights, position, bit):
    digest, data = sha256_of(weights), bytearray(weights.read_bytes())
    data[position] ^= 1 << bit
    weights.write_bytes(data)
    refused_in_one_line(weights, "damaged", sha256=digest)


def header(content: object, data: bytes = b"", *, length: int | None = None) -> bytes:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
NOT_SAFETENSORS = {
    "empty": b"",
    "short": b"\x10",
    "HTML": b"<!DOCTYPE html>\n<html><body>Not found</body></html>\n" * 20,
    "LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64,
    "a pickle": b"\x80\x02}q\x00.",
    "a zip": b"PK\x03\x04" + bytes(200),
    "a header of 2^63 bytes": header({"a": F32}, bytes(8), length=1 << 63),
    "a header past the end": header({"a": F32}, bytes(8), length=1 << 20),
    "tensors past the end": header(
        {"a": {**F32, "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}
    ),
    "tensors over each other": header({"a": F32, "b": F32}, bytes(8)),
    "a shape that overflows": header({"a": {**F32, "shape": [1 << 33, 1 << 33]}}, bytes(8)),
    "a name that stands twice": header(
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
        b'"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}',
        bytes(16),
    ),
    "bytes that no tensor owns": header({"a": F32}, bytes(80)),
    "another type": header({"a": {**F32, "dtype": "F33"}}, bytes(8)),
    "no JSON": header(b"{" * 100),
}


@pytest.mark.fault("L1")
@pytest.mark.fault("L3")
@pytest.mark.parametrize("kind", NOT_SAFETENSORS)
def test_what_is_no_whole_safetensors_file_is_refused_in_one_line(tmp_path, kind):
    path = tmp_path / "w.safetensors"
    path.write_bytes(NOT_SAFETENSORS[kind])
    refused_in_one_line(path, "not a whole safetensors file")


@pytest.mark.fault("L1")
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_a_cut_file_is_refused_in_one_line(weights, kept):
    data = weights.read_bytes()
    weights.write_bytes(data[: int(kept * len(data))])
    refused_in_one_line(weights, "not a whole safetensors file")


def test_a_missing_file_and_a_folder_in_its_place_are_refused(tmp_path):
    refused_in_one_line(tmp_path / "w.safetensors", "missing")
    refused_in_one_line(tmp_path, "missing")


def refused_in_one_line(path: Path, words: str, **options) -> None:
    with pytest.raises(CorruptFile, match=words) as caught:
        read_tensors(path, **options)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_control_file_of_these_tests_is_read(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(header({"a": F32}, struct.pack("<2f", 1, 2)))
    assert read_tensors(path)["a"].tolist() == [1, 2]
    assert safetensors.torch.load_file(path).keys() == {"a"}


def test_tensors_of_one_memory_are_written_each_for_itself(tmp_path):
    whole = torch.arange(12.0)
    tensors = {"a": whole, "b": whole, "part": whole[3:6], "turned": whole.view(3, 4).T}
    write_tensors(tmp_path / "t.safetensors", tensors)
    found = read_tensors(tmp_path / "t.safetensors")
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


def test_a_digest_of_tensors_tells_every_difference_and_no_order_or_layout():
    one = {"a": torch.randn(2, 3, 4, 5), "b": torch.tensor(3), "c": torch.randn(0, 2)}
    digest = tensors_sha256(one)
    laid_out = one["a"].to(memory_format=torch.channels_last)
    assert tensors_sha256({"c": one["c"], "b": one["b"], "a": laid_out}) == digest
    flipped = one["a"].clone()
    flipped.view(torch.int32)[1, 2, 3, 4] ^= 1
    others = [
        {**one, "a": flipped},
        {**one, "a": one["a"].view(2, 3, 5, 4)},
        {**one, "b": torch.tensor(3, dtype=torch.int32)},
        {**one, "c": torch.randn(2, 0)},
        {"a": one["a"], "b": one["b"]},
        {"a": one["a"], "B": one["b"], "c": one["c"]},
    ]
    digests = {tensors_sha256(other) for other in others}
    assert len(digests | {digest}) == 7
    assert tensors_sha256({"half": torch.ones(3).bfloat16()})


def test_metadata_is_written_beside_the_format(tmp_path):
    write_tensors(tmp_path / "w", {"a": torch.ones(2)}, metadata={"key": "ü"})
    with safetensors.safe_open(tmp_path / "w", "pt") as file:
        assert file.metadata() == {"format": "pt", "key": "ü"}


def test_a_loop_of_links_is_refused_as_a_place_for_a_folder(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ResNetHubError, match="loop: could not be written"):
        write_folder(tmp_path / "loop", fill_with("x"), names=NAMES)
    assert names(tmp_path) == ["loop"]
