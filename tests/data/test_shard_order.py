"""Training that goes through shards: every image once, few shards at a time, keyed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pictures import class_folders
from torch import Tensor

from resnet_hub.data.batches import BatchSampler
from resnet_hub.data.module import DataModule, open_data
from resnet_hub.data.packing import pack
from resnet_hub.data.settings import DataSettings
from resnet_hub.data.shard_order import shard_order
from resnet_hub.errors import InvalidSetting

COUNT, SHARDS = 3000, 30


def shards() -> Tensor:
    """A hundred images a shard, scattered over the split."""
    return torch.randperm(COUNT, generator=torch.Generator().manual_seed(1)) % SHARDS


@pytest.mark.parametrize("window", [1, 4, 100])
def test_every_image_comes_once_and_no_more_shards_than_stated_are_in_use(window: int):
    where = shards()
    order = shard_order(where, window, 0, 0)
    assert torch.equal(order.sort().values, torch.arange(COUNT))
    own = where[order]
    first = {shard: int((own == shard).nonzero()[0]) for shard in range(SHARDS)}
    last = {shard: int((own == shard).nonzero()[-1]) for shard in range(SHARDS)}
    for place in range(COUNT):
        used = sum(first[shard] <= place <= last[shard] for shard in range(SHARDS))
        assert used <= window + 1


def test_a_window_mixes_the_images_of_its_shards():
    where = shards()
    own = where[shard_order(where, 4, 0, 0)]
    middle = own[COUNT // 2 : COUNT // 2 + 100]
    assert len(middle.unique()) >= 4
    assert (middle[1:] == middle[:-1]).float().mean() < 0.5  # by chance it is a quarter


def test_the_order_hangs_on_seed_and_epoch_alone():
    where = shards()
    one = shard_order(where, 4, 7, 2)
    assert torch.equal(one, shard_order(where.clone(), 4, 7, 2))
    for other in (shard_order(where, 4, 8, 2), shard_order(where, 4, 7, 3)):
        assert not torch.equal(where[one], where[other])  # other shards, too


def sampler(**how: Any) -> BatchSampler:
    return BatchSampler(COUNT, 25, seed=3, shards=shards(), window=4, **how)


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_ranks_together_see_the_same_batches_and_every_image_once(ranks: int):
    seen = [
        list(
            BatchSampler(
                COUNT, 100 // ranks, seed=3, shards=shards(), window=4, rank=r, ranks=ranks
            )
        )
        for r in range(ranks)
    ]
    together = [torch.cat([own[step].indices for own in seen]) for step in range(len(seen[0]))]
    alone = [s.indices for s in BatchSampler(COUNT, 100, seed=3, shards=shards(), window=4)]
    assert all(torch.equal(a, b) for a, b in zip(together, alone, strict=True))
    assert torch.equal(torch.cat(together).sort().values, torch.arange(COUNT))


def test_a_pass_that_is_gone_on_with_has_the_rest_of_its_images():
    whole, rest = sampler(), sampler()
    rest.resume_at(0, 50)
    expected = [selection.indices for selection in whole][50:]
    found = [selection.indices for selection in rest]
    assert len(found) == 70
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_repeats_go_through_shards_too():
    order = sampler(repeats=3).sequence(0)
    assert torch.equal(order.indices[::3], shard_order(shards(), 4, 3, 0)[: COUNT // 3])


def packed(home: Path, **how: Any) -> DataModule:
    class_folders(home / "plain", {"ant": 12, "bee": 12})
    made = open_data(DataSettings(name="Folder", root=str(home / "plain"), workers=1))
    if not (home / "pack").exists():
        pack(made, home / "pack", shard_images=4)  # type: ignore[arg-type]
    return open_data(DataSettings(name="Folder", root=str(home / "pack"), batch_size=4, **how))


def test_a_recipe_trains_through_shards(tmp_path: Path):
    mixed, through = packed(tmp_path), packed(tmp_path, shuffle_shards=1)
    loaders = [data.open().train_dataloader() for data in (mixed, through)]
    one, two = (torch.cat([s.indices for s in loader.order]) for loader in loaders)
    assert not torch.equal(one, two)
    assert torch.equal(one.sort().values, two.sort().values)
    where = through.shards("train")[two]
    assert int((where[1:] != where[:-1]).sum()) < 15  # six shards, of which two overlap


def test_a_run_that_goes_through_other_shards_is_another(tmp_path: Path):
    data, other = packed(tmp_path, shuffle_shards=2), packed(tmp_path, shuffle_shards=2)
    assert data.fingerprint() == other.fingerprint()
    made = open_data(DataSettings(name="Folder", root=str(tmp_path / "plain"), workers=1))
    pack(made, tmp_path / "other", shard_images=5)  # type: ignore[arg-type]
    how = {"name": "Folder", "root": str(tmp_path / "other")}
    assert open_data(DataSettings(**how, shuffle_shards=2)).fingerprint() != data.fingerprint()  # type: ignore[arg-type]
    assert open_data(DataSettings(**how)).fingerprint() == packed(tmp_path).fingerprint()  # type: ignore[arg-type]


def test_shards_of_what_is_no_pack_are_refused(tmp_path: Path):
    class_folders(tmp_path, {"ant": 4, "bee": 4})
    data = open_data(DataSettings(name="Folder", root=str(tmp_path), shuffle_shards=2))
    with pytest.raises(InvalidSetting, match=r"data.shuffle_shards: Folder here is no pack"):
        data.open().train_dataloader()
    with pytest.raises(InvalidSetting, match=r"data.shuffle_shards: 0 is not at least 1"):
        DataSettings(shuffle_shards=0)
    with pytest.raises(InvalidSetting, match="balanced"):
        DataSettings(shuffle_shards=2, sampling="balanced")
