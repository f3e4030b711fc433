"""What a net does in training alone: units left out, shortcuts dropped, activations recomputed."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from resnet_hub.architecture import Architecture
from resnet_hub.errors import InvalidSetting
from resnet_hub.nets.shortcut_dropout import ShortcutDropout
from resnet_hub.nets.stochastic_depth import branch_factors

Draw = tuple[Tensor | None, ShortcutDropout | None]
"""What one unit has drawn for a step: its branch's factor, and its shortcut's dropout."""


class TrainingOptions(nn.Module):
    """Options of a net that its architecture does not tell; each takes effect at once when set."""

    architecture: Architecture

    @property
    def stochastic_depth(self) -> float:
        """Probability that the last unit's branch is left out of a training step."""
        return self._stochastic_depth

    @stochastic_depth.setter
    def stochastic_depth(self, rate: float) -> None:
        if not 0 <= rate < 1:
            raise InvalidSetting(f"stochastic_depth: {rate!r} is not in [0, 1)")
        self._stochastic_depth = rate

    @property
    def shortcut_dropout(self) -> float:
        """Probability that a value of a shortcut is set to zero in a training step."""
        return self._shortcut_dropout

    @shortcut_dropout.setter
    def shortcut_dropout(self, rate: float) -> None:
        if not 0 <= rate < 1:
            raise InvalidSetting(f"shortcut_dropout: {rate!r} is not in [0, 1)")
        if rate and self.architecture.form == "plain":
            raise InvalidSetting("shortcut_dropout: a plain net has no shortcut")
        self._shortcut_dropout = rate

    @property
    def checkpoint_blocks(self) -> int:
        """Units a recomputed segment; 0 keeps all activations."""
        return self._checkpoint_blocks

    @checkpoint_blocks.setter
    def checkpoint_blocks(self, count: int) -> None:
        if not isinstance(count, int) or count < 0:
            raise InvalidSetting(f"checkpoint_blocks: {count!r} is no whole number from 0")
        self._checkpoint_blocks = count

    def draws(self, x: Tensor, keys: Tensor | None) -> Sequence[Sequence[Draw]]:
        """Draw for a step, by stage and unit; outside training, and at rates of 0, nothing.

        Args:
            x: The images, ``(N, C, H, W)``.
            keys: int64 ``(N,)``, one a sample; without them they are drawn by torch's generator.
        """
        depths = self.architecture.depths
        if not self.training or not (self.stochastic_depth or self.shortcut_dropout):
            return [[(None, None)] * depth for depth in depths]
        if keys is None:
            keys = torch.randint(1 << 62, (x.shape[0],), device=x.device)
        keep: list[Tensor | None] = [None] * sum(depths)
        if self.stochastic_depth:
            keep = list(branch_factors(keys, self.stochastic_depth, sum(depths), x.dtype))
        dropout: list[ShortcutDropout | None] = [None] * sum(depths)
        if self.shortcut_dropout:
            rate = self.shortcut_dropout
            dropout = [ShortcutDropout(keys, rate, i + 1) for i in range(sum(depths))]
        drawn = iter(zip(keep, dropout, strict=True))
        return [[next(drawn) for _ in range(depth)] for depth in depths]
