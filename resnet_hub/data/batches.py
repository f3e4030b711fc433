"""Which samples make which batch, and what a batch is."""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from torch import Tensor, arange, device, from_numpy
from torch.utils.data import Sampler

from resnet_hub.data.balance import balanced
from resnet_hub.data.shard_order import shard_order
from resnet_hub.errors import BadData, InvalidSetting
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

    def moved(self, place: device, *, non_blocking: bool = False) -> "Batch":
        """Return the batch as the loader yields it, on a device; if asked, without waiting."""
        names = ("images", "labels", "indices", "keys")
        moved = {n: getattr(self, n).to(place, non_blocking=non_blocking) for n in names}
        return self._replace(**moved)


class Selection(NamedTuple):
    """The samples of a batch, or of an epoch; it travels along, so that workers need no state.

    Attributes:
        epoch: Key of the samples' draws.
        indices: int64 ``(N,)``.
        repeats: int64 ``(N,)``, which of a sample's repeats each is; ``None``: nothing is repeated.
            No two of one sample are equal.
    """

    epoch: int
    indices: Tensor
    repeats: Tensor | None = None

    def keys(self, seed: int) -> Tensor:
        """Return each sample's key for random draws, int64 ``(N,)``."""
        return sample_keys(seed, self.epoch, self.indices, self.repeats)

    def at(self, places: slice) -> "Selection":
        """Return the samples at some places of this one."""
        repeats = None if self.repeats is None else self.repeats[places]
        return Selection(self.epoch, self.indices[places], repeats)

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

    def as_resized(self, preprocess: Preprocess) -> "BatchedDataset":
        """Return the same, but not cropped: a batch holds images of one shape."""
        ...

    @property
    def uniform(self) -> bool:
        """Whether all images have one shape; else a batch holds a single one."""
        ...


def check_labels(dataset: BatchedDataset, classes: int, where: str) -> None:
    """Check that each sample is of one of so many classes.

    Raises:
        BadData: One is not; the message begins with ``where``.
    """
    labels = dataset.targets
    wrong = (labels < 0) | (labels >= classes)
    if wrong.any():  # −100 would silently be left out of torch's loss
        sample = int(wrong.nonzero()[0])
        raise BadData(
            f"{where}: sample {sample} has label {int(labels[sample])}, which is not 0 to "
            f"{classes - 1}; {int(wrong.sum()):,} of {len(labels):,} are like it"
        )


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

    With labels the sequence holds each class equally often; see :func:`~.balance.balanced`. An
    epoch is as long as without.

    Args:
        count: Samples in the split.
        batch_size: Samples a batch, on one rank.
        seed: Key of the order; ``None`` keeps the samples in order (evaluation).
        rank: Which of the ranks this process is.
        ranks: Number of processes that share the samples.
        repeats: How often an epoch's images come in it, each time with draws of its own.
        labels: int64 ``(count,)``, by which the classes are balanced; ``None``: each sample once.
        shards: int64 ``(count,)``, where each sample lies, so that an epoch goes through shards one
            after the other; see :func:`~.shard_order.shard_order`. ``None``: all are mixed.
        window: Of these, how many are mixed.

    Raises:
        InvalidSetting: No batch can be made, fewer training samples than ranks, repeats or balance
            in evaluation, or both, or balance with a window.
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
        labels: Tensor | None = None,
        shards: Tensor | None = None,
        window: int = 1,
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
        if labels is not None and (seed is None or repeats > 1):
            raise InvalidSetting("data.sampling: balanced is for training, with data.repeats: 1")
        if shards is not None and (window < 1 or labels is not None):
            raise InvalidSetting(
                "data.shuffle_shards: is at least 1, and goes with data.sampling: shuffled alone"
            )
        self.shards, self.window = shards, window
        self.count, self.batch_size, self.seed, self.repeats = count, batch_size, seed, repeats
        self.rank, self.ranks, self.labels = rank, ranks, labels
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
        together = self.sequence(epoch)
        for number in range(begin, len(self)):
            yield together.at(self._own(number))

    def sequence(self, epoch: int) -> Selection:
        """Return the samples of an epoch in the order in which all ranks together take them."""
        if self.seed is None:
            return Selection(epoch, arange(self.count))
        if self.labels is not None:
            return Selection(epoch, *balanced(self.labels, self.seed, epoch))
        if self.shards is None:
            order = permutation(self.count, self.seed, epoch)
        else:
            order = shard_order(self.shards, self.window, self.seed, epoch)
        if self.repeats == 1:
            return Selection(epoch, order)
        places = arange(self.count)
        return Selection(epoch, order[places // self.repeats], places % self.repeats)

    def _own(self, number: int) -> slice:
        """Return this rank's places of a step in the sequence."""
        stride = self.batch_size * self.ranks
        first, end = number * stride, min((number + 1) * stride, self.count)
        if self.seed is None or self.repeats > 1:
            return slice(first + self.rank, end, self.ranks)
        # As torch's tensor_split: the first ranks take what is left over.
        size, left = divmod(end - first, self.ranks)
        begin = first + self.rank * size + min(self.rank, left)
        return slice(begin, begin + size + (self.rank < left))
