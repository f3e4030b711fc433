"""Keyed randomness: known answers, and the statistics that training relies on."""

import math

import numpy as np
import pytest
import torch

from resnet_hub.randomness import (
    integers,
    key_of,
    keyed_generator,
    normals,
    permutation,
    permutations,
    sample_keys,
    uniform,
    uniforms,
)

WORD = (1 << 64) - 1
# First outputs of SplitMix64 from the state 1234567, as published test vectors have them.
PUBLISHED = [
    6457827717110365317,
    3203168211198807973,
    9817491932198370423,
    4593380528125082431,
    16408922859458223821,
]


def mixed(x: int) -> int:
    """Return the finaliser of SplitMix64, written down from its definition."""
    x &= WORD
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & WORD
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & WORD
    return x ^ (x >> 31)


def drawn(key: int, stream: int) -> int:
    return mixed(key + (stream + 1) * 0x9E3779B97F4A7C15)


@pytest.mark.parametrize("stream", range(5))
def test_draws_are_those_of_splitmix64(stream: int) -> None:
    assert drawn(1234567, stream) == PUBLISHED[stream]
    key = torch.tensor([1234567])
    assert uniform(key, stream).item() == (PUBLISHED[stream] >> 40) / 2**24
    assert integers(key, stream, 1000).item() == (PUBLISHED[stream] >> 33) % 1000


def test_keys_and_draws_equal_unbounded_integers_at_every_sign_and_edge() -> None:
    indices = [0, 1, 2, 49_999, 2**31, 2**62, 2**63 - 1]
    for seed, epoch in [(0, 0), (1, 0), (0, 1), (2**40, 599), (-1, 3)]:
        keys = sample_keys(seed, epoch, torch.tensor(indices))
        expected = [mixed(index + key_of("sample", seed, epoch)) for index in indices]
        assert [key & WORD for key in keys.tolist()] == expected
        for stream in (0, 1, 7, 1 << 20):
            draws = [drawn(key, stream) for key in expected]
            assert uniform(keys, stream).tolist() == [(draw >> 40) / 2**24 for draw in draws]
            assert integers(keys, stream, 9).tolist() == [(draw >> 33) % 9 for draw in draws]


def test_a_key_is_the_same_on_every_machine_and_for_every_kind_of_integer() -> None:
    assert key_of("sample", 0, 0) == 4667277444736951684
    assert key_of("order", np.int64(3), torch.tensor(4)) == key_of("order", 3, 4)
    assert key_of(np.str_("order")) == key_of("order")
    assert 0 <= key_of("x", 10**30) < 2**63


def test_a_key_tells_its_parts_apart() -> None:
    keys = {key_of(), key_of(1), key_of("1"), key_of(1, 1), key_of(11), key_of("1", 1), key_of(-1)}
    assert len(keys) == 7
    with pytest.raises(TypeError):
        key_of(1.5)  # type: ignore[arg-type]


def test_a_sample_draws_the_same_in_any_batch() -> None:
    whole = sample_keys(5, 2, torch.arange(100))
    part = torch.tensor([99, 3, 57])
    assert torch.equal(sample_keys(5, 2, part), whole[part])
    assert torch.equal(uniform(whole[part], 1), uniform(whole, 1)[part])


def test_torchs_operations_draw_what_numpys_do() -> None:
    # A key alone, without a batch's dimension, is mixed by torch, as keys on a GPU are.
    keys = sample_keys(5, 2, torch.cat([torch.arange(50), torch.tensor([2**62, 2**63 - 1])]))
    for stream in (0, 1, 40):
        alone = torch.stack([uniform(key, stream) for key in keys])
        assert torch.equal(alone, uniform(keys, stream))


def test_uniform_draws_are_uniform() -> None:
    keys = sample_keys(0, 0, torch.arange(1 << 18))
    for stream in (0, 1, 40):
        draws = uniform(keys, stream).double()
        assert draws.dtype is torch.float64
        assert draws.min() >= 0
        assert draws.max() < 1
        # Five standard errors of mean and variance of 2¹⁸ uniform draws.
        assert abs(draws.mean() - 1 / 2) < 5 * math.sqrt(1 / 12 / 2**18)
        assert abs(draws.var() - 1 / 12) < 5 * math.sqrt(1 / 180 / 2**18)
        assert chi_square((draws * 64).long(), 64) < 140  # 63 degrees: 1 in 10⁶ is above


