"""Lightning's Trainer, as this package uses it, and what it refuses in one line."""

import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from typing import Any, cast

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.profilers import PassThroughProfiler

from resnet_hub.data.module import DataModule
from resnet_hub.data.workers import workers_named
from resnet_hub.errors import InvalidSetting
from resnet_hub.learning.memory import memory_named
from resnet_hub.learning.processes.ranks import distributed_options


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
        options = distributed_options({"profiler": Unprofiled(), **options}, timeout=timeout)
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


class Unprofiled(PassThroughProfiler):
    """Lightning's profiler that measures nothing, without a generator for each of its sixty hooks.

    A step has that many, of callbacks and modules together: a tenth of a millisecond.
    """

    _nothing = nullcontext()

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]  # theirs: a generator
        """Return a context that does nothing."""
        return self._nothing


def instance(entry: Any, section: str, kind: type) -> Any:
    """Return what a recipe names by its class path.

    Args:
        entry: ``{class_path, init_args}``, or the path alone.
        section: The recipe's section, for messages.
        kind: What it has to be: one of Lightning's classes.

    Raises:
        InvalidSetting: No such class, another kind, or one that cannot be made so.
    """
    if isinstance(entry, str):
        entry = {"class_path": entry}
    path = entry.get("class_path", "") if isinstance(entry, dict) else ""
    module, _, name = str(path).rpartition(".")
    if not module:
        raise InvalidSetting(
            f"{section}: {entry!r} needs a class_path such as lightning.pytorch.callbacks.Timer"
        )
    try:
        found = getattr(import_module(module), name)
        if not (isinstance(found, type) and issubclass(found, kind)):
            raise TypeError(f"it is no Lightning {kind.__name__}")  # and is not called
        return found(**entry.get("init_args", {}))
    except Exception as error:  # anyone's code
        raise InvalidSetting(f"{section}: {path} cannot be made ({error})") from error


def hardware(trainer: L.Trainer) -> str:
    """Return what a trainer trains on: its processes, and the device of this one."""
    device = trainer.strategy.root_device
    cores = "" if device.type == "cuda" else f" ({platform.machine()}, {os.cpu_count()} cores)"
    return f"{trainer.world_size} × {device_name(device)}{cores}"


def device_name(device: torch.device) -> str:
    """Return what a person calls a device: a GPU's model, or ``cpu``."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


@contextmanager
def losses_named(data: DataModule, *, train: bool) -> Iterator[None]:
    """Let a lost loader's worker, and memory that is not there, be one line.

    Args:
        data: What is read.
        train: Whether a net is trained on it, or scored.

    Raises:
        WorkerLost: A worker was killed, or hangs.
        OutOfMemory: There was not enough memory for a batch.
    """
    with workers_named(data.described, data.settings.timeout), memory_named(data, train=train):
        yield


@contextmanager
def watching(trainer: L.Trainer, *callbacks: Callback) -> Iterator[None]:
    """Let callbacks see what a trainer does inside the block, and no more after it."""
    own = cast(Any, trainer).callbacks
    own.extend(callbacks)
    try:
        yield
    finally:
        for callback in callbacks:
            own.remove(callback)


@contextmanager
def refusals_named() -> Iterator[None]:
    """Let what Lightning refuses of its options be one line.

    Raises:
        InvalidSetting: Lightning refuses them.
    """
    try:
        yield
    except MisconfigurationException as error:
        raise InvalidSetting(f"trainer: {str(error).splitlines()[0]}") from error


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
