"""Activation checkpointing: segments of units recomputed in the backward pass (1604.06174)."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def run_blocks(
    blocks: Sequence[nn.Module], x: Tensor, draws: Sequence[tuple[Any, ...]], segment: int
) -> Tensor:
    """Run units one after the other; where there are segments, only what enters each is kept.

    Recomputing leaves BatchNorm's running statistics alone: they move once a step, not twice.

    Args:
        blocks: The units, called as ``block(x, *draw)``.
        x: Input of the first.
        draws: What each unit has drawn for this step.
        segment: Units a segment; 0 keeps every activation.

    Returns:
        Output of the last unit.
    """
    if not segment or not torch.is_grad_enabled():
        return _run(blocks, draws, x)
    for start in range(0, len(blocks), segment):
        part, drawn = blocks[start : start + segment], draws[start : start + segment]
        run = partial(_run, part, drawn)
        if torch.compiler.is_compiling():  # its graph recomputes values, never buffers' updates
            x = checkpoint(run, x, use_reentrant=False)
        else:
            x = checkpoint(run, x, use_reentrant=False, context_fn=partial(_contexts, part))
    return x


def _run(blocks: Sequence[nn.Module], draws: Sequence[tuple[Any, ...]], x: Tensor) -> Tensor:
    for block, draw in zip(blocks, draws, strict=True):
        x = block(x, *draw)
    return x


def _contexts(
    blocks: Sequence[nn.Module],
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _still_statistics(blocks)


@contextmanager
def _still_statistics(blocks: Sequence[nn.Module]) -> Iterator[None]:
    # Momentum 0 leaves the running statistics as they are while the same tensors are saved for the
    # backward pass as before; the step counter is lent out as a copy.
    norms = [m for b in blocks for m in b.modules() if isinstance(m, _BatchNorm)]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked = norm.num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, (momentum, counter) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, counter
