"""What commands print, and what the libraries below them do not."""

import logging
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any, cast

import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from resnet_hub.cli import stdout
from resnet_hub.errors import ResNetHubError, printable
from resnet_hub.learning.fit import Result
from resnet_hub.learning.processes.ranks import lost_rank

_REFRESH = 0.1  # seconds between two drawings of a bar

_NOISE = (
    "does not have many workers",  # sets held in memory need none
    "Checkpoint directory .* exists and is not empty",
    "Found .* module.s. in eval mode",  # the moving average, which never trains
    "AMP with fp16 is not supported on CPU",  # refused in one line of ours
    "is smaller than the logging interval",
    "`isinstance.treespec, LeafSpec.` is deprecated",  # Lightning's own call
)


def quiet() -> None:
    """Silence Lightning's advertisements and the warnings that do not concern these runs."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for pattern in _NOISE:
        warnings.filterwarnings("ignore", message=f"(?s).*{pattern}")


@contextmanager
def files_bar(*, shown: bool) -> Iterator[Callable[[int, int], None]]:
    """Yield what takes the files that were read, of how many, and shows them to who watches."""
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns,
        console=Console(soft_wrap=True),  # paths above the bar stay whole
        auto_refresh=False,  # by a thread, and the processes that read are forks of this one
        transient=True,
        disable=not shown,
    ) as progress:
        task = progress.add_task("files", total=None)
        drawn = 0.0

        def advance(done: int, total: int) -> None:
            nonlocal drawn
            if shown and ((now := monotonic()) > drawn + _REFRESH or done == total):
                progress.update(task, completed=done, total=total, refresh=True)
                drawn = now

        yield advance


def shows_bar() -> bool:
    """Whether a person watches: a terminal gets a progress bar, anything else plain lines."""
    return sys.stdout.isatty()


@contextmanager
def group() -> Iterator[None]:
    """Leave the process group of a distributed command at its end, whose threads would outlive it.

    Raises:
        ResNetHubError: Another process of the group ended, or does not answer.
    """
    try:
        yield
    except (RuntimeError, ConnectionError) as error:
        if (lost := lost_rank(error)) is not None:
            raise ResNetHubError(lost) from error
        raise
    finally:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def is_first() -> bool:
    """Whether this process is the one of its run that prints and writes."""
    rank: int = cast(Any, rank_zero_only).rank
    return rank == 0


@rank_zero_only
def say(line: str) -> None:
    """Print one line of a run."""
    stdout.show(printable(line))


@rank_zero_only
def finish(result: Result) -> None:
    """Print a finished run's summary table and how to use its model."""
    summarise(result)
    say(f"use it: resnet-hub predict {shlex.quote(str(result.run.model))} IMAGE...")


@rank_zero_only
def summarise(result: Result) -> None:
    """Print a finished run's summary table."""
    card, run = result.card, result.run
    (score,) = card.provenance.scores
    table = Table(show_header=False)
    for name, value in (
        ("net", card.name),
        ("exported", f"after epoch {card.provenance.epochs} of {result.epochs}"),
        ("measured on", f"{score.data}, n = {score.n:,}"),
        ("top-1", f"{score.top1:.2%}"),
        ("top-5", f"{score.top5:.2%}"),
        ("curves", str(run.curves)),
        ("model", str(run.model)),
    ):
        table.add_row(name, Text(printable(value)))
    # A fixed width where nobody watches keeps a log's lines whole.
    console = Console(width=None if sys.stdout.isatty() else 120)
    with console.capture() as shown:
        console.print(table)
    stdout.show(shown.get().rstrip("\n"))
