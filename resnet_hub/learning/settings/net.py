"""Which net a recipe trains, and from what."""

from dataclasses import dataclass

from resnet_hub.architecture import Form, ShortcutGate, ShortcutOption, ZeroPlacement
from resnet_hub.errors import InvalidSetting
from resnet_hub.learning.settings.checks import check_at_least, check_fraction

_FIXED = (
    *("form", "shortcut", "zeros", "shortcut_gate", "gate_bias"),
    *("shortcut_scale", "residual_scale", "zero_init_residual"),
)
"""What the weights that a net begins from have said already."""


@dataclass(frozen=True, kw_only=True)
class NetSettings:
    """The ``net:`` section: which net, and what it begins from.

    Attributes:
        name: A row of the architecture table; not needed where ``weights`` are given.
        weights: A model folder to begin from; the classifier is fresh where classes differ.
        fresh_head: The classifier is fresh in any case: weights that do not name their classes may
            have as many others.
        form: Order of a unit's layers instead of the row's: ``residual``, ``plain``, ``preact``,
            ``bn_after_addition``, ``relu_before_addition`` or ``relu_only_preact`` (1603.05027
            Fig. 4).
        shortcut: Option A, B, C or D instead of the row's.
        zeros: Placement of option A's zero channels instead of the row's.
        shortcut_gate: ``exclusive`` weighs branch and shortcut by a gate and its complement,
            ``shortcut_only`` the shortcut alone (1603.05027 §3.1); instead of the row's.
        gate_bias: First bias of the gates; −6 where 1603.05027 Table 1 is best.
        shortcut_scale: What shortcuts are multiplied by, instead of the row's 1.
        residual_scale: What branches are multiplied by, instead of the row's 1.
        shortcut_dropout: Probability that a value of a shortcut is set to zero in a step.
        zero_init_residual: Begin every unit as its shortcut (1706.02677 §5.1).
        stochastic_depth: Probability that the last unit is left out of a step; earlier units' are
            in proportion to their number (1603.09382 §3).
        checkpoint_blocks: Units a segment recomputed in the backward pass; 0 keeps activations.
    """

    name: str | None = None
    weights: str | None = None
    fresh_head: bool = False
    form: Form | None = None
    shortcut: ShortcutOption | None = None
    zeros: ZeroPlacement | None = None
    shortcut_gate: ShortcutGate | None = None
    gate_bias: float = 0.0
    shortcut_scale: float | None = None
    residual_scale: float | None = None
    shortcut_dropout: float = 0.0
    zero_init_residual: bool = False
    stochastic_depth: float = 0.0
    checkpoint_blocks: int = 0

    def __post_init__(self) -> None:
        said = [name for name in _FIXED if getattr(self, name) != getattr(NetSettings, name)]
        if self.weights and said:
            raise InvalidSetting(
                f"net.weights: the weights fix the net; leave out {', '.join(said)}"
            )
        if self.fresh_head and not self.weights:
            raise InvalidSetting("net.fresh_head: needs net.weights; without them all is fresh")
        check_fraction("net.stochastic_depth", self.stochastic_depth)
        check_fraction("net.shortcut_dropout", self.shortcut_dropout)
        check_at_least("net.checkpoint_blocks", self.checkpoint_blocks, 0)
