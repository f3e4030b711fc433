"""Optimizers, and which parameters decay."""

from typing import Any

import torch
from torch import nn

from resnet_hub.errors import InvalidSetting
from resnet_hub.learning.settings import OptimizerSettings

Groups = list[dict[str, Any]]
"""Numbers of an optimizer's parameter groups, by their names."""


def effective_lr(settings: OptimizerSettings, images_per_step: int) -> float:
    """Return the learning rate in force, scaled to the images a step where the recipe asks.

    Raises:
        InvalidSetting: Single precision cannot hold it.
    """
    lr = settings.lr * images_per_step / 256 if settings.scaled else settings.lr
    if lr > torch.finfo(torch.float32).max:
        raise InvalidSetting(f"optimizer.lr: {lr:g} is more than single precision holds")
    return lr


def parameter_groups(net: nn.Module, settings: OptimizerSettings) -> list[dict[str, Any]]:
    """Split a net's parameters into those that decay and those that do not.

    Returns:
        One or two groups with ``params``, ``weight_decay`` and a ``name``, none of them empty.
    """
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for module in net.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad:
                decays = _decays(module, name, settings.decay)
                (decayed if decays else free).append(parameter)
    groups = (
        {"name": "decayed", "params": decayed, "weight_decay": settings.weight_decay},
        {"name": "free", "params": free, "weight_decay": 0.0},
    )
    return [group for group in groups if group["params"]]


def build_optimizer(
    net: nn.Module, settings: OptimizerSettings, *, lr: float
) -> torch.optim.Optimizer:
    """Return the optimizer of a net's parameters at this learning rate."""
    groups = parameter_groups(net, settings)
    if settings.name == "sgd":
        return torch.optim.SGD(
            groups, lr=lr, momentum=settings.momentum, nesterov=settings.nesterov
        )
    # On a GPU its step counters lie there too: a step is undone without the host's knowing.
    on_gpu = all(parameter.is_cuda for parameter in net.parameters())
    return torch.optim.AdamW(groups, lr=lr, betas=settings.betas, capturable=on_gpu)


def hold_to_recipe(
    optimizer: torch.optim.Optimizer, schedule: torch.optim.lr_scheduler.LambdaLR, recipe: Groups
) -> None:
    """Give a resumed optimizer the recipe's numbers again, where a checkpoint brought others.

    Of an unchanged recipe they are the same, and nothing is touched.

    Args:
        optimizer: As it was resumed.
        schedule: Its schedule, as it was resumed.
        recipe: What :func:`options` returned before.
    """
    if options(optimizer) == recipe:
        return
    schedule.base_lrs = [own["initial_lr"] for own in recipe]
    groups = zip(optimizer.param_groups, recipe, schedule.lr_lambdas, strict=True)
    for group, own, factor in groups:
        group.update(own, lr=own["initial_lr"] * factor(schedule.last_epoch))


def options(optimizer: torch.optim.Optimizer) -> Groups:
    """Return each group's numbers, but for its parameters and the learning rate of the moment."""
    return [
        {name: value for name, value in group.items() if name not in ("params", "lr")}
        for group in optimizer.param_groups
    ]


def _decays(module: nn.Module, name: str, mode: str) -> bool:
    if mode == "all":
        return True
    kinds = (nn.Conv1d, nn.Conv2d)  # the first, efficient channel attention's
    return name == "weight" and isinstance(
        module, kinds if mode == "conv_only" else (*kinds, nn.Linear)
    )
