"""What a net is: its tensors and its function, as data. Torch-free."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from math import isfinite
from typing import Any, Literal, get_args, get_origin

from resnet_hub.errors import InvalidSetting, did_you_mean

BlockKind = Literal["basic", "bottleneck"]
Form = Literal[
    "residual",
    "plain",
    "preact",
    "bn_after_addition",
    "relu_before_addition",
    "relu_only_preact",
]
Entry = Literal["shared", "own"]
Stem = Literal["imagenet", "deep", "deep_tiered", "deep_wide", "cifar"]
StemPool = Literal["max", "convolution"]
ShortcutOption = Literal["A", "B", "C", "D"]
ZeroPlacement = Literal["split", "end"]
StridePlace = Literal["1x1", "3x3"]
Connection = Literal["none", "identity", "pad", "project", "pool"]
ShortcutGate = Literal["none", "exclusive", "shortcut_only"]
Attention = Literal["none", "se", "eca"]
Antialias = Literal["none", "average", "blur"]

EXPANSION: dict[BlockKind, int] = {"basic": 1, "bottleneck": 4}
"""Output channels of a block, in units of its width (1512.03385 Fig. 5)."""

MOST_UNITS = 1000
"""Units of the deepest net that is built: beyond 1202 layers, and no more than a card may ask."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One residual unit, resolved: what a builder or a counter has to know of it."""

    inputs: int
    middle: int
    outputs: int
    stride: int
    connection: Connection
    leads: bool
    """Whether a pre-activation unit opens with an activation of its own."""
    squeezed: int
    """Channels between squeeze-and-excitation's two layers; 0 where it is not."""
    taps: int
    """Weights of efficient channel attention's convolution; 0 where it is not."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A net's tensors and function: equal values have equal tensor names, shapes and outputs.

    Attributes:
        depths: Residual units in each stage (3 or 4 stages in the papers).
        block: ``basic`` (two 3×3) or ``bottleneck`` (1×1, 3×3, 1×1); 1512.03385 Fig. 5.
        form: ``residual`` (1512.03385), ``plain`` (the same without shortcuts), ``preact``
            (1603.05027), or one of the orders between (its Fig. 4 b to d): ``bn_after_addition``,
            ``relu_before_addition``, ``relu_only_preact``.
        entry: Of a ``preact`` net, how the first unit begins: ``shared`` as in 1603.05027
            (activation after the first convolution, before pooling and before the split), ``own``
            as in timm's ``resnetv2`` (pooling first; the unit activates for itself, and the raw
            tensor stays on an identity shortcut).
        stem: ``imagenet`` (7×7 stride 2, then pooling), ``cifar`` (3×3 stride 1), or three 3×3
            convolutions in place of the 7×7 (1812.01187 §4, ResNet-C), of as many channels as
            ``stem_channels`` says: ``deep``, timm's narrower ``deep_tiered`` or its ``deep_wide``.
        stem_pool: What halves the map after an ImageNet stem: 3×3 ``max`` pooling, or a 3×3
            ``convolution`` of stride 2, normalised and activated (2103.07579, ResNet-RS).
        shortcut: Option A (zero padding), B (projection where shapes change) or C (projection
            always); 1512.03385 §3.3 and §4.1. Option D is B with 2×2 average pooling in place of
            the projection's stride (1812.01187 §4, ResNet-D).
        zeros: Where option A puts its zero channels: ``split`` evenly before and after, as the
            published CIFAR weights need, or all at the ``end``.
        stride_in: Convolution of a bottleneck that strides: the first ``1x1`` (the paper) or the
            ``3x3`` (fb.resnet.torch, torchvision; "v1.5").
        width: Channels of the first stage's 3×3 convolutions.
        groups: Groups of the 3×3 convolutions (ResNeXt, 1611.05431).
        group_width: Channels a group at the first stage for ``width`` 64; over 64 in wide nets
            (1605.07146).
        attention: What weighs the channels that a unit's branch ends in: ``se``
            (squeeze-and-excitation, 1709.01507), ``eca`` (1910.03151) or ``none``.
        reduction: How many times fewer channels there are between the two layers of ``se``;
            rounded to a multiple of 8, as timm does.
        antialias: What strides in the branches and after the stem in place of convolution and
            pooling: 2×2 ``average`` pooling, a binomial ``blur`` (1904.11486 §3.2), or ``none``.
        shortcut_gate: Gates g = sigmoid(W x + b) of every unit, W a 1×1 convolution (1603.05027
            §3.1): ``exclusive`` weighs the branch by g and the shortcut by 1 − g,
            ``shortcut_only`` the shortcut alone.
        shortcut_scale: What every shortcut is multiplied by, from 0 (1603.05027 Eq. 6).
        residual_scale: What every branch is multiplied by, above 0 (1603.05027 Table 1).
        classes: Outputs.
        in_channels: Image channels.

    Raises:
        InvalidSetting: A value that no net can have; the message names the field.
    """

    depths: tuple[int, ...]
    block: BlockKind
    form: Form = "residual"
    entry: Entry = "shared"
    stem: Stem = "imagenet"
    shortcut: ShortcutOption = "B"
    zeros: ZeroPlacement = "split"
    stride_in: StridePlace = "3x3"
    width: int = 64
    groups: int = 1
    group_width: int = 64
    stem_pool: StemPool = "max"
    attention: Attention = "none"
    reduction: int = 16
    antialias: Antialias = "none"
    shortcut_gate: ShortcutGate = "none"
    shortcut_scale: float = 1.0
    residual_scale: float = 1.0
    classes: int = 1000
    in_channels: int = 3

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if get_origin(field.type) is Literal:
                if value not in get_args(field.type):
                    options = ", ".join(get_args(field.type))
                    raise InvalidSetting(f"{field.name}: {value!r} is none of {options}")
            elif field.type is float:
                _check_scale(field.name, value)
            elif field.name != "depths":
                _check_count(field.name, value, 1_000_000 if field.name == "classes" else 8192)
        if not isinstance(self.depths, tuple) or not 1 <= len(self.depths) <= 5:
            raise InvalidSetting(f"depths: {self.depths!r} is not 1 to 5 numbers of units")
        for depth in self.depths:
            _check_count("depths", depth, MOST_UNITS)
        _check_count("depths, in all,", sum(self.depths), MOST_UNITS)
        if self.block == "basic" and (self.groups, self.group_width) != (1, 64):
            raise InvalidSetting("groups, group_width: basic blocks have neither; use bottleneck")
        if self.width * self.group_width % 64:
            raise InvalidSetting("group_width: width × group_width must be a multiple of 64")
        self._check_variants()
        self._check_joining()

    def _check_variants(self) -> None:
        deep = self.stem.startswith("deep")
        after = (self.stem_pool, self.attention, self.antialias)
        if self.form not in ("residual", "plain") and after != ("max", "none", "none"):
            raise InvalidSetting(
                f"form: {self.form} nets are built with stem_pool max, attention none and "
                "antialias none"
            )
        if deep and self.width % 8:
            raise InvalidSetting(f"stem: {self.stem} needs a width that is a multiple of 8")
        if self.stem_pool == "convolution" and (self.stem == "cifar" or self.antialias != "none"):
            raise InvalidSetting("stem_pool: convolution needs an ImageNet stem, and no antialias")
        if self.reduction != 16 and self.attention != "se":
            raise InvalidSetting("reduction: attention se alone has one")
        strided_first = self.block == "bottleneck" and self.stride_in == "1x1"
        if self.antialias != "none" and strided_first:
            raise InvalidSetting("antialias: bottlenecks need stride_in 3x3 for it")

    def _check_joining(self) -> None:
        """Check what branches and shortcuts are weighed by where they meet."""
        if self.residual_scale == 0:
            raise InvalidSetting("residual_scale: 0 leaves no branch to learn")
        scaled = (self.shortcut_gate, self.shortcut_scale, self.residual_scale) != ("none", 1, 1)
        if self.form == "plain" and scaled:
            raise InvalidSetting(
                "shortcut_gate, shortcut_scale, residual_scale: a plain net has no shortcut"
            )

    @property
    def expansion(self) -> int:
        """Output channels of a block, in units of its width."""
        return EXPANSION[self.block]

    @property
    def features(self) -> int:
        """Channels that the last stage hands to the classifier."""
        return (self.width << (len(self.depths) - 1)) * self.expansion

    @property
    def stem_channels(self) -> tuple[int, ...]:
        """Output channels of each of the stem's convolutions."""
        width = self.width
        if self.stem == "deep":
            return (width // 2, width // 2, width)
        if self.stem == "deep_tiered":
            return (width // 8 * 3, width // 2, width)
        if self.stem == "deep_wide":
            return (width, width, 2 * width)
        return (width,)

    @property
    def layers(self) -> int:
        """Weighted layers as the papers count them, shortcuts left out."""
        return sum(self.depths) * (2 if self.block == "basic" else 3) + 2

    def stages(self) -> Iterator[tuple[Unit, ...]]:
        """Yield each stage's units in order: the one plan behind building and counting."""
        return iter(_plan(self))

    def _connection(self, inputs: int, outputs: int, stride: int) -> Connection:
        if self.form == "plain":
            return "none"
        if self.shortcut == "C":
            return "project"
        if stride == 1 and inputs == outputs:
            return "identity"
        by_option: dict[ShortcutOption, Connection] = {"A": "pad", "B": "project", "D": "pool"}
        return by_option[self.shortcut]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types, every field present."""
        return {**asdict(self), "depths": list(self.depths)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Architecture":
        """Build from :meth:`to_dict`'s form.

        Raises:
            InvalidSetting: A field that is unknown, missing or out of bounds.
        """
        names = {field.name for field in fields(cls)}
        for name in values:
            if name not in names:
                raise InvalidSetting(f"architecture: no field {name!r}{did_you_mean(name, names)}")
        for name in ("depths", "block"):
            if name not in values:
                raise InvalidSetting(f"architecture: the field {name!r} is missing")
        depths = values["depths"]
        if not isinstance(depths, list | tuple):
            raise InvalidSetting(f"depths: {depths!r} is not a list of numbers of units")
        return cls(**{**values, "depths": tuple(depths)})


@lru_cache(maxsize=512)  # counting asks for it again and again
def _plan(architecture: Architecture) -> tuple[tuple[Unit, ...], ...]:
    stages: list[tuple[Unit, ...]] = []
    inputs = architecture.stem_channels[-1]
    for stage, depth in enumerate(architecture.depths):
        first = _unit(architecture, stage, inputs, first=True)
        inputs = first.outputs
        rest = _unit(architecture, stage, inputs, first=False)  # one object: equal at a glance
        stages.append((first, *(rest,) * (depth - 1)))
    return tuple(stages)


def _unit(architecture: Architecture, stage: int, inputs: int, *, first: bool) -> Unit:
    width = architecture.width << stage
    outputs = width * architecture.expansion
    stride = 2 if stage > 0 and first else 1
    begins = stage == 0 and first and architecture.entry == "shared"
    return Unit(
        inputs=inputs,
        middle=width * architecture.group_width // 64 * architecture.groups,
        outputs=outputs,
        stride=stride,
        connection=architecture._connection(inputs, outputs, stride),
        leads=architecture.form == "preact" and not begins,
        squeezed=_squeezed(outputs, architecture.reduction) * (architecture.attention == "se"),
        taps=_taps(outputs) * (architecture.attention == "eca"),
    )


def _check_count(name: str, value: Any, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise InvalidSetting(f"{name}: {value!r} is not a whole number from 1 to {most:,}")


def _check_scale(name: str, value: Any) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not (isfinite(value) and 0 <= value <= 1000):
        raise InvalidSetting(f"{name}: {value!r} is not a number from 0 to 1,000")


def _squeezed(channels: int, reduction: int) -> int:
    # The multiple of 8 that is nearest, and 8 at least (timm's SEModule).
    return max(8, (channels + 4 * reduction) // (8 * reduction) * 8)


def _taps(channels: int) -> int:
    # 1910.03151 Eq. 12 with gamma 2 and b 1, and never under 3: (log2(channels) + 1) / 2, its whole
    # part made odd.
    return max(3, channels.bit_length() // 2 | 1)
