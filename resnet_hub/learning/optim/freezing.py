"""Layers that do not learn, and learn again by schedule: a function of the epoch."""

from collections.abc import Iterable

import lightning as L
from lightning.pytorch.strategies import DDPStrategy
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from resnet_hub.errors import InvalidSetting, UnknownName, did_you_mean
from resnet_hub.learning.optim.layers import HEAD, layers
from resnet_hub.learning.settings import FreezingSettings
from resnet_hub.nets.layers import BatchNorm2d


class Freezing:
    """Freezes a net's layers, and thaws them.

    Args:
        net: The net.
        settings: What is frozen, and until when.

    Raises:
        UnknownName: No layer is called so.
        InvalidSetting: Nothing would learn, or what is thawed was not frozen.
    """

    def __init__(self, net: nn.Module, settings: FreezingSettings) -> None:
        self._net, self._settings = net, settings
        own = layers(net).keys()
        frozen = (settings.freeze,) if isinstance(settings.freeze, str) else settings.freeze
        self._frozen = {x for name in frozen for x in _named(own, name, "freeze")}
        self._thawed = [(after, _named(own, name, "thaw")) for after, name in settings.thaw]
        if self._frozen == own:
            raise InvalidSetting("freezing.freeze: nothing is left to learn")
        for (_, name), (_, thawed) in zip(settings.thaw, self._thawed, strict=True):
            if not thawed & self._frozen:
                raise InvalidSetting(f"freezing.thaw: {name} is not frozen")
        self._epoch: int | None = None

    def begin(self, trainer: L.Trainer, epoch: int) -> None:
        """Before a batch: let what learns be what the epoch says.

        Args:
            trainer: Whose processes share their gradients.
            epoch: From 0.

        Raises:
            InvalidSetting: Norms are to be frozen that cannot be.
        """
        if epoch != self._epoch and self._settings != FreezingSettings():
            self._epoch = epoch
            before = [parameter.requires_grad for parameter in self._net.parameters()]
            self._apply(epoch)
            if before != [parameter.requires_grad for parameter in self._net.parameters()]:
                _share_anew(trainer)

    def still_norms(self, net: nn.Module, epoch: int) -> set[nn.Module]:
        """Return the norms of a net, the frozen one or its copy, whose statistics stay in an epoch.

        Args:
            net: Of the same layers.
            epoch: From 0.
        """
        return {
            norm
            for name, modules in layers(net).items()
            if not self._moves(self._learns(name, epoch))
            for outer in modules
            for norm in outer.modules()
            if isinstance(norm, _BatchNorm)
        }

    def _apply(self, epoch: int) -> None:
        for name, modules in layers(self._net).items():
            learns = self._learns(name, epoch)
            for module in (inner for outer in modules for inner in outer.modules()):
                if isinstance(module, _BatchNorm):
                    moves = self._moves(learns)
                    _set_norm(module, moves=moves, training=self._net.training)
                    module.requires_grad_(self._settings.norms == "trained" and learns)
                else:
                    for parameter in module.parameters(recurse=False):
                        parameter.requires_grad_(learns)

    def _learns(self, layer: str, epoch: int) -> bool:
        thawed = any(after <= epoch and layer in names for after, names in self._thawed)
        return thawed or layer not in self._frozen

    def _moves(self, learns: bool) -> bool:
        norms = self._settings.norms
        return norms == "statistics" or (norms == "trained" and learns)


def _named(own: Iterable[str], name: str, key: str) -> set[str]:
    """Return the layers that a name of the recipe stands for."""
    groups = {"all": {*own}, "all_but_head": {*own} - {HEAD}}
    for layer in own:
        for group in {layer, layer.partition(".")[0]}:
            groups.setdefault(group, set()).add(layer)
    if name not in groups:
        raise UnknownName(
            f"freezing.{key}: the net has no layer {name!r}{did_you_mean(name, groups)}"
        )
    return groups[name]


def _set_norm(norm: _BatchNorm, *, moves: bool, training: bool) -> None:
    if isinstance(norm, BatchNorm2d):
        norm.frozen = not moves
        norm.train(training)
    elif not moves:
        raise InvalidSetting(
            f"freezing: a {type(norm).__name__} cannot be frozen; leave trainer.sync_batchnorm "
            "out, or let statistics follow the data (freezing.norms: statistics)"
        )


def _share_anew(trainer: L.Trainer) -> None:
    """Make DDP's reducer again: it averages the gradients that there were when it was made."""
    strategy = trainer.strategy
    if isinstance(strategy, DDPStrategy) and isinstance(strategy.model, DistributedDataParallel):
        strategy.model = trainer.lightning_module
        strategy.configure_ddp()
