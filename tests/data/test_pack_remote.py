"""A pack on a web server is fetched shard by shard: once, verified, within bounds."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from loopback_hub import Fault, LoopbackHub
from pictures import class_folders

from resnet_hub.data.batches import Batch
from resnet_hub.data.check import check_data
from resnet_hub.data.module import DataModule, open_data
from resnet_hub.data.pack_index import INDEX, TABLE, read_index
from resnet_hub.data.packing import pack
from resnet_hub.data.settings import DataSettings
from resnet_hub.errors import CorruptFile, DataMissing, InvalidSetting
from resnet_hub.weights import transfer

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """A pack of six training shards and two of validation."""
    home = tmp_path / "pictures"
    class_folders(home / "train", {"ant": 12, "bee": 12})
    class_folders(home / "val", {"ant": 3, "bee": 3})
    data = open_data(DataSettings(name="Folder", root=str(home), workers=1))
    pack(data, tmp_path / "pack", shard_images=4)  # type: ignore[arg-type]
    return tmp_path / "pack"


@pytest.fixture
def server(local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """Serves the pack at /sets/pack; the cache is empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(transfer.time, "sleep", lambda seconds: None)
    with LoopbackHub() as hub:
        for path in local.iterdir():
            hub.files[f"/sets/pack/{path.name}"] = path.read_bytes()
        yield hub


@pytest.fixture
def remote(server: LoopbackHub) -> Callable[..., DataModule]:
    def opened(*, pin: str = "", **settings: Any) -> DataModule:
        how = {"batch_size": 5, "eval_size": 24, **settings}
        root = f"{server.url}/sets/pack{pin}"
        return open_data(DataSettings(name="Folder", root=root, **how), seed=4)

    return opened


def same(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels)
        for a, b in zip(one, other, strict=True)
    )


def kept(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache").rglob("*.tar"))


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize("window", [None, 2])
def test_batches_are_those_of_the_pack_and_each_shard_is_fetched_once(
    server: LoopbackHub, remote: Any, local: Path, workers: int, window: int | None
):
    how = {"workers": workers, "shuffle_shards": window}
    there = remote(**how).open()
    assert server.asked("GET", ".tar") == 0  # not before one is needed
    settings = DataSettings(
        name="Folder", root=str(local), batch_size=5, eval_size=24, shuffle_shards=window
    )
    here = open_data(settings, seed=4).open()
    for name in ("train_dataloader", "val_dataloader"):
        assert same(list(getattr(there, name)()), list(getattr(here, name)()))
    assert server.asked("GET", ".tar") == 8
    again = remote(**how).open()
    assert same(list(again.val_dataloader()), list(here.val_dataloader()))
    assert server.asked("GET", ".tar") == 8
    assert there.fingerprint() == here.fingerprint()


def test_several_processes_at_once_fetch_a_shard_once(server: LoopbackHub, remote: Any):
    data = remote(workers=4, batch_size=1).open()
    assert len(list(data.val_dataloader())) == 6
    assert server.asked("GET", ".tar") == 2


def test_a_connection_that_breaks_is_gone_on_with(server: LoopbackHub, remote: Any):
    server.faults.append(Fault(r"val-000000.tar", cut_after=3000, times=1))
    server.faults.append(Fault(r"val-000001.tar", status=503, times=2))
    assert sum(len(batch.labels) for batch in remote().open().val_dataloader()) == 6
    assert [r.status for r in server.log if "val-000000" in r.path] == [200, 206]
    assert server.asked("GET", "val-000001.tar") == 3


def test_other_bytes_than_the_index_says_are_refused_and_not_kept(
    server: LoopbackHub, remote: Any, tmp_path: Path
):
    content = bytearray(server.files["/sets/pack/val-000001.tar"])
    content[5] ^= 1
    server.files["/sets/pack/val-000001.tar"] = bytes(content)
    with pytest.raises(CorruptFile, match=r"sets/pack/val-000001.tar: what came is another file"):
        list(remote().open().val_dataloader())
    assert [path.name.partition("-")[2] for path in kept(tmp_path)] == ["val-000000.tar"]


def test_an_error_in_a_worker_is_one_line(server: LoopbackHub, remote: Any):
    server.faults.append(Fault(r"val-000001.tar", status=404))
    with pytest.raises(DataMissing, match=r"val-000001.tar: the server answers 404$"):
        list(remote(workers=2).open().val_dataloader())


def test_the_cache_keeps_what_it_may_and_training_goes_through_all(
    server: LoopbackHub, remote: Any, local: Path, tmp_path: Path
):
    shards = [s for s in read_index(local / INDEX).shards if s.name.startswith("train")]
    limit = 3 * max(shard.size for shard in shards)
    data = remote(cache_gb=(limit + 1) / 1e9, shuffle_shards=1, batch_size=2, augment="none").open()
    seen, most = [], 0
    for batch in data.train_dataloader():
        seen += batch.indices.tolist()
        most = max(most, sum(path.stat().st_size for path in kept(tmp_path)))
    assert sorted(seen) == list(range(24))
    assert most <= limit + 1
    assert server.asked("GET", "train-") == 6  # few shards at a time: none is fetched twice


def test_a_cache_that_is_too_small_for_the_order_is_refused(server: LoopbackHub, remote: Any):
    with pytest.raises(InvalidSetting, match=r"all shards are mixed; set data.shuffle_shards"):
        remote(cache_gb=1e-5).open().train_dataloader()
    with pytest.raises(InvalidSetting, match=r"data.shuffle_shards: 3\)"):
        remote(cache_gb=1e-5, shuffle_shards=3).open().train_dataloader()
    assert remote(cache_gb=1e-5).open().val_dataloader()  # which takes one after the other
    with pytest.raises(InvalidSetting, match=r"data\.cache_gb"):
        remote(cache_gb=0)


def test_what_was_fetched_is_used_without_a_server(
    server: LoopbackHub, remote: Any, monkeypatch: pytest.MonkeyPatch
):
    before = list(remote().open().val_dataloader())
    server.faults.append(Fault(".*", status=500))
    assert same(list(remote().open().val_dataloader()), before)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    asked = len(server.log)
    data = remote().open()
    assert same(list(data.val_dataloader()), before)
    assert len(server.log) == asked
    with pytest.raises(DataMissing, match="HF_HUB_OFFLINE forbids it"):
        list(data.train_dataloader())


def test_a_pack_that_was_never_fetched_is_one_line(
    server: LoopbackHub, remote: Any, monkeypatch: pytest.MonkeyPatch
):
    server.faults.append(Fault(INDEX, status=404))
    with pytest.raises(DataMissing, match=r"shards.json: the server answers 404"):
        remote().open()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataMissing, match="not fetched yet, and HF_HUB_OFFLINE forbids it"):
        remote().open()


