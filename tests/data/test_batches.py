"""Which samples make which batch: every one once, whatever the number of processes."""

import pickle
from itertools import chain

import pytest
import timm.data.distributed_sampler
import torch
from torch.utils.data import DataLoader

import resnet_hub.data.batches
from resnet_hub.data.batches import BatchSampler, Selection
from resnet_hub.errors import InvalidSetting
from resnet_hub.randomness import permutation, sample_keys

COUNTS = range(18)
RANKS = (1, 2, 3)


def passed(sampler: BatchSampler) -> list[list[int]]:
    """Return one pass's batches, and check that as many come as were announced."""
    batches = [selection.indices.tolist() for selection in sampler]
    assert len(batches) == len(sampler)
    return batches


def on_every_rank(
    count: int, batch_size: int, ranks: int, *, seed: int | None
) -> list[list[list[int]]]:
    return [
        passed(BatchSampler(count, batch_size, seed=seed, rank=rank, ranks=ranks))
        for rank in range(ranks)
    ]


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_evaluation_sees_every_sample_exactly_once(batch_size: int, ranks: int) -> None:
    for count in COUNTS:
        parts = on_every_rank(count, batch_size, ranks, seed=None)
        seen = [index for part in parts for batch in part for index in batch]
        assert sorted(seen) == list(range(count))
        assert all(len(batch) <= batch_size for part in parts for batch in part)


@pytest.mark.parametrize("ranks", RANKS)
def test_a_rank_without_samples_has_one_empty_batch(ranks: int) -> None:
    for count in range(ranks):
        parts = on_every_rank(count, 4, ranks, seed=None)
        assert [part == [[]] for part in parts] == [rank >= count for rank in range(ranks)]
    empty = next(iter(BatchSampler(0, 4, seed=None)))
    assert empty.indices.dtype is torch.int64


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_ranks_together_train_on_the_sequence_of_a_single_process(
    batch_size: int, ranks: int
) -> None:
    for count in range(ranks, 18):
        parts = on_every_rank(count, batch_size, ranks, seed=3)
        steps = [[i for batch in step for i in batch] for step in zip(*parts, strict=True)]
        assert steps == passed(BatchSampler(count, batch_size * ranks, seed=3))
        assert all(batch for part in parts for batch in part)


@pytest.mark.parametrize("ranks", RANKS)
def test_training_leaves_out_only_the_incomplete_last_step(ranks: int) -> None:
    for count in range(ranks, 18):
        parts = on_every_rank(count, 2, ranks, seed=3)
        seen = [index for part in parts for batch in part for index in batch]
        assert len(seen) == len(set(seen))
        whole = count // (2 * ranks) * 2 * ranks
        assert len(seen) == (whole or count)


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("seed", [None, 3])
def test_a_full_batch_is_the_largest_that_comes(ranks: int, seed: int | None) -> None:
    for count in range(ranks, 18):
        for rank in range(ranks):
            sampler = BatchSampler(count, 4, seed=seed, rank=rank, ranks=ranks)
            assert sampler.full_batch == max(map(len, passed(sampler)))


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    sampler = BatchSampler(40, 8, seed=3)
    first = passed(sampler)
    assert passed(sampler) == first
    sampler.set_epoch(1)
    second = passed(sampler)
    assert second != first
    assert list(chain(*second)) == permutation(40, 3, 1).tolist()
    assert passed(BatchSampler(40, 8, seed=4)) != first
    torch.manual_seed(99)
    sampler.set_epoch(0)
    assert passed(sampler) == first


def test_epochs_mix_the_left_out_samples() -> None:
    sampler = BatchSampler(10, 8, seed=0)
    seen = set()
    for epoch in range(20):
        sampler.set_epoch(epoch)
        seen.update(chain(*passed(sampler)))
    assert seen == set(range(10))


def test_evaluation_keeps_the_order_in_every_epoch() -> None:
    sampler = BatchSampler(10, 4, seed=None)
    sampler.set_epoch(5)
    assert passed(sampler) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    second = BatchSampler(10, 4, seed=None, rank=1, ranks=3)
    assert passed(second) == [[1, 4, 7]]


def test_the_epoch_travels_with_its_selection() -> None:
    sampler = BatchSampler(4, 2, seed=0)
    sampler.set_epoch(7)
    assert [selection.epoch for selection in sampler] == [7, 7]
    assert isinstance(next(iter(sampler)), Selection)


@pytest.mark.parametrize("ranks", RANKS)
def test_a_resumed_pass_goes_on_where_it_was_and_the_next_is_whole(ranks: int) -> None:
    for rank in range(ranks):
        fresh = BatchSampler(50, 4, seed=3, rank=rank, ranks=ranks)
        fresh.set_epoch(2)
        whole = passed(fresh)
        for done in range(len(whole) + 1):
            resumed = BatchSampler(50, 4, seed=3, rank=rank, ranks=ranks)
            resumed.resume_at(2, done)
            resumed.set_epoch(2)  # as Lightning does
            assert [x.indices.tolist() for x in resumed] == whole[done:]
            assert passed(resumed) == whole


def drawn(sampler: BatchSampler) -> list[list[tuple[int, int]]]:
    """Return one pass's batches of (sample, which of its repeats)."""
    return [
        list(zip(x.indices.tolist(), x.repeats.tolist(), strict=True))
        for x in sampler
        if x.repeats is not None
    ]


