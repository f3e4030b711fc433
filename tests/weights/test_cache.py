"""The cache: filled whole, cleared, held to what came first."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
from loopback_hub import LoopbackHub

from resnet_hub.errors import CorruptFile, ResNetHubError
from resnet_hub.weights import cache
from resnet_hub.weights.card import FILES
from resnet_hub.weights.store import write_text
from resnet_hub.weights.transfer import download


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch) -> Path:
    """The cache's place, empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch/hub/resnet_hub"


def fill(folder: Path) -> None:
    for name in FILES:
        write_text(folder / name, "x" * 10)


def failing(folder: Path) -> None:
    (folder / "config.json").write_text("half")
    raise CorruptFile("what came is another file")


def files(folder: Path) -> list[str]:
    found = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return sorted(str(path.relative_to(folder)) for path in found)


def test_its_place_follows_torchs(home: Path, tmp_path: Path, monkeypatch):
    assert cache.root() == home
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "set"))
    assert cache.root() == tmp_path / "set/resnet_hub"


def test_a_folder_is_filled_once(home: Path):
    calls = []

    def counted(folder: Path) -> None:
        calls.append(folder)
        fill(folder)

    for _ in range(2):
        assert cache.filled(cache.published("net.a"), counted) == home / "published/net.a"
    assert len(calls) == 1
    assert files(home) == [f"published/net.a/{name}" for name in sorted(FILES)]


def test_what_fails_halfway_leaves_nothing(home: Path):
    with pytest.raises(CorruptFile):
        cache.filled(cache.published("net.a"), failing)
    assert files(home) == []
    assert [path.name for path in (home / "published").iterdir()] == [".net.a.lock"]


def test_half_a_folder_is_filled_anew_and_orphans_are_swept(home: Path):
    folder = cache.published("net.a")
    for place in (folder, folder.with_name(".net.a.x1y2"), folder.with_name(".net.a.z.old")):
        place.mkdir(parents=True)
        (place / "config.json").write_text("half")
    (folder.with_name(".net.ab.mine")).mkdir()
    cache.filled(folder, fill)
    assert sorted(p.name for p in folder.parent.iterdir()) == [
        ".net.a.lock",
        ".net.ab.mine",
        "net.a",
    ]
    assert cache.holds(folder)


def test_entries_are_named_as_they_are_asked_for(home: Path):
    commit, digest = "c" * 40, "d" * 64
    for place in ("published/net.a", f"hub/org--net.x/{commit}", f"urls/{digest}"):
        cache.filled(home / place, fill)
    write_text(home / "hub/org--net.x/revisions/main", commit)
    sources = [entry.source for entry in cache.entries()]
    assert sources == ["net.a", f"hf:org/net.x@{commit}", f"sha256:{digest}"]
    assert {entry.size for entry in cache.entries()} == {30}
    for name in ("hf:org/net.x", "org/net.x", sources[1]):
        assert [entry.source for entry in cache.entries(name)] == sources[1:2]
    assert [entry.source for entry in cache.clear("net.a")] == ["net.a"]
    assert [entry.source for entry in cache.entries()] == sources[1:]
    assert cache.clear("nothing") == []
    assert len(cache.clear()) == 2
    assert cache.entries() == []
    assert files(home) == []


def test_a_name_is_held_to_the_digest_that_came_first(home: Path):
    cache.remember("net.a", "a" * 64)
    cache.remember("net.b", "b" * 64)
    cache.remember("net.a", "a" * 64)
    with pytest.raises(CorruptFile, match=r"net\.a: what came has SHA-256 bbbbbbbbbbbb…, but at"):
        cache.remember("net.a", "b" * 64)
    cache.clear()
    assert json.loads((home / "digests.json").read_text()) == {"net.a": "a" * 64, "net.b": "b" * 64}


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}', "\udc80"])
def test_a_damaged_record_is_named_and_not_overwritten(home: Path, text: str):
    home.mkdir(parents=True)
    book = home / "digests.json"
    book.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(CorruptFile, match=r"digests\.json: not"):
        cache.remember("net.a", "a" * 64)
    assert book.read_bytes() == text.encode(errors="surrogateescape")


@pytest.fixture
def small_disk(tmp_path: Path):
    """Mount a file system of 64 kB; a function makes it read-only."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if os.getuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here")

    def freeze() -> None:
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)

    try:
        yield place, freeze
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_one_line_and_leaves_what_was_there(small_disk, monkeypatch):
    place, _ = small_disk
    monkeypatch.setenv("TORCH_HOME", str(place))
    cache.filled(cache.published("net.a"), fill)

    def much(folder: Path) -> None:
        write_text(folder / "config.json", "x" * 100_000)

    with pytest.raises(ResNetHubError, match=r"could not be written \(No space left on device\)"):
        cache.filled(cache.published("net.b"), much)
    assert [entry.source for entry in cache.entries()] == ["net.a"]
    assert not any(path.name.startswith(".net.b.") for path in place.rglob("*") if path.is_dir())


def test_a_disk_that_fills_while_it_downloads_is_no_fault_of_the_network(small_disk, monkeypatch):
    place, _ = small_disk
    monkeypatch.setenv("TORCH_HOME", str(place))
    with LoopbackHub() as hub:
        hub.files["/file"] = bytes(1_000_000)
        with pytest.raises(ResNetHubError, match=r"could not be written \(No space left on device"):
            cache.filled(
                cache.published("net.b"),
                lambda folder: download(f"{hub.url}/file", folder / "file") and None,
            )
        assert len(hub.log) == 1
    assert not [path for path in place.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_a_cache_that_cannot_be_written_serves_what_it_holds(small_disk, monkeypatch):
    place, freeze = small_disk
    monkeypatch.setenv("TORCH_HOME", str(place))
    folder = cache.filled(cache.published("net.a"), fill)
    freeze()
    assert cache.filled(folder, failing) == folder
    with pytest.raises(ResNetHubError, match=r"the cache cannot be written \(Read-only f"):
        cache.filled(cache.published("net.b"), fill)
