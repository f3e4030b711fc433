"""Standard output: for the command's own lines alone, and for a reader who may leave."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper


def escape() -> None:
    """Write escapes for letters that the output's encoding lacks, instead of failing."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def show(text: str) -> None:
    """Print, now; work goes on though its reader, ``head`` perhaps, has gone."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        close()


def close() -> None:
    """Send what is still to be printed nowhere; its reader has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def clear() -> Iterator[None]:
    """Send what is printed inside the block to standard error, C++ libraries' lines included.

    Gloo announces its connections on standard output, which is for the command's result alone.
    """
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
