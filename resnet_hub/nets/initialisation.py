"""First values of a net's weights, beside what its layers give themselves."""

from collections.abc import Iterable
from math import isfinite
from typing import cast

from torch import Tensor, nn

from resnet_hub.architecture import Architecture
from resnet_hub.errors import InvalidSetting
from resnet_hub.nets.blocks import Block


def initialise(
    net: nn.Module,
    blocks: Iterable[Block],
    *,
    architecture: Architecture,
    zero_init_residual: bool,
    gate_bias: float,
) -> None:
    """Draw convolutions by He's rule, fan-out (1502.01852 §2.2), and set what is asked for.

    Args:
        net: The net; on the meta device nothing is drawn.
        blocks: Its units.
        architecture: What the net is.
        zero_init_residual: Begin every unit as its shortcut.
        gate_bias: First bias of every gate.

    Raises:
        InvalidSetting: The units have no gates, or would never learn.
    """
    if not isfinite(gate_bias):
        raise InvalidSetting(f"gate_bias: {gate_bias!r} is no finite number")
    if gate_bias and architecture.shortcut_gate == "none":
        raise InvalidSetting("gate_bias: needs a shortcut_gate")
    if zero_init_residual and architecture.form == "relu_before_addition":
        raise InvalidSetting("zero_init_residual: no gradient passes a ReLU that begins at zero")
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    for block in blocks:
        if block.gate is not None:
            nn.init.constant_(cast(Tensor, block.gate.bias), gate_bias)
        if zero_init_residual:
            nn.init.zeros_(block.last.weight)