@pytest.mark.parametrize("count", [1, 2, 7])
def test_many_uniform_draws_of_a_key_are_uniform_and_independent(count: int) -> None:
    draws = uniforms(sample_keys(0, 0, torch.arange(50_000)), 1, count)
    assert draws.shape == (50_000, count)
    assert draws.dtype is torch.float32
    assert 0 <= float(draws.min()) < float(draws.max()) < 1
    for column in draws.T:
        assert chi_square((column * 64).long(), 64) < 140
    correlation = draws.T.corrcoef().reshape(count, count)
    assert (correlation - torch.eye(count)).abs().max() < 5 / math.sqrt(50_000)


def test_many_uniform_draws_are_the_same_in_any_batch_and_stream_by_stream() -> None:
    keys = sample_keys(0, 0, torch.arange(100))
    whole = uniforms(keys, 3, 5)
    part = torch.tensor([99, 7])
    assert torch.equal(uniforms(keys[part], 3, 5), whole[part])
    assert torch.equal(uniforms(keys, 3, 8)[:, :5], whole)
    assert (uniforms(keys, 4, 5) != whole).all()
    assert uniforms(keys[:0], 3, 5).shape == (0, 5)


@pytest.mark.parametrize("bound", [1, 2, 3, 9, 17])
def test_integers_take_every_value_below_the_bound_equally_often(bound: int) -> None:
    draws = integers(sample_keys(1, 4, torch.arange(90_000)), 1, bound)
    assert draws.dtype is torch.int64
    assert chi_square(draws, bound) < bound + 5 * math.sqrt(2 * bound)


def test_every_integer_has_its_own_bound() -> None:
    keys = sample_keys(1, 4, torch.arange(30_000))
    bounds = torch.tensor([1, 2, 17]).repeat(10_000)
    draws = integers(keys, 1, bounds)
    for n, bound in enumerate((1, 2, 17)):
        assert torch.equal(draws[n::3], integers(keys[n::3], 1, bound))


@pytest.mark.parametrize("count", [1, 2, 7])
def test_normals_are_normal_and_independent(count: int) -> None:
    keys = sample_keys(0, 0, torch.arange(50_000))
    draws = normals(keys, 3, count)
    assert draws.shape == (50_000, count)
    assert draws.dtype is torch.float32
    assert draws.isfinite().all()
    numbers = draws.double()
    assert numbers.mean(0).abs().max() < 5 / math.sqrt(50_000)
    covariance = numbers.T.cov().reshape(count, count)
    assert (covariance - torch.eye(count)).abs().max() < 5 * math.sqrt(2 / 50_000)
    places = (torch.erf(numbers / math.sqrt(2)) + 1) / 2  # of a normal number: uniform
    for column in places.T:
        assert chi_square((column * 64).long().clamp(0, 63), 64) < 140


def test_normals_of_a_sample_are_the_same_in_any_batch_and_stream_by_stream() -> None:
    keys = sample_keys(0, 0, torch.arange(100))
    whole = normals(keys, 3, 5)
    part = torch.tensor([99, 7])
    assert torch.equal(normals(keys[part], 3, 5), whole[part])
    assert torch.equal(normals(keys, 3, 8)[:, :4], whole[:, :4])
    assert (normals(keys, 4, 5) != whole).all()
    assert normals(keys[:0], 3, 5).shape == (0, 5)
    assert normals(keys.view(10, 10), 3, 5).equal(whole.view(10, 10, 5))


def test_a_repeat_has_a_key_of_its_own() -> None:
    indices = torch.arange(1000)
    keys = [sample_keys(3, 1, indices, torch.full_like(indices, n)) for n in range(4)]
    assert torch.equal(keys[0], sample_keys(3, 1, indices))
    assert len(torch.cat(keys).unique()) == 4000
    pairs = torch.stack([uniform(k, 0) for k in keys])
    assert (torch.corrcoef(pairs) - torch.eye(4)).abs().max() < 5 / math.sqrt(1000)


