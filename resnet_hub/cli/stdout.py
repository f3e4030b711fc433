"""Standard output: for the command's own lines alone, and for a reader who may leave."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


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