@pytest.mark.parametrize("repeats", [2, 3, 4])
@pytest.mark.parametrize("ranks", RANKS)
def test_repeats_go_to_the_ranks_as_timms_and_torchvisions_sampler_gives_them(
    ranks: int, repeats: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        resnet_hub.data.batches, "permutation", lambda count, *_: torch.arange(count)
    )
    for count in (24, 25, 37):
        for rank in range(ranks):
            theirs = timm.data.distributed_sampler.RepeatAugSampler(
                range(count), ranks, rank, shuffle=False, num_repeats=repeats
            )
            ours = BatchSampler(count, 2, seed=0, rank=rank, ranks=ranks, repeats=repeats)
            flat = list(chain(*passed(ours)))
            # Theirs rounds the samples of a rank up; ours leaves the incomplete last step out.
            assert flat == list(theirs)[: len(flat)]
            assert len(theirs) - len(flat) < 2 + 1


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("repeats", [2, 3, 4])
def test_ranks_together_draw_the_repeating_sequence_of_a_single_process(
    ranks: int, repeats: int
) -> None:
    for count in range(ranks, 30):
        parts = [
            drawn(BatchSampler(count, 2, seed=3, rank=rank, ranks=ranks, repeats=repeats))
            for rank in range(ranks)
        ]
        steps = [sorted(chain(*step)) for step in zip(*parts, strict=True)]
        alone = drawn(BatchSampler(count, 2 * ranks, seed=3, repeats=repeats))
        assert steps == [sorted(step) for step in alone]
        assert all(batch for part in parts for batch in part)


@pytest.mark.parametrize("repeats", [3, 4])
def test_an_epoch_with_repeats_is_as_long_as_without_and_sees_a_fraction_of_the_images(
    repeats: int,
) -> None:
    sampler = BatchSampler(1000, 10, seed=3, repeats=repeats)
    samples = list(chain(*drawn(sampler)))
    assert len(sampler) == len(BatchSampler(1000, 10, seed=3)) == 100
    assert len(samples) == len(set(samples)) == 1000
    seen = permutation(1000, 3, 0)[: -(-1000 // repeats)].tolist()
    assert {index for index, _ in samples} == set(seen)
    assert samples[:repeats] == [(seen[0], number) for number in range(repeats)]
    sampler.set_epoch(1)
    assert {index for index, _ in chain(*drawn(sampler))} != set(seen)


def test_every_repeat_has_a_key_of_its_own_and_the_first_the_usual_one() -> None:
    selections = list(BatchSampler(60, 20, seed=3, repeats=3))
    keys = torch.cat([selection.keys(5) for selection in selections])
    assert len(keys.unique()) == 60
    for selection in selections:
        assert selection.repeats is not None
        first = selection.repeats == 0
        usual = sample_keys(5, 0, selection.indices)
        assert torch.equal(selection.keys(5)[first], usual[first])
        assert (selection.keys(5) != usual)[~first].all()


@pytest.mark.parametrize("ranks", RANKS)
def test_a_resumed_pass_with_repeats_goes_on_where_it_was(ranks: int) -> None:
    for rank in range(ranks):
        fresh = BatchSampler(50, 4, seed=3, rank=rank, ranks=ranks, repeats=3)
        fresh.set_epoch(2)
        whole = drawn(fresh)
        for done in range(len(whole) + 1):
            resumed = BatchSampler(50, 4, seed=3, rank=rank, ranks=ranks, repeats=3)
            resumed.resume_at(2, done)
            resumed.set_epoch(2)
            assert drawn(resumed) == whole[done:]


@pytest.mark.parametrize("ranks", RANKS)
def test_a_full_batch_with_repeats_is_the_largest_that_comes(ranks: int) -> None:
    for count in range(ranks, 18):
        for rank in range(ranks):
            sampler = BatchSampler(count, 4, seed=0, rank=rank, ranks=ranks, repeats=3)
            assert sampler.full_batch == max(map(len, passed(sampler)))


def test_a_selection_with_repeats_reaches_a_worker_whole() -> None:
    selection = next(iter(BatchSampler(60, 20, seed=3, repeats=3)))
    sent = pickle.loads(pickle.dumps(selection))
    assert torch.equal(sent.keys(5), selection.keys(5))
    assert pickle.loads(pickle.dumps(Selection(2, torch.arange(3)))).repeats is None


def test_a_loader_hands_the_selections_on_in_order() -> None:
    class Echo(torch.utils.data.Dataset[Selection]):
        def __getitem__(self, selection: Selection) -> Selection:
            return selection

    sampler = BatchSampler(10, 4, seed=1)
    loader = DataLoader(Echo(), sampler=sampler, batch_size=None, collate_fn=lambda x: x)
    assert len(loader) == 2
    assert [selection.indices.tolist() for selection in loader] == passed(sampler)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"batch_size": 0, "seed": 0}, "data.batch_size: 0 is not at least 1"),
        ({"batch_size": -1, "seed": None}, "data.batch_size: -1"),
        ({"batch_size": 1, "seed": 0, "rank": 1}, "rank 1 of 1"),
        ({"batch_size": 1, "seed": 0, "ranks": 3}, "2 images for 3 processes; each needs one"),
        ({"batch_size": 1, "seed": 0, "repeats": 0}, "data.repeats: 0 is not at least 1"),
        ({"batch_size": 1, "seed": None, "repeats": 3}, "data.repeats: 3 .*and 1 in evaluation"),
    ],
)
def test_what_makes_no_batches_is_refused_in_one_line(
    arguments: dict[str, int], reason: str
) -> None:
    with pytest.raises(InvalidSetting, match=reason) as error:
        BatchSampler(2, **arguments)
    assert "\n" not in str(error.value)


def test_training_on_nothing_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="the training split has 0 images"):
        BatchSampler(0, 4, seed=0)
