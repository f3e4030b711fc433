"""The processes that read a loader's data: what they heed, and what it means when one is lost.

Imports no Lightning: workers that are started afresh import this module.
"""

import os
import signal
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import active_children
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from threading import Event, Timer
from time import sleep
from types import TracebackType
from typing import Any, cast

from torch.utils.data.dataloader import DataLoader, _MultiProcessingDataLoaderIter

from resnet_hub.errors import WorkerLost


class WorkersIterator(_MultiProcessingDataLoaderIter):
    """Torch's iterator over what workers read, which waits for none that was stopped.

    Args:
        loader: Whose passes it makes, one after the other; it has a timeout.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        cast(Any, super()).__init__(loader)  # torch's own, of some versions, is untyped
        # As the process exits, multiprocessing joins those that nothing has shut down till then.
        Finalize(self, wake, (self._workers,), exitpriority=0)

    def _get_data(self) -> Any:  # in a pass, and as one begins: what is left of the one before
        with ended_after(self._timeout + 1, self._workers):
            return cast(Any, super())._get_data()

    def _shutdown_workers(self) -> None:  # by Lightning where a run ends, or as this is let go of
        wake(self._workers)
        cast(Any, super())._shutdown_workers()


def available_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def prepare(worker: int) -> None:
    """Take a worker out of the group that a terminal and torchrun send their signals to.

    The process that trains heeds them, and needs its workers for the step that it finishes. It says
    why it ends, too: that a batch cannot be handed to it any more is no news.
    """
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    sys.excepthook = _but_broken_pipes


def _but_broken_pipes(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if not isinstance(error, EOFError | ConnectionError):
        sys.__excepthook__(kind, error, trace)


@contextmanager
def workers_named(data: str, timeout: float, *, reading: bool = False) -> Iterator[None]:
    """Let a worker that was killed, or hangs, be one line.

    Torch raises the death of a worker wherever this process happens to be, in a training step too.

    Args:
        data: What messages call the data set.
        timeout: Seconds that a batch was waited for.
        reading: Whether all that happens within is the reading of a worker's batch.

    Raises:
        WorkerLost: A worker was.
    """
    try:
        yield
    except RuntimeError as error:
        reason = str(error)
        if reason.startswith("DataLoader timed out"):
            message = (
                f"{data}: no batch in {timeout:g} s: a process that reads it hangs, or the disk "
                "does; raise data.timeout if reading takes so long"
            )
        elif reason.startswith("DataLoader worker"):
            message = _lost(data, reason)
        else:
            raise
        active_children()  # takes note of the dead: torch raises the same again at the next signal
        raise WorkerLost(message) from error.with_traceback(None)  # which would hold the workers
    except (EOFError, ConnectionError) as error:
        if not reading or str(error).startswith("Caught"):  # in the worker, which lives
            raise
        with suppress(RuntimeError):  # its pipe broke before torch heard of its death
            sleep(0.5)
        active_children()
        raise WorkerLost(_lost(data, "its pipe broke")) from error.with_traceback(None)


@contextmanager
def ended_after(seconds: float, workers: Collection[BaseProcess]) -> Iterator[None]:
    """End workers that a batch is waited for any longer.

    Torch has a timeout of its own, but waits for ever for a worker that is stopped while it hands
    the memory of a batch over.

    Raises:
        RuntimeError: They were ended; torch's words for its timeout.
    """
    late = Event()

    def give_up() -> None:
        late.set()  # before the first of them breaks its pipe
        end(workers)

    timer = Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (EOFError, ConnectionError, RuntimeError) as error:
        if late.is_set():
            raise RuntimeError("DataLoader timed out") from error
        raise
    finally:
        timer.cancel()


def _lost(data: str, reason: str) -> str:
    return (
        f"{data}: a process that reads it was lost ({reason.splitlines()[0].strip()}); if memory "
        "ran out, lower data.workers or data.batch_size"
    )


def wake(workers: Collection[BaseProcess]) -> None:
    """Let workers of this process that were stopped go on, so that they heed that they are to end.

    Forked processes inherit iterators, with workers that are none of theirs.
    """
    for worker in active_children():
        if worker in workers and worker.pid is not None and hasattr(signal, "SIGCONT"):
            with suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGCONT)


def end(workers: Collection[BaseProcess]) -> None:
    """End workers that may hang, or be stopped; torch waits for each of them in vain."""
    for worker in workers:
        worker.terminate()
    wake(workers)
