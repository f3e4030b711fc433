"""Lightning's Trainer, as this package uses it."""

import os
from collections.abc import Mapping
from typing import Any, cast

import lightning as L
from lightning.fabric.utilities.exceptions import MisconfigurationException

from resnet_hub.errors import InvalidSetting
from resnet_hub.learning.ranks import distributed_options


def make_trainer(options: Mapping[str, Any], *, timeout: float = 600.0) -> L.Trainer:
    """Return Lightning's Trainer with these options.

    It leaves the data modules' samplers as they are, which know the ranks, and the signals.

    Args:
        options: As the recipe's ``trainer`` section has them.
        timeout: Seconds that a process waits for another one of the run.

    Raises:
        InvalidSetting: Lightning refuses them, or would change the precision; or other processes
            were started than they ask for.
    """
    if options.get("num_nodes", 1) > 1 and not {"MASTER_ADDR", "SLURM_JOB_ID"} & set(os.environ):
        raise InvalidSetting(
            "trainer.num_nodes: nothing says where the other nodes are; start it by torchrun or "
            "SLURM, or set MASTER_ADDR, MASTER_PORT and NODE_RANK on each"
        )
    try:
        options = distributed_options(options, timeout=timeout)
        trainer = L.Trainer(**options, use_distributed_sampler=False)
    except (ValueError, TypeError, RuntimeError, ImportError, MisconfigurationException) as error:
        raise InvalidSetting(f"trainer: {str(error).splitlines()[0]}") from error
    if options.get("precision") == "16-mixed" and trainer.precision != "16-mixed":
        raise InvalidSetting("trainer.precision: 16-mixed on a CPU would be bf16; use bf16-mixed")
    on_cpu = trainer.strategy.root_device.type == "cpu"
    if options.get("sync_batchnorm") and trainer.world_size > 1 and on_cpu:
        raise InvalidSetting("trainer.sync_batchnorm: torch has it for GPUs alone")
    _leave_signals_alone(trainer)
    return trainer


def _leave_signals_alone(trainer: L.Trainer) -> None:
    """Keep Lightning's hands off the signals.

    Its handler waits for other ranks within the signal, which hangs them, and its loop asks the
    device every batch whether rank 0 got one.
    """
    own = cast(Any, trainer)
    own._signal_connector.register_signal_handlers = _nothing
    own.fit_loop.epoch_loop._broadcast_sigterm_tensor = _nothing


def _nothing() -> None:
    """Do nothing."""
