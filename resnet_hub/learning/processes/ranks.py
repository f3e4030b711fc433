"""Several processes that train as one: who starts them, how they agree, what ends them all.

A rank is one of these processes. Lightning, torchrun or SLURM starts them; a rank that is lost must
end the others in bounded time, and none may outlive the run.
"""

import atexit
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple, cast

import lightning as L
import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from torch import distributed

from resnet_hub.errors import InvalidSetting

_HARDWARE = ("accelerator", "devices", "num_nodes", "strategy")
_GLOO = ("gloo", "closed by peer", "pair closure")  # its errors have no class of their own
_WELL = (0, 130, 143)  # exit codes of a rank that finished, or that was stopped with the others
_HERE = "resnet_hub/here"  # the store's key under which the ranks are counted that have come
_GRACE = 10.0  # seconds that a rank has to end by itself, and to say why, when another was lost

_log = logging.getLogger("resnet_hub")


class Started(NamedTuple):
    """The processes that something else than Lightning started.

    Attributes:
        by: What started them, as a person calls it.
        each: Processes a node.
        nodes: Number of nodes.
    """

    by: str
    each: int
    nodes: int


def started() -> Started | None:
    """Return what torchrun or SLURM started, of which this process is one; ``None`` if neither did.

    Raises:
        InvalidSetting: SLURM was asked for several tasks, and this process is none of them.
    """
    variables = os.environ
    if TorchElasticEnvironment.detect():
        world, each = int(variables["WORLD_SIZE"]), int(variables["LOCAL_WORLD_SIZE"])
        return Started("torchrun", each, world // each)
    tasks = int(variables.get("SLURM_NTASKS", "1"))
    if tasks == 1 or SLURMEnvironment.job_name() in ("bash", "interactive"):
        return None
    if "SLURM_STEP_ID" not in variables:  # the batch script itself: the tasks are never started
        raise InvalidSetting(
            f"SLURM: the job has {tasks} tasks; start the command by srun, which starts them all"
        )
    nodes = int(variables.get("SLURM_NNODES", "1"))
    return Started("SLURM", tasks // nodes, nodes)


def distributed_options(options: Mapping[str, Any], *, timeout: float) -> dict[str, Any]:
    """Return Lightning's ``Trainer`` options with the ranks as they were started.

    Processes of torchrun or SLURM are one run, whatever Lightning would take ``auto`` for. A
    strategy of DDP's becomes :class:`RankStrategy`.

    Args:
        options: As the recipe has them.
        timeout: Seconds to wait for another rank.

    Raises:
        InvalidSetting: Other devices or nodes are asked for than processes were started.
    """
    filled, group = dict(options), started()
    if group and group.each * group.nodes > 1:
        automatic = {"devices": group.each, "num_nodes": group.nodes, "strategy": "ddp"}
        filled |= {k: v for k, v in automatic.items() if options.get(k) in (None, "auto")}
    probe = L.Trainer(  # what Lightning makes of it: devices may be a list, or "auto"
        **{name: filled[name] for name in _HARDWARE if name in filled},
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    is_ddp = isinstance(probe.strategy, DDPStrategy)
    asked = (probe.num_devices, probe.num_nodes) if is_ddp else (1, 1)
    if group and asked != (group.each, group.nodes):
        raise InvalidSetting(
            f"trainer.devices: {group.by} started {group.each} processes on each of {group.nodes} "
            f"nodes, and the trainer is to use {asked[0]} on {asked[1]}; leave out "
            "trainer.devices, num_nodes and strategy"
        )
    # A notebook's processes are forked by another launcher.
    if is_ddp and isinstance(probe.strategy.launcher, _SubprocessScriptLauncher):
        unused = str(filled.get("strategy")).endswith("_true")
        filled["strategy"] = RankStrategy(timeout=timeout, find_unused_parameters=unused)
    return filled


class RankStrategy(DDPStrategy):
    """Lightning's DDP, whose ranks are given up after a time and leave nobody behind.

    Attributes:
        timeout: How long a rank waits for another.

    Args:
        timeout: The same, in seconds.
        find_unused_parameters: As torch's ``DistributedDataParallel`` has it.
    """

    def __init__(self, *, timeout: float, find_unused_parameters: bool = False) -> None:
        self.timeout = timedelta(seconds=timeout)
        super().__init__(timeout=self.timeout, find_unused_parameters=find_unused_parameters)

    def setup_distributed(self) -> None:
        """Wait for the others where a signal is heeded, then let torch connect them."""
        self.set_world_ranks()
        environment = self.cluster_environment
        store = None
        if environment is not None and not distributed.is_initialized():
            store = _all_here(environment, self.timeout)
        super().setup_distributed()
        del store  # only now; where this rank serves it, the others came to torch by it

    def _configure_launcher(self) -> None:
        environment = self.cluster_environment
        if environment is not None:
            self._launcher = _Launcher(environment, self.num_processes, self.num_nodes)


class _Launcher(_SubprocessScriptLauncher):
    """Lightning's, but a lost child ends the run in words, and the last child is waited for."""

    def launch(
        self, function: Callable[..., Any], *args: Any, trainer: Any = None, **kwargs: Any
    ) -> Any:
        environment = self.cluster_environment
        if not environment.creates_processes_externally:
            environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
            self._call_children_scripts()  # from now on Lightning takes them for started
            atexit.register(_end, self.procs)
            threading.Thread(target=_watch, args=(self.procs,), daemon=True).start()
        return super().launch(function, *args, trainer=trainer, **kwargs)


class Agreement:
    """The largest of the ranks' numbers: asked for now, read later, and the device never waits.

    All ranks ask and read at the same places of a run. The processes have a group of their own for
    this, on the CPU, so that nothing else that they exchange is held up.

    Args:
        timeout: How long to wait for the others; ``None`` leaves it to torch.
    """

    def __init__(self, timeout: timedelta | None) -> None:
        self._group: Any = distributed.new_group(backend="gloo", timeout=timeout)
        self._number = torch.tensor(0)
        self._work: distributed.Work | None = None

    @classmethod
    def of(cls, trainer: L.Trainer) -> "Agreement | None":
        """Return one for a trainer's ranks, which all call this; ``None`` where it has but one."""
        if trainer.world_size == 1:
            return None
        strategy = trainer.strategy  # in a notebook it is Lightning's own
        return cls(strategy.timeout if isinstance(strategy, RankStrategy) else None)

    def ask(self, number: int) -> "Agreement":
        """Tell the others this rank's number, without waiting for theirs; return self."""
        self._number = torch.tensor(number)
        self._work = distributed.all_reduce(
            self._number, distributed.ReduceOp.MAX, group=self._group, async_op=True
        )
        return self

    def read(self) -> int:
        """Return the largest number of those last asked; wait for it where a rank is behind.

        Raises:
            RuntimeError: A rank is lost, or did not answer in time.
        """
        if self._work is not None:
            self._work.wait()
            self._work = None
        return int(self._number)


def lost_rank(error: BaseException) -> str | None:
    """Return in a line how another rank was lost, if that is what an error says."""
    text = str(error).lower()
    known = isinstance(error, ConnectionError) or any(words in text for words in _GLOO)
    if distributed.is_available():
        known |= isinstance(error, distributed.DistError)
    if not known:
        return None
    if "timed out" in text or "timeout" in text:
        return (
            "stopped, because another process of this run did not answer within "
            "distributed.timeout; look for its own message, or for a machine that hangs"
        )
    return "stopped, because another process of this run ended"


def _all_here(environment: ClusterEnvironment, timeout: timedelta) -> Any:
    """Wait until every rank has come; return the store in which they are counted.

    Torch waits for them in C++, where Python's handlers of signals do not run: a rank that waits
    for one that refused, or for a node that is not there, could not be stopped.

    Raises:
        DistStoreError: Some have not come in time.
    """
    address, port = environment.main_address, environment.main_port
    own_store = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"  # else torchrun serves it
    serves = own_store and environment.global_rank() == 0
    deadline = time.monotonic() + timeout.total_seconds()
    while not (serves or _is_served(address, port)):
        _pause(deadline)
    store = cast(Any, distributed).TCPStore(  # torch does not tell type checkers of it
        address,
        port,
        environment.world_size(),
        serves,
        timeout=timeout,
        wait_for_workers=False,
        multi_tenant=True,  # torch's own store will have the same address
    )
    here = store.add(_HERE, 1)
    while here < environment.world_size():
        _pause(deadline)
        here = store.add(_HERE, 0)
    return store


def _is_served(address: str, port: int) -> bool:
    """Whether somebody listens there; torch's own attempts print a page for each that fails."""
    try:
        socket.create_connection((address, port), timeout=_GRACE).close()
    except OSError:
        return False
    return True


def _pause(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise distributed.DistStoreError("timed out: not every process of the run has come")
    time.sleep(0.1)


def _watch(children: Sequence["subprocess.Popen[bytes]"]) -> None:
    """End this process some time after a child failed, if it did not notice by itself."""
    while not (failed := [c for c in children if c.poll() not in (None, *_WELL)]):
        if all(child.returncode in _WELL for child in children):
            return
        time.sleep(0.5)
    time.sleep(_GRACE)  # what this rank next exchanges with the lost one fails, and says so
    _log.error("stopped, because process %d of this run ended", failed[0].pid)
    sys.stderr.flush()
    for child in children:
        child.kill()
    os._exit(1)  # the main thread may be waiting in C++ for ever


def _end(children: Sequence["subprocess.Popen[bytes]"]) -> None:
    """Wait for the children to end, and end those that do not."""
    deadline = time.monotonic() + _GRACE / 2
    for child in children:
        try:
            child.wait(max(0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()  # a process that was stopped hears nothing else
            child.wait()
