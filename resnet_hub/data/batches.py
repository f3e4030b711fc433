"""Which samples make which batch, and what a batch is."""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from torch import Tensor, arange, device, from_numpy
from torch.utils.data import Sampler

from resnet_hub.errors import InvalidSetting
from resnet_hub.preprocess import Preprocess
from resnet_hub.randomness import permutation, sample_keys


class Batch(NamedTuple):
    """What a loader yields and a net is trained on.

    Attributes:
        images: uint8 ``(N, C, H, W)`` from the loader; after the transfer to the device, float32,
            augmented and normalised.
        labels: int64 ``(N,)``.
        indices: int64 ``(N,)``, each sample's number in its split.
        keys: int64 ``(N,)``, each sample's key for random draws: (seed, epoch, index, repeat)
            hashed.
        skipped: Samples of this batch that could not be read and are left out.
        pixels: In evaluation, after the transfer: the uint8 ``(N, C, size, size)`` that ``images``
            are the normalised form of.
        epoch: In which they were selected.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    keys: Tensor
    skipped: int = 0
    pixels: Tensor | None = None
    epoch: int = 0

    def moved(self, place: device) -> "Batch":
        """Return the batch as the loader yields it, on a device."""
        # Not called to(): Lightning would then call it, and it moves pixels too.
        names = ("images", "labels", "indices", "keys")
        return self._replace(**{name: getattr(self, name).to(place) for name in names})


class Selection(NamedTuple):
    """The samples of one batch: the epoch travels along, so that workers need no state.

    Attributes:
        epoch: Key of the samples' draws.
        indices: int64 ``(N,)``.
        repeats: int64 ``(N,)``, which of a sample's repeats each is; ``None``: nothing is repeated.
    """

    epoch: int
    indices: Tensor
    repeats: Tensor | None = None

    def keys(self, seed: int) -> Tensor:
        """Return each sample's key for random draws, int64 ``(N,)``."""
        return sample_keys(seed, self.epoch, self.indices, self.repeats)

    def __reduce__(self) -> tuple[Any, ...]:
        # Bytes, not shared memory: a worker that dies breaks no connection of who serves it.
        repeats = None if self.repeats is None else self.repeats.numpy()
        return _selection, (self.epoch, self.indices.numpy(), repeats)


def _selection(epoch: int, indices: Any, repeats: Any) -> Selection:
    return Selection(epoch, from_numpy(indices), None if repeats is None else from_numpy(repeats))


class BatchedDataset(Protocol):
    """A data set that is read a whole batch at a time."""

    def __len__(self) -> int: ...

    def __getitem__(self, selection: Selection) -> Batch: ...

    @property
    def targets(self) -> Tensor:
        """The samples' labels in order, int64 ``(N,)``."""
        ...

    def fingerprint(self) -> str:
        """Return a hex SHA-256: other samples, labels or another order have another one."""
        ...

    def stamp(self) -> str:
        """Return a hex SHA-256 that other pixels have another of too, read in evaluation."""
        ...

    def as_evaluated(self, preprocess: Preprocess) -> "BatchedDataset":
        """Return the same samples as evaluation reads them: nothing is random, none stands in."""
        ...


class BatchSampler(Sampler[Selection]):
    """Order the samples by (seed, epoch) and cut them into batches.

    In training, one global sequence is cut into steps of ``ranks × batch_size`` samples, each
    rank taking its part; the incomplete last step is left out (unless it is the only one). In
    evaluation every sample is seen exactly once: rank r takes samples r, r + ranks, ...; nothing
    is repeated to even out the ranks. A rank that gets none has one batch of no samples, because
    Lightning would leave it out of the phase, and of the reduction of the scores with it.

    With repeats (1901.09335, as DeiT's ``RASampler`` has them, which torchvision and timm took
    over) the sequence holds each image that often in a row, and ends after ``count`` samples: an
    epoch is as long as without, and sees every ``repeats``-th image of the shuffled split. Rank r
    takes samples r, r + ranks, ... of a step, so that an image's repeats go to different ranks.

    Args:
        count: Samples in the split.
        batch_size: Samples a batch, on one rank.
        seed: Key of the order; ``None`` keeps the samples in order (evaluation).
        rank: Which of the ranks this process is.
        ranks: Number of processes that share the samples.
        repeats: How often an epoch's images come in it, each time with draws of its own.

    Raises:
        InvalidSetting: No batch can be made, fewer training samples than ranks, or repeats in
            evaluation.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        *,
        seed: int | None,
        rank: int = 0,
        ranks: int = 1,
        repeats: int = 1,
    ) -> None:
        if batch_size < 1:
            raise InvalidSetting(f"data.batch_size: {batch_size} is not at least 1")
        if not 0 <= rank < ranks:
            raise InvalidSetting(f"rank {rank} of {ranks}: ranks count from 0")
        if seed is not None and count < ranks:
            raise InvalidSetting(
                f"the training split has {count} images for {ranks} processes; each needs one"
            )
        if repeats < 1 or (repeats > 1 and seed is None):
            raise InvalidSetting(f"data.repeats: {repeats} is not at least 1, and 1 in evaluation")
        self.count, self.batch_size, self.seed, self.repeats = count, batch_size, seed, repeats
        self.rank, self.ranks = rank, ranks
        self.epoch = 0
        self.begin = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next; Lightning calls this.

        A place in another epoch is forgotten: nothing was left to train on there.
        """
        if epoch != self.epoch:
            self.epoch, self.begin = epoch, 0

    def resume_at(self, epoch: int, batches: int) -> None:
        """Begin the next pass at this epoch, ``batches`` batches in; later passes are whole."""
        self.epoch, self.begin = epoch, batches

    @property
    def full_batch(self) -> int:
        """Samples of this rank's largest batch: ``batch_size``, or all that fall to the rank."""
        return min(self.batch_size, self._share)

    @property
    def _share(self) -> int:
        return len(range(self.rank, self.count, self.ranks))

    def __len__(self) -> int:
        """Return the batches of a whole pass."""
        if self.seed is None:
            return max(1, -(-self._share // self.batch_size))
        return max(1, self.count // (self.batch_size * self.ranks))

    def __iter__(self) -> Iterator[Selection]:
        """Yield one pass: whole, or what is left of it after :meth:`resume_at`."""
        epoch, (begin, self.begin) = self.epoch, (self.begin, 0)
        if self.seed is None:
            order, stride = arange(self.count)[self.rank :: self.ranks], self.batch_size
        else:
            order, stride = permutation(self.count, self.seed, epoch), self.batch_size * self.ranks
        for number in range(begin, len(self)):
            if self.repeats > 1:
                yield self._repeated(epoch, order, number * stride, stride)
                continue
            step = order[number * stride : (number + 1) * stride]
            if self.seed is not None and self.ranks > 1:
                step = step.tensor_split(self.ranks)[self.rank]
            yield Selection(epoch, step)

    def _repeated(self, epoch: int, order: Tensor, start: int, stride: int) -> Selection:
        """Return this rank's part of the step that begins at a place of the repeating sequence."""
        places = arange(start, min(start + stride, self.count))[self.rank :: self.ranks]
        return Selection(epoch, order[places // self.repeats], places % self.repeats)
