"""Which net a recipe trains, and from what."""

from dataclasses import dataclass

from resnet_hub.architecture import ShortcutOption, ZeroPlacement
from resnet_hub.errors import InvalidSetting
from resnet_hub.learning.settings.checks import check_at_least, check_fraction


@dataclass(frozen=True, kw_only=True)
class NetSettings:
    """The ``net:`` section: which net, and what it begins from.

    Attributes:
        name: A row of the architecture table; not needed where ``weights`` are given.
        weights: A model folder to begin from; the classifier is fresh where classes differ.
        fresh_head: The classifier is fresh in any case: weights that do not name their classes may
            have as many others.
        shortcut: Option A, B, C or D instead of the row's.
        zeros: Placement of option A's zero channels instead of the row's.
        zero_init_residual: Begin every unit as its shortcut (1706.02677 §5.1).
        stochastic_depth: Probability that the last unit is left out of a step; earlier units' are
            in proportion to their number (1603.09382 §3).
        checkpoint_blocks: Units a segment recomputed in the backward pass; 0 keeps activations.
    """

    name: str | None = None
    weights: str | None = None
    fresh_head: bool = False
    shortcut: ShortcutOption | None = None
    zeros: ZeroPlacement | None = None
    zero_init_residual: bool = False
    stochastic_depth: float = 0.0
    checkpoint_blocks: int = 0

    def __post_init__(self) -> None:
        if self.weights and (self.shortcut or self.zeros or self.zero_init_residual):
            raise InvalidSetting(
                "net.weights: the weights fix the net; leave out shortcut, zeros and "
                "zero_init_residual"
            )
        if self.fresh_head and not self.weights:
            raise InvalidSetting("net.fresh_head: needs net.weights; without them all is fresh")
        check_fraction("net.stochastic_depth", self.stochastic_depth)
        check_at_least("net.checkpoint_blocks", self.checkpoint_blocks, 0)
