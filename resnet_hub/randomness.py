"""Keyed randomness: what is random depends on named numbers, never on a global stream.

Workers, ranks and restarts therefore change nothing. Per-sample draws come from a vectorised
64-bit counter hash (the finaliser of SplitMix64; Steele et al. 2014), which gives equal values on
CPU and GPU because it is integer arithmetic alone.
"""

import hashlib
import math
import operator
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_FACTORS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


def key_of(*parts: int | str) -> int:
    """Return a 63-bit key for these parts, the same on every machine and in every process."""
    # Plain ints and strings: NumPy's and torch's print differently, and would give other keys.
    plain = tuple(str(x) if isinstance(x, str) else operator.index(x) for x in parts)
    digest = hashlib.blake2b(repr(plain).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def permutation(count: int, *parts: int | str) -> Tensor:
    """Return a shuffled ``arange(count)``, int64 ``(count,)``, that depends on ``parts`` alone.

    Sorted by hash rather than drawn by ``torch.randperm``, whose order is torch's to change and
    whose generator keeps 32 bits of a seed.
    """
    return _mix(torch.arange(count) + _signed(key_of("order", *parts))).argsort(stable=True)


def permutations(rows: Tensor, count: int, *parts: int | str) -> Tensor:
    """Return a shuffled ``arange(count)`` a row, int64 ``(N, count)``.

    Args:
        rows: int64 ``(N,)``, at least 0: each row depends on its number here, and on ``parts``.
        count: Length of a row; a number of a row times it is below 2⁶³.
        *parts: Name the rows' whole.
    """
    named = rows[:, None] * count + torch.arange(count)
    return _mix(named + _signed(key_of("orders", *parts))).argsort(dim=1, stable=True)


def sample_keys(seed: int, epoch: int, indices: Tensor, repeats: Tensor | None = None) -> Tensor:
    """Return one key a sample, int64 ``(N,)``, from (seed, epoch, sample index, repeat).

    Args:
        seed: Of the run.
        epoch: In which the samples are drawn.
        indices: int64 ``(N,)``, below 2⁴⁰.
        repeats: int64 ``(N,)``, which of a sample's repeats in the epoch each is; ``None``: the
            first, number 0.
    """
    named = indices if repeats is None else indices + (repeats << 40)
    return _mix(named + _signed(key_of("sample", seed, epoch)))


def uniform(keys: Tensor, stream: int) -> Tensor:
    """Return float32 in [0, 1) of the shape of ``keys``; each ``stream`` is an independent draw."""
    return _shift(_draw(keys, stream), 40).to(torch.float32) / 2**24


def uniforms(keys: Tensor, stream: int, count: int) -> Tensor:
    """Return float32 in [0, 1), ``(*keys.shape, count)``; all of them are one ``stream``'s draw."""
    hashes = _series(keys, stream, -(-count // 2))  # the upper 24 bits of a hash, and the lower
    pairs = torch.stack((_shift(hashes, 40), hashes & 0xFFFFFF), dim=-1)
    return (pairs.to(torch.float32) / 2**24).flatten(-2)[..., :count]


def integers(keys: Tensor, stream: int, bound: int | Tensor) -> Tensor:
    """Return int64 in [0, ``bound``) of the shape of ``keys``, for bounds far below 2³¹.

    A ``stream`` is one draw: use another for another :func:`uniform` or :func:`integers`. A tensor
    of bounds, int64, has one for each key.
    """
    return _shift(_draw(keys, stream), 33) % bound


def normals(keys: Tensor, stream: int, count: int) -> Tensor:
    """Return standard normal float32 ``(*keys.shape, count)`` (Box and Muller 1958).

    All of them are one draw, of one ``stream``. CPU and GPU agree to the rounding of a logarithm
    and a cosine.
    """
    hashes = _series(keys, stream, -(-count // 2))
    radius = ((_shift(hashes, 40) + 1).to(torch.float32) / 2**24).log_().mul_(-2).sqrt_()
    angle = (hashes & 0xFFFFFF).to(torch.float32).mul_(2 * math.pi / 2**24)
    pairs = torch.stack((radius * angle.cos(), radius * angle.sin()), dim=-1)
    return pairs.flatten(-2)[..., :count]


@contextmanager
def keyed_generator(key: int) -> Iterator[None]:
    """Seed torch's default CPU generator inside the block, and restore its state after."""
    state = torch.default_generator.get_state()
    torch.default_generator.manual_seed(key)
    try:
        yield
    finally:
        torch.default_generator.set_state(state)


def seed_generators(key: int, device: torch.device) -> None:
    """Seed torch's default generators of the CPU and of a GPU."""
    torch.default_generator.manual_seed(key)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(key)


def _draw(keys: Tensor, stream: int) -> Tensor:
    return _mix(keys + _signed((stream + 1) * 0x9E3779B97F4A7C15))


def _series(keys: Tensor, stream: int, count: int) -> Tensor:
    places = torch.arange(count, device=keys.device)
    return _mix(_draw(keys, stream).unsqueeze(-1) + places * _signed(0x9E3779B97F4A7C15))


def _mix(x: Tensor) -> Tensor:
    if type(x) is Tensor and x.is_cpu and x.dim() and not torch.compiler.is_compiling():
        return torch.from_numpy(_mix_array(x.numpy().view(np.uint64)).view(np.int64))
    x = (x ^ _shift(x, 30)) * _signed(_FACTORS[0])
    x = (x ^ _shift(x, 27)) * _signed(_FACTORS[1])
    return x ^ _shift(x, 31)


def _mix_array(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the same bits: of a batch's few numbers, NumPy's operations take a third of the time.

    Its unsigned integers are shifted logically as they are.
    """
    x = (x ^ (x >> np.uint64(30))) * np.uint64(_FACTORS[0])
    x = (x ^ (x >> np.uint64(27))) * np.uint64(_FACTORS[1])
    mixed: NDArray[np.uint64] = x ^ (x >> np.uint64(31))
    return mixed


def _shift(x: Tensor, bits: int) -> Tensor:
    # int64's >> copies the sign bit; masking it away makes the shift logical.
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _signed(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >= 1 << 63 else value
