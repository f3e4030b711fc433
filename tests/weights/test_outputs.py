"""What nets gave, kept: once made, verified, made again where it is damaged."""

import logging
import threading
from pathlib import Path

import pytest
import torch
from disks import files_of_at_most
from torch import Tensor

from resnet_hub.errors import CorruptFile, ResNetHubError
from resnet_hub.weights import cache, outputs
from resnet_hub.weights.store import write_tensors

KEY = {"weights": "a" * 64, "numbers": [1, 2.5], "deeper": {"x": None}}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch) -> Path:
    """The cache's place, empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch/hub/resnet_hub"


class Maker:
    """Counts how often it makes its tensors."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> dict[str, Tensor]:
        self.calls += 1
        return {"values": torch.arange(12.0).view(4, 3), "indices": torch.arange(4)}


def file_of(home: Path) -> Path:
    (path,) = home.glob("outputs/*/outputs.safetensors")
    return path


def test_they_are_made_once_and_come_back_bit_for_bit(home: Path):
    make = Maker()
    for known in (False, True, True):
        found, from_cache = outputs.kept(dict(reversed(KEY.items())), make, about="x")
        assert from_cache is known
        assert {name: x.tolist() for name, x in found.items()} == {
            name: x.tolist() for name, x in Maker()().items()
        }
    assert make.calls == 1
    assert [path.name for path in file_of(home).parent.iterdir()] == ["outputs.safetensors"]


def test_what_is_kept_without_making_is_found_by_its_key_alone(home: Path):
    assert outputs.find(KEY) is None
    assert not home.exists()  # looking leaves nothing
    outputs.keep(KEY, Maker()(), about="x")
    assert outputs.find({**KEY, "more": 0}) is None
    found = outputs.find(dict(reversed(KEY.items())))
    assert {name: x.tolist() for name, x in found.items()} == {
        name: x.tolist() for name, x in Maker()().items()
    }
    make = Maker()
    assert outputs.kept(KEY, make, about="x")[1] is True
    assert (make.calls, outputs.entries()[0].about) == (0, "x")
    file_of(home).write_bytes(b"damaged")
    assert outputs.find(KEY) is None
    outputs.keep(KEY, Maker()(), about="again")
    assert outputs.find(KEY) is not None


def test_keeping_on_a_disk_that_refuses_is_a_warning(home: Path, caplog):
    with files_of_at_most(100), caplog.at_level(logging.WARNING, logger="resnet_hub"):
        outputs.keep(KEY, Maker()(), about="x")
    assert caplog.records[0].getMessage().startswith(f"not kept: {home}/outputs/")
    assert outputs.find(KEY) is None


def test_another_key_is_another_entry(home: Path):
    make = Maker()
    for key in (KEY, {**KEY, "numbers": [1, 2.50001]}, {**KEY, "more": 0}):
        assert outputs.kept(key, make, about="x")[1] is False
    assert make.calls == len(outputs.entries()) == 3


@pytest.mark.parametrize("where", ["last", "first number", "key", "header", "cut", "empty", "gone"])
def test_what_is_damaged_is_made_again(home: Path, where: str):
    make = Maker()
    outputs.kept(KEY, make, about="x")
    path = file_of(home)
    content = bytearray(path.read_bytes())
    begin = 8 + int.from_bytes(content[:8], "little")
    places = {"last": -1, "first number": begin, "key": content.index(b"aaaa"), "header": 3}
    if where in places:
        content[places[where]] ^= 1
    path.write_bytes({"cut": content[:-5], "empty": b""}.get(where, content))
    if where == "gone":
        path.unlink()
    found, from_cache = outputs.kept(KEY, make, about="x")
    assert (from_cache, make.calls) == (False, 2)
    assert found["values"].tolist() == Maker()()["values"].tolist()
    assert outputs.kept(KEY, make, about="x")[1] is True


def test_another_entrys_file_in_its_place_is_not_taken(home: Path):
    make = Maker()
    outputs.kept(KEY, make, about="x")
    path = file_of(home)
    write_tensors(path, make(), metadata={"key": "{}", "sha256": "0" * 64})
    assert outputs.kept(KEY, make, about="x")[1] is False


def test_what_a_kill_left_half_written_is_swept(home: Path):
    make = Maker()
    outputs.kept(KEY, make, about="x")
    folder = file_of(home).parent
    file_of(home).unlink()
    (folder / ".outputs.safetensors.x1y2").write_bytes(b"half")
    outputs.kept(KEY, make, about="x")
    assert [path.name for path in folder.iterdir()] == ["outputs.safetensors"]


def test_what_cannot_be_made_leaves_nothing(home: Path):
    def failing() -> dict[str, Tensor]:
        raise CorruptFile("an image")

    with pytest.raises(CorruptFile, match="an image"):
        outputs.kept(KEY, failing, about="x")
    assert outputs.entries() == []
    assert outputs.kept(KEY, Maker(), about="x")[1] is False


def test_of_two_who_ask_at_once_one_makes_them():
    make, answers, started = Maker(), [], threading.Event()

    def slowly() -> dict[str, Tensor]:
        started.set()
        threading.Event().wait(0.3)
        return make()

    def ask() -> None:
        answers.append(outputs.kept(KEY, slowly, about="x")[1])

    first = threading.Thread(target=ask)
    first.start()
    assert started.wait(10)
    ask()
    first.join(10)
    assert sorted(answers) == [False, True]
    assert make.calls == 1


def test_a_disk_that_refuses_costs_the_keeping_and_no_answer(home: Path, caplog):
    make = Maker()
    with files_of_at_most(100), caplog.at_level(logging.WARNING, logger="resnet_hub"):
        found, from_cache = outputs.kept(KEY, make, about="x")
    assert from_cache is False
    assert found["values"].shape == (4, 3)
    (record,) = caplog.records
    assert record.getMessage().startswith(f"not kept: {home}/outputs/")
    assert outputs.entries() == []
    assert outputs.kept(KEY, make, about="x")[1] is False


def test_a_cache_that_has_no_place_is_refused_before_anything_is_made(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "file"))
    make = Maker()
    with pytest.raises(ResNetHubError, match="the cache cannot be written"):
        outputs.kept(KEY, make, about="x")
    assert make.calls == 0


def test_entries_are_listed_and_cleared_by_name_or_together(home: Path):
    for number in range(3):
        outputs.kept({**KEY, "n": number}, Maker(), about=f"the {number}.")
    listed = outputs.entries()
    assert {entry.about for entry in listed} == {"the 0.", "the 1.", "the 2."}
    for entry in listed:
        assert entry.source == f"outputs:{entry.folder.name[:12]}"
        assert entry.size == (entry.folder / "outputs.safetensors").stat().st_size
    assert cache.entries() == []  # they are no weights
    assert outputs.entries("outputs:0123") == outputs.clear("resnet50") == []
    assert outputs.clear(listed[1].source) == [listed[1]]
    assert outputs.entries("outputs") == [listed[0], listed[2]]
    assert outputs.clear() == [listed[0], listed[2]]
    assert not (home / "outputs").exists()


def test_a_damaged_entry_can_be_listed_and_cleared(home: Path):
    outputs.kept(KEY, Maker(), about="x")
    file_of(home).write_bytes(b"no safetensors")
    (entry,) = outputs.entries()
    assert (entry.about, entry.size) == ("damaged", 14)
    assert outputs.clear("outputs") == [entry]
    assert outputs.entries() == []
