"""The cache: filled whole, cleared, held to what came first."""

import json
import signal
from pathlib import Path

import disks
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
        folder = cache.filled(cache.published("net.a"), counted, source="net.a")
        assert folder == home / "published/net.a"
    assert len(calls) == 1
    expected = ["published/.net.a.json", *(f"published/net.a/{name}" for name in sorted(FILES))]
    assert files(home) == expected


def test_what_fails_halfway_leaves_nothing(home: Path):
    with pytest.raises(CorruptFile):
        cache.filled(cache.published("net.a"), failing, source="net.a")
    assert files(home) == []
    assert [path.name for path in (home / "published").iterdir()] == [".net.a.lock"]


@pytest.mark.fault("H7")
def test_half_a_folder_is_filled_anew_and_orphans_are_swept(home: Path):
    folder = cache.published("net.a")
    for place in (folder, folder.with_name(".net.a.x1y2"), folder.with_name(".net.a.z.old")):
        place.mkdir(parents=True)
        (place / "config.json").write_text("half")
    (folder.with_name(".net.ab.mine")).mkdir()
    cache.filled(folder, fill, source="net.a")
    assert sorted(p.name for p in folder.parent.iterdir()) == [
        ".net.a.json",
        ".net.a.lock",
        ".net.ab.mine",
        "net.a",
    ]
    assert cache.holds(folder)


def test_entries_are_named_as_they_are_asked_for(home: Path):
    commit, digest = "c" * 40, "d" * 64
    url = f"https://host/a.safetensors#sha256={digest}"
    for place, source in (
        ("published/net.a", "net.a"),
        (f"hub/org--net.x/{commit}", f"hf:org/net.x@{commit}"),
        (f"urls/{digest}-0123", url),
    ):
        cache.filled(home / place, fill, source=source)
    for revision in ("main", "topic/v1", "gone"):
        wrong = "e" * 40 if revision == "gone" else commit
        write_text(cache.revision_file("org/net.x", revision), wrong)
    fill(home / "published/.aside-net.a")
    sources = [entry.source for entry in cache.entries()]
    assert sources == ["net.a", f"hf:org/net.x@{commit}", url]
    assert {entry.size for entry in cache.entries()} == {30}
    assert [entry.revisions for entry in cache.entries()] == [(), ("main", "topic/v1"), ()]
    names = ("hf:org/net.x", "org/net.x", sources[1], "org/net.x@topic/v1", "hf:org/net.x@main")
    for name in names:
        assert [entry.source for entry in cache.entries(name)] == sources[1:2]
    assert cache.entries("org/net.x@gone") == cache.entries("org/net") == []
    assert [entry.source for entry in cache.clear(url)] == [url]
    assert [entry.source for entry in cache.clear("net.a")] == ["net.a"]
    assert [entry.source for entry in cache.entries()] == sources[1:2]
    assert not list((home / "urls").glob("*.json"))
    assert cache.clear("nothing") == []
    assert len(cache.clear()) == 1
    assert cache.entries() == []
    assert files(home) == []


def test_a_folder_that_was_copied_into_the_cache_is_an_entry_too(home: Path):
    fill(home / "urls/0123-4567")
    (entry,) = cache.entries()
    assert entry.source == "0123-4567"
    cache.check(entry.folder)


@pytest.mark.parametrize("note", ["{", "[]", "{}", '{"source": "a", "card": 1}'])
def test_a_damaged_note_holds_to_nothing(home: Path, note: str):
    folder = cache.filled(cache.published("net.a"), fill, source="net.a")
    folder.with_name(".net.a.json").write_text(note)
    cache.check(folder)
    assert [entry.source for entry in cache.entries()] == ["net.a"]


def test_a_card_that_changed_since_it_was_fetched_is_refused(home: Path):
    folder = cache.filled(cache.published("net.a"), fill, source="net.a")
    cache.check(folder)
    (folder / "config.json").write_text("other")
    words = r"config\.json: changed since it was fetched; fetch it again"
    with pytest.raises(CorruptFile, match=words):
        cache.check(folder)
    (folder / "config.json").unlink()
    with pytest.raises(CorruptFile, match=words):
        cache.check(folder)


def test_a_program_that_handles_sigterm_itself_keeps_its_handler(home: Path):
    def own(number: int, frame: object) -> None:
        raise AssertionError

    for handler in (own, signal.SIG_DFL):
        before = signal.signal(signal.SIGTERM, handler)
        try:
            with pytest.raises(CorruptFile):
                cache.filled(cache.published("net.a"), failing, source="net.a")
            assert signal.getsignal(signal.SIGTERM) is handler
        finally:
            signal.signal(signal.SIGTERM, before)


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
    """A file system of 64 kB."""
    with disks.small_disk(tmp_path / "disk", "64k"):
        yield tmp_path / "disk"


@pytest.mark.fault("H8")
def test_a_full_disk_is_one_line_and_leaves_what_was_there(small_disk, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(small_disk))
    cache.filled(cache.published("net.a"), fill, source="net.a")

    def much(folder: Path) -> None:
        write_text(folder / "config.json", "x" * 100_000)

    with pytest.raises(ResNetHubError, match=r"could not be written \(No space left on device\)"):
        cache.filled(cache.published("net.b"), much, source="net.b")
    assert [entry.source for entry in cache.entries()] == ["net.a"]
    assert not any(
        path.name.startswith(".net.b.") for path in small_disk.rglob("*") if path.is_dir()
    )


@pytest.mark.fault("H8")
def test_a_disk_that_fills_while_it_downloads_is_no_fault_of_the_network(small_disk, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(small_disk))
    with LoopbackHub() as hub:
        hub.files["/file"] = bytes(1_000_000)
        with pytest.raises(ResNetHubError, match=r"could not be written \(No space left on device"):
            cache.filled(
                cache.published("net.b"),
                lambda folder: download(f"{hub.url}/file", folder / "file") and None,
                source="net.b",
            )
        assert len(hub.log) == 1
    assert not [path for path in small_disk.rglob("*") if path.is_file() and path.suffix != ".lock"]


@pytest.mark.fault("H8")
def test_a_cache_that_cannot_be_written_serves_what_it_holds(small_disk, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(small_disk))
    folder = cache.filled(cache.published("net.a"), fill, source="net.a")
    disks.remount(small_disk, "ro")
    assert cache.filled(folder, failing, source="net.a") == folder
    with pytest.raises(ResNetHubError, match=r"the cache cannot be written \(Read-only f"):
        cache.filled(cache.published("net.b"), fill, source="net.b")
