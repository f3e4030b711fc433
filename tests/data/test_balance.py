"""Balanced sampling: every class equally often, whatever the number of processes."""

from itertools import chain

import pytest
import torch
from torch import Tensor

from resnet_hub.data.balance import balanced
from resnet_hub.data.batches import BatchSampler, Selection
from resnet_hub.data.digits import Digits
from resnet_hub.data.settings import DataSettings
from resnet_hub.errors import InvalidSetting

RANKS = (1, 2, 3)
SIZES = {0: 31, 1: 12, 3: 4, 7: 1}
"""Images a class; labels 2, 4, 5 and 6 have none."""


def skewed() -> Tensor:
    labels = torch.tensor([label for label, size in SIZES.items() for _ in range(size)])
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))]


def epochs(count: int, labels: Tensor, seed: int = 3) -> list[int]:
    """Return the samples of so many epochs, one after another."""
    return list(chain(*(balanced(labels, seed, epoch)[0].tolist() for epoch in range(count))))


def spread(numbers: Tensor) -> int:
    return int(numbers.max() - numbers.min())


def test_each_class_comes_once_in_every_round_and_rounds_go_on_over_epochs():
    labels = skewed()
    drawn = labels[epochs(5, labels)]
    rounds = drawn.split(len(SIZES))
    assert all(sorted(part.tolist()) == list(SIZES) for part in rounds)
    assert len({tuple(part.tolist()) for part in rounds}) > 12  # of 24 orders


def test_in_any_part_of_a_run_classes_come_equally_often():
    labels = skewed()
    drawn = labels[epochs(3, labels)]
    for begin in range(0, 100, 7):
        for end in range(begin + 1, len(drawn) + 1, 5):
            found = drawn[begin:end].bincount(minlength=8)[list(SIZES)]
            assert spread(found) <= 2
    for epoch in range(3):
        found = drawn.split(len(labels))[epoch].bincount(minlength=8)
        assert found[list(SIZES)].tolist() == [12] * 4
        assert int(found.sum()) == len(labels)


def test_a_class_gives_each_of_its_images_before_any_comes_again_each_time_in_another_order():
    labels = skewed()
    drawn = torch.tensor(epochs(20, labels))
    for label, size in SIZES.items():
        members = (labels == label).nonzero().squeeze(1).tolist()
        passes = drawn[labels[drawn] == label].split(size)
        whole = [part.tolist() for part in passes if len(part) == size]
        assert len(whole) >= 7
        assert all(sorted(part) == members for part in whole)
        if size > 3:
            assert len({tuple(part) for part in whole}) >= 7
    assert spread(drawn.bincount()[labels == 0]) <= 1


def test_the_order_depends_on_seed_and_epoch_alone():
    labels = skewed()
    torch.manual_seed(99)
    indices, repeats = balanced(labels, 3, 4)
    torch.manual_seed(1)
    again = balanced(labels, 3, 4)
    assert torch.equal(indices, again[0])
    assert torch.equal(repeats, again[1])
    assert indices.tolist() != balanced(labels, 4, 4)[0].tolist()
    assert indices.tolist() != balanced(labels, 3, 5)[0].tolist()


def test_every_draw_of_an_image_in_an_epoch_has_a_key_of_its_own():
    labels = skewed()
    for epoch in range(4):
        keys = Selection(epoch, *balanced(labels, 3, epoch)).keys(5)
        assert len(keys.unique()) == len(labels)
    indices, repeats = balanced(labels, 3, 0)
    assert int((indices == int((labels == 7).nonzero())).sum()) == 12  # the class of one image
    assert set(repeats[labels[indices] == 7].tolist()) == set(range(12))


def test_equal_classes_give_each_image_once_in_the_first_epoch():
    labels = torch.arange(5).repeat_interleave(8)
    for epoch in range(3):
        indices, repeats = balanced(labels, 0, epoch)
        assert sorted(indices.tolist()) == list(range(40))
        assert not repeats.any()


@pytest.mark.parametrize("seed", [0, 2**40])
def test_classes_of_one_image_make_an_epoch_of_one_round(seed: int):
    assert sorted(epochs(1, torch.arange(7), seed)) == list(range(7))


def sampler(batch_size: int, rank: int = 0, ranks: int = 1) -> BatchSampler:
    labels = skewed()
    return BatchSampler(len(labels), batch_size, seed=3, rank=rank, ranks=ranks, labels=labels)


def drawn(own: BatchSampler) -> list[list[tuple[int, int]]]:
    """Return one pass's batches of (sample, which of its repeats)."""
    batches = [
        list(zip(x.indices.tolist(), x.repeats.tolist(), strict=True))
        for x in own
        if x.repeats is not None
    ]
    assert len(batches) == len(own) or own.begin
    return batches


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("batch_size", [1, 2, 5, 40])
def test_ranks_together_draw_the_sequence_of_a_single_process(ranks: int, batch_size: int):
    parts = [drawn(sampler(batch_size, rank, ranks)) for rank in range(ranks)]
    steps = [list(chain(*step)) for step in zip(*parts, strict=True)]
    assert steps == drawn(sampler(batch_size * ranks))
    whole = balanced(skewed(), 3, 0)
    flat = list(chain(*steps))
    expected = zip(*(part.tolist() for part in whole), strict=True)
    assert flat == list(expected)[: len(flat)]
    assert len(flat) == (48 // (batch_size * ranks) * batch_size * ranks or 48)


@pytest.mark.parametrize("ranks", RANKS)
def test_a_resumed_pass_goes_on_where_it_was_and_the_next_is_whole(ranks: int):
    for rank in range(ranks):
        fresh = sampler(4, rank, ranks)
        fresh.set_epoch(2)
        whole = drawn(fresh)
        for done in range(len(whole) + 1):
            resumed = sampler(4, rank, ranks)
            resumed.resume_at(2, done)
            resumed.set_epoch(2)  # as Lightning does
            assert [
                list(zip(x.indices.tolist(), x.repeats.tolist(), strict=True)) for x in resumed
            ] == whole[done:]
            assert drawn(resumed) == whole


@pytest.mark.parametrize("more", [{"seed": None}, {"seed": 0, "repeats": 2}])
def test_evaluation_and_repeats_are_not_balanced(more: dict):
    with pytest.raises(InvalidSetting, match=r"data\.sampling: balanced is for training") as error:
        BatchSampler(4, 2, labels=torch.zeros(4), **more)
    assert "\n" not in str(error.value)


def digits(**settings: object) -> Digits:
    data = Digits(DataSettings(name="Digits", batch_size=50, **settings), seed=1)
    data.open()
    return data


def test_of_a_data_set_training_alone_is_balanced_and_keeps_its_length():
    data, usual = digits(sampling="balanced"), digits()
    assert data.train_batches() == usual.train_batches() == 25
    assert data.train_batch_size() == usual.train_batch_size() == 50
    labels = torch.cat([batch.labels for batch in data.train_dataloader()])
    assert labels.bincount().tolist() == [125] * 10
    assert spread(torch.cat([b.labels for b in usual.train_dataloader()]).bincount()) > 2
    for loader in ("val_dataloader", "test_dataloader"):
        ours, theirs = (getattr(own, loader)() for own in (data, usual))
        for one, other in zip(ours, theirs, strict=True):
            assert torch.equal(one.indices, other.indices)
            assert torch.equal(one.keys, other.keys)
