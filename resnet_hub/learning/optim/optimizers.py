"""Optimizers, and how much each parameter learns and decays."""

from typing import Any

import torch
from torch import Tensor, nn

from resnet_hub.errors import InvalidSetting
from resnet_hub.learning.optim.lamb import Lamb
from resnet_hub.learning.optim.layers import HEAD, layers
from resnet_hub.learning.optim.schedules import Length, WarmUp, factor
from resnet_hub.learning.settings import OptimizerSettings, ScheduleSettings

Groups = list[dict[str, Any]]
"""An optimizer's parameter groups, or the numbers of each, by their names."""


def effective_lr(settings: OptimizerSettings, images_per_step: int) -> float:
    """Return the learning rate in force, scaled to the images a step where the recipe asks.

    Raises:
        InvalidSetting: Single precision cannot hold it.
    """
    lr = settings.lr * images_per_step / 256 if settings.scaled else settings.lr
    if lr > torch.finfo(torch.float32).max:
        raise InvalidSetting(f"optimizer.lr: {lr:g} is more than single precision holds")
    return lr


def parameter_groups(net: nn.Module, settings: OptimizerSettings, *, lr: float) -> Groups:
    """Group a net's parameters by decay and, where layers learn at rates of their own, by layer.

    All are there, frozen ones too: these get no gradient, and stay, until they are thawed.

    Returns:
        Groups with ``params``, ``weight_decay``, ``lr``, ``lr_scale`` (what the layer's share of
        the recipe's rate is) and a ``name`` (``free``, ``head decayed``, ``layer1.0 free``), from
        the image to the classifier; none is empty.
    """
    groups: dict[str, dict[str, Any]] = {}
    own = layers(net)
    for depth, (layer, modules) in enumerate(own.items(), 1):
        scale = settings.layer_decay ** (len(own) - depth)
        if layer == HEAD:
            scale *= settings.head_lr
        for module in (inner for outer in modules for inner in outer.modules()):
            for name, parameter in module.named_parameters(recurse=False):
                decays = _decays(module, name, settings.decay)
                label = f"{_part(layer, settings)}{'decayed' if decays else 'free'}"
                group = {
                    "name": label,
                    "params": [],
                    "weight_decay": settings.weight_decay if decays else 0.0,
                    "lr": lr * scale,
                    "lr_scale": scale,
                }
                groups.setdefault(label, group)["params"].append(parameter)
    return list(groups.values())


def build_optimizer(
    net: nn.Module, settings: OptimizerSettings, *, lr: float
) -> torch.optim.Optimizer:
    """Return the optimizer of a net's parameters at this learning rate.

    It takes up a checkpoint's state if that is of the same groups, and raises
    :class:`~resnet_hub.errors.InvalidSetting` if not.
    """
    groups = parameter_groups(net, settings, lr=lr)
    optimizer: torch.optim.Optimizer
    if settings.name == "sgd":
        optimizer = torch.optim.SGD(
            groups, lr=lr, momentum=settings.momentum, nesterov=settings.nesterov
        )
    elif settings.name == "lamb":
        optimizer = Lamb(groups, lr=lr, betas=settings.betas)
    else:
        # On a GPU its step counters lie there too: a step is undone without the host's knowing.
        on_gpu = all(parameter.is_cuda for parameter in net.parameters())
        optimizer = torch.optim.AdamW(groups, lr=lr, betas=settings.betas, capturable=on_gpu)
    optimizer.register_load_state_dict_pre_hook(_check_same_groups)
    optimizer.register_load_state_dict_post_hook(_lay_out)
    return optimizer


def build_schedule(
    optimizer: torch.optim.Optimizer, settings: ScheduleSettings, length: Length, warm_up: WarmUp
) -> torch.optim.lr_scheduler.LambdaLR:
    """Return the schedule of an optimizer's rates, to be stepped after each of its steps."""
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: factor(settings, step, length, warmed=warm_up.ended)
    )


def rate_in_force(optimizer: torch.optim.Optimizer) -> float:
    """Return the learning rate of the moment, of a layer whose share of it is 1."""
    group = optimizer.param_groups[0]
    return float(group["lr"]) / float(group.get("lr_scale", 1.0))


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
    for group, own, share in groups:
        group.update(own, lr=own["initial_lr"] * share(schedule.last_epoch))


def options(optimizer: torch.optim.Optimizer) -> Groups:
    """Return each group's numbers, but for its parameters and the learning rate of the moment."""
    return [
        {name: value for name, value in group.items() if name not in ("params", "lr")}
        for group in optimizer.param_groups
    ]


def _check_same_groups(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    own, other = (
        [(group.get("name"), len(group["params"])) for group in groups]
        for groups in (optimizer.param_groups, saved["param_groups"])
    )
    if own != other:
        raise InvalidSetting(
            f"optimizer: the checkpoint's {len(other)} groups of parameters are not the recipe's "
            f"{len(own)}; set decay, layer_decay and head_lr back, or begin another run"
        )


@torch.no_grad()
def _lay_out(optimizer: torch.optim.Optimizer) -> None:
    """Lay moments out in memory as their weights are: files keep no layout, and norms' sums do."""
    for weight, state in optimizer.state.items():
        for name, moment in state.items():
            if isinstance(moment, Tensor) and moment.shape == weight.shape:
                state[name] = torch.empty_like(weight, dtype=moment.dtype).copy_(moment)


def _part(layer: str, settings: OptimizerSettings) -> str:
    if settings.layer_decay != 1:
        return f"{layer} "
    if settings.head_lr != 1:
        return f"{HEAD if layer == HEAD else 'body'} "
    return ""


def _decays(module: nn.Module, name: str, mode: str) -> bool:
    if mode == "all":
        return True
    kinds = (nn.Conv1d, nn.Conv2d)  # the first, efficient channel attention's
    return name == "weight" and isinstance(
        module, kinds if mode == "conv_only" else (*kinds, nn.Linear)
    )