def test_an_address_may_say_what_index_it_means(server: LoopbackHub, remote: Any, local: Path):
    digest = hashlib.sha256((local / INDEX).read_bytes()).hexdigest()
    remote(pin=f"#sha256={digest}").open()
    with pytest.raises(CorruptFile, match=r"shards.json: what came is another file"):
        remote(pin=f"#sha256={'0' * 64}").open()


def test_a_pack_that_changed_on_the_server_is_fetched_anew(
    server: LoopbackHub, remote: Any, local: Path, tmp_path: Path
):
    list(remote().open().val_dataloader())
    class_folders(tmp_path / "others/train", {"ant": 4, "cow": 4})
    class_folders(tmp_path / "others/val", {"ant": 4, "cow": 3})
    data = open_data(DataSettings(name="Folder", root=str(tmp_path / "others"), workers=1))
    pack(data, tmp_path / "new", shard_images=4)  # type: ignore[arg-type]
    for path in (tmp_path / "new").iterdir():
        server.files[f"/sets/pack/{path.name}"] = path.read_bytes()
    fresh = remote().open()
    assert fresh.labels == ["ant", "cow"]
    assert sum(len(batch.labels) for batch in fresh.val_dataloader()) == 7


def test_a_table_that_was_damaged_on_disk_is_fetched_again(
    server: LoopbackHub, remote: Any, tmp_path: Path
):
    remote().open()
    (table,) = (tmp_path / "cache").rglob(TABLE)
    table.write_bytes(b"")
    remote().open()
    assert server.asked("GET", TABLE) == 2


def test_checking_a_pack_at_an_address_fetches_and_reads_it_all(server: LoopbackHub, remote: Any):
    report = check_data(remote(workers=1))
    assert (report.samples, report.damaged) == ({"train": 24, "val": 6}, 0)
    assert server.asked("GET", ".tar") == 8


@pytest.mark.parametrize(
    "root",
    [
        "http://example.org/pack",
        "https://me:secret@example.org/pack",
        "https://",
        "https://a/b?c=d",
    ],
)
def test_an_address_that_is_not_taken_is_one_line_without_its_secret(root: str):
    data = open_data(DataSettings(name="Folder", root=root))
    with pytest.raises(InvalidSetting, match="a pack is fetched from a plain https://") as caught:
        data.open()
    assert "secret" not in str(caught.value)
