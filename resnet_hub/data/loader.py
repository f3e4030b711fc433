"""The loader of batches: its place can be saved, errors of workers are plain, skips are counted.

Imports no Lightning: workers that are started afresh import this module.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from multiprocessing.process import BaseProcess
from time import perf_counter
from typing import Any, cast

from torch.utils.data import DataLoader

from resnet_hub.data.batches import Batch, BatchedDataset, BatchSampler
from resnet_hub.data.workers import WorkersIterator, end, prepare, workers_named
from resnet_hub.errors import BadData, ResNetHubError, WorkerLost

_log = logging.getLogger("resnet_hub")


class BatchLoader(DataLoader[Batch]):
    """Torch's loader, for a data set and a sampler of whole batches.

    An error of this package keeps its one line when a worker raised it: torch makes the worker's
    whole traceback the message; here it is the cause. Images that were skipped are counted over
    each pass and reported once, as the pass ends, to the logger ``resnet_hub``.

    Attributes:
        order: The sampler.
        name: As given.
        waited: Seconds that batches were waited for, over all passes; without workers, what reading
            them took.

    Args:
        dataset: Reads whole batches.
        sampler: Chooses the samples of each batch.
        workers: Processes that read; 0 reads in this one. They live on between passes.
        timeout: Seconds to wait for a worker's batch before it is given up.
        name: What messages call the data set.
    """

    def __init__(
        self,
        dataset: BatchedDataset,
        sampler: BatchSampler,
        *,
        workers: int = 0,
        timeout: float = 300,
        name: str = "the data set",
    ) -> None:
        super().__init__(
            cast(Any, dataset),
            sampler=cast(Any, sampler),
            batch_size=None,  # the sampler's selections are whole batches: nothing is collated
            num_workers=workers,
            collate_fn=cast(Any, _as_it_is),
            persistent_workers=workers > 0,
            worker_init_fn=prepare,
            timeout=timeout if workers else 0,
        )
        self.order, self.name = sampler, name
        self._yielded = 0
        self.waited = 0.0

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # torch names its own class
        """Yield the batches of one pass: whole, or what is left after :meth:`load_state_dict`.

        Raises:
            BadData: Not one image of the pass could be read; of several ranks another may have one.
            WorkerLost: A worker was killed, or hangs.
        """
        self._yielded, seen, skipped = self.order.begin, 0, 0
        try:
            with self._workers_named():  # they begin, or go on to the next pass
                batches = super().__iter__()
            for batch in self._timed(batches):
                self._yielded += 1
                seen += len(batch.labels)
                skipped += batch.skipped
                if skipped and not seen and self._yielded == len(self) and self.order.ranks == 1:
                    raise BadData(f"none of the {skipped:,} images of a split can be read")
                yield batch
        except WorkerLost:
            end(self._workers)
            raise
        except ResNetHubError as error:
            if not self.num_workers:
                raise
            # Torch raises a worker's error out of a frame that refers back to it. Without the
            # traceback this is no cycle, which would hold the workers until they are killed.
            raise type(error)(_last_line(error)) from error.with_traceback(None)
        finally:
            # Lightning never asks for the batch after the last: the pass ends as it lets go of it.
            if skipped:
                _log.warning(
                    "%s that could not be read left out of this pass (data.on_bad_image: skip)",
                    "1 image" if skipped == 1 else f"{skipped:,} images",
                )

    @property
    def _workers(self) -> list[BaseProcess]:
        iterator = cast(Any, self)._iterator  # none before the first pass
        return iterator._workers if iterator else []

    def _get_iterator(self) -> Any:
        if not self.num_workers:
            return super()._get_iterator()
        cast(Any, self).check_worker_number_rationality()
        return WorkersIterator(self)

    def _workers_named(self) -> AbstractContextManager[None]:
        return workers_named(self.name, self.timeout, reading=self.num_workers > 0)

    def _timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        while True:
            began = perf_counter()
            with self._workers_named():
                batch = next(batches, None)
            self.waited += perf_counter() - began
            if batch is None:
                return
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return the place in the data: the epoch, and the batches of it that were yielded."""
        if self._yielded >= len(self):
            return {"epoch": self.order.epoch + 1, "batches": 0}
        return {"epoch": self.order.epoch, "batches": self._yielded}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Begin the next pass at a place that :meth:`state_dict` returned."""
        self.order.resume_at(state["epoch"], state["batches"])
        self._yielded = state["batches"]


def _as_it_is(batch: Batch) -> Batch:
    return batch


def _last_line(error: ResNetHubError) -> str:
    kind = type(error)
    return str(error.args[0]).rpartition(f"{kind.__module__}.{kind.__qualname__}: ")[2].strip()
