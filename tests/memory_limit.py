"""A callback, to be named in recipes, after which the process may take little more memory."""

import resource
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback


class MemoryLimit(Callback):
    """Limits the address space to what is taken as training begins, and a little more.

    Args:
        more: Bytes more.
    """

    def __init__(self, more: int) -> None:
        self.more = more

    def on_train_start(self, *_: Any) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + self.more
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
