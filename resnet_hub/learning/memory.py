"""Memory: what was not there said in one line, and what is freed given back."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from resnet_hub.data.module import DataModule
from resnet_hub.data.sizes import all_sizes
from resnet_hub.errors import OutOfMemory

_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of glibc's malloc.h
_CPU = ("DefaultCPUAllocator", "not enough memory", "std::bad_alloc")  # no class of their own


def release_at_once() -> None:
    """Let glibc give freed blocks of a megabyte and more back to the system at once, from now on.

    Its heap falls into holes where maps of megabytes come and go, as they do where activations are
    computed again: a process then grows to several times what lives in it. The price is time.
    Other C libraries are left as they are.
    """
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        if hasattr(library, "gnu_get_libc_version"):
            library.mallopt(_MMAP_THRESHOLD, 1 << 20)


@contextmanager
def memory_named(data: DataModule, *, train: bool) -> Iterator[None]:
    """Let a failed allocation, the GPU's or the CPU's, say how large the batches are.

    Args:
        data: The data set.
        train: Whether a net is trained on it, or scored.

    Raises:
        OutOfMemory: There was not enough; the message says what to try.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        on_gpu = isinstance(error, torch.OutOfMemoryError)
        if not (on_gpu or isinstance(error, MemoryError) or any(x in str(error) for x in _CPU)):
            raise
        batch, side = data.settings.batch_size, data.preprocess.size
        remedies = "a smaller data.batch_size, or trainer.precision=bf16-mixed"
        if train:
            side = max(all_sizes(data.training_sizes))
            remedies = (
                "a smaller data.batch_size with as much more trainer.accumulate_grad_batches, "
                "net.checkpoint_blocks=1, or trainer.precision=bf16-mixed"
            )
        raise OutOfMemory(
            f"out of memory on the {'GPU' if on_gpu else 'CPU'}, with batches of {batch:,} images "
            f"of {side}×{side} pixels; try {remedies}"
        ) from error
