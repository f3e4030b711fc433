"""Compiling a net in place by ``torch.compile``, where a compiler works for its device."""

import logging
from typing import Any, cast

import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from torch import nn

from resnet_hub.errors import InvalidSetting
from resnet_hub.learning.settings import CompileMode

_log = logging.getLogger("resnet_hub")

_LONGEST = 160  # characters of a compiler's complaint that are shown


def compile_in_place(net: nn.Module, mode: bool | CompileMode, device: torch.device) -> bool:
    """Compile a net, whose tensors keep their names; where that cannot be done, say so in a line.

    Compiling happens at the net's first call, deep in a step. So a layer is compiled and called
    here first: what a compiler lacks, it lacks for that one too.

    Args:
        net: The net.
        mode: Of ``model.compile``; not ``False``.
        device: Where the net will be called.

    Returns:
        Whether the net is compiled.
    """
    how = {} if mode is True else {"mode": mode}
    try:
        probe = nn.ReLU()
        cast(Any, probe).compile(**how)
        probe(torch.ones(8, device=device))
    except (
        Exception
    ) as error:  # whatever stops a compiler: none there, no Triton, a cache on a full disk
        _report(
            f"model.compile: nothing can be compiled for {device.type} here "
            f"({_reason(error)}); the net runs as it is"
        )
        return False
    cast(Any, net).compile(**how)
    return True


def captures(mode: bool | CompileMode, device: torch.device) -> bool:
    """Whether a net that is compiled so runs as CUDA graphs.

    These keep activations, gradients and logits in memory that the next batch writes over.
    """
    return isinstance(mode, str) and device.type == "cuda"


def check_capture(mode: bool | CompileMode, accumulated: int) -> None:
    """Check that CUDA graphs, if any are asked for, are given steps that they can run.

    Args:
        mode: Of ``model.compile``.
        accumulated: Batches whose gradients one step adds up.

    Raises:
        InvalidSetting: They are not.
    """
    if isinstance(mode, str) and accumulated > 1:
        raise InvalidSetting(
            f"model.compile: {mode} runs CUDA graphs, whose gradients the next batch writes over; "
            "leave trainer.accumulate_grad_batches out, or give model.compile: true"
        )


@rank_zero_only
def _report(line: str) -> None:
    _log.warning("%s", line)


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    # "backend='inductor' raised:" is no reason; that is in the line after it.
    said = next((line for line in lines if line and line[-1] != ":"), type(error).__name__)
    return said if len(said) <= _LONGEST else f"{said[:_LONGEST]}…"