def test_streams_epochs_seeds_and_neighbours_are_independent() -> None:
    indices = torch.arange(1 << 16)
    keys = sample_keys(0, 0, indices)
    base = uniform(keys, 0)
    others = {
        "stream": uniform(keys, 1),
        "epoch": uniform(sample_keys(0, 1, indices), 0),
        "seed": uniform(sample_keys(1, 0, indices), 0),
        "neighbour": base.roll(1),
    }
    for name, other in others.items():
        correlation = torch.corrcoef(torch.stack((base, other)))[0, 1]
        assert abs(correlation) < 5 / math.sqrt(len(indices)), name
        pairs = (base * 16).long() * 16 + (other * 16).long()
        assert chi_square(pairs, 256) < 255 + 5 * math.sqrt(2 * 255), name


def test_a_crop_and_a_flip_of_one_sample_are_independent() -> None:
    keys = sample_keys(3, 0, torch.arange(81 * 1000))
    cells = (integers(keys, 0, 9) * 9 + integers(keys, 1, 9)) * 2 + integers(keys, 2, 2)
    assert chi_square(cells, 162) < 161 + 5 * math.sqrt(2 * 161)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 17, 1000])
def test_a_permutation_holds_every_number_once(count: int) -> None:
    order = permutation(count, 7, 3)
    assert order.dtype is torch.int64
    assert torch.equal(order.sort().values, torch.arange(count))


def test_a_permutation_depends_on_its_parts_alone() -> None:
    first = permutation(100, 7, 3)
    torch.manual_seed(1)
    assert torch.equal(permutation(100, 7, 3), first)
    for parts in [(7, 4), (8, 3), (7, "3"), (7,), (7 + 2**32, 3)]:
        assert not torch.equal(permutation(100, *parts), first), parts


def test_each_row_of_permutations_depends_on_its_number_and_the_parts_alone() -> None:
    rows = permutations(torch.arange(40), 30, 7)
    assert torch.equal(rows.sort().values, torch.arange(30).expand(40, 30))
    assert torch.equal(permutations(torch.tensor([39, 5]), 30, 7), rows[[39, 5]])
    assert len(rows.unique(dim=0)) == 40
    assert not (permutations(torch.arange(40), 30, 8) == rows).all(1).any()


def test_permutations_are_the_same_with_every_release() -> None:
    assert permutations(torch.tensor([0, 3]), 5, 0).tolist() == [[1, 0, 2, 4, 3], [1, 3, 0, 2, 4]]


def test_a_permutation_is_the_same_with_every_release() -> None:
    assert permutation(10, 0, 0).tolist() == [1, 2, 9, 0, 7, 8, 4, 5, 6, 3]


def test_every_order_of_four_is_as_likely() -> None:
    weights = torch.tensor([64, 16, 4, 1])
    orders = torch.stack([permutation(4, 0, epoch) for epoch in range(4800)]) @ weights
    counts = orders.unique(return_counts=True)[1]
    assert len(counts) == 24
    assert ((counts - 200.0) ** 2 / 200).sum() < 23 + 5 * math.sqrt(2 * 23)


def test_a_keyed_generator_gives_equal_draws_and_leaves_the_stream_as_it_was() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    with keyed_generator(5):
        first = torch.rand(4)
        with keyed_generator(6):
            torch.rand(1)
        rest = torch.rand(4)
    assert torch.equal(torch.rand(3), expected)
    with keyed_generator(5):
        assert torch.equal(torch.rand(8), torch.cat((first, rest)))


def test_a_keyed_generator_restores_the_stream_after_an_error() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    with pytest.raises(ZeroDivisionError), keyed_generator(5):
        _ = torch.rand(1) / (1 // 0)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.gpu
def test_a_gpu_draws_what_the_cpu_draws() -> None:
    indices = torch.arange(100_000)
    keys, on_gpu = sample_keys(3, 1, indices), sample_keys(3, 1, indices.cuda())
    assert torch.equal(on_gpu.cpu(), keys)
    assert torch.equal(uniform(on_gpu, 2).cpu(), uniform(keys, 2))
    assert torch.equal(integers(on_gpu, 2, 9).cpu(), integers(keys, 2, 9))
    ours, theirs = normals(on_gpu, 2, 3).cpu(), normals(keys, 2, 3)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def chi_square(values: torch.Tensor, cells: int) -> float:
    counts = values.bincount(minlength=cells).double()
    assert len(counts) == cells
    expected = len(values) / cells
    return float(((counts - expected) ** 2 / expected).sum())
