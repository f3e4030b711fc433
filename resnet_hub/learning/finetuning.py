"""What a recipe for a folder of pictures says, and why: from a look at it and at the weights.

Imports no torch.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from resnet_hub.data.look import Look
    from resnet_hub.weights.card import Card

Value = TypeVar("Value")

SKEWED = 3.0
"""Pictures of the largest class over those of the smallest, beyond which classes take turns."""

_OTHER_BALANCES = {"model.class_weights", "data.repeats"}
"""Keys that a person who gives them has instead of classes that take turns."""

_FEW = 500
"""Training pictures, below which most of a net is better kept than learnt anew."""

_BATCH, _LR = 32, 0.01
"""Pictures a step, and the learning rate that goes with them."""

_STEPS = 300
"""Optimizer steps that training takes at least, as far as the most epochs allow."""

_EPOCHS = (5, 50)
_WORKERS = 8
_LEAST_SIZE = 64
"""Pixels, below which an ImageNet stem leaves less than 2×2 of a picture."""


@dataclass(frozen=True)
class Choice:
    """One key of a recipe.

    Attributes:
        key: Dotted, as ``data.batch_size``.
        value: In plain types, as YAML has it.
        why: Why this value, for this folder: a phrase; empty where nothing is to be said.
    """

    key: str
    value: Any
    why: str = ""


def choose(
    look: "Look",
    card: "Card",
    *,
    weights: str,
    cores: int,
    asked: Mapping[str, Any] | None = None,
) -> tuple[Choice, ...]:
    """Choose what a recipe says.

    Args:
        look: At the folder.
        card: Of the weights to begin from.
        weights: What they are called, for ``net.weights``.
        cores: Cores of this machine, for the processes that read pictures.
        asked: Values by dotted key that a person gave: they stand as they are, and what depends on
            them follows.

    Returns:
        Keys and values, section by section; what they leave out stays as its default.
    """
    own = _Choices(asked or {})
    own.take("seed", 0, "key of the fresh head, the order and the augmentation")
    _choose_net(own, look, card, weights)
    batch = _choose_data(own, look, card, cores)
    epochs = own.take("trainer.max_epochs", *_epochs(look, batch))
    own.take("trainer.devices", 1, "`fit` takes more, with trainer.strategy: ddp")
    _choose_learning(own, batch, epochs)
    if look.trained < _FEW and epochs > 1:
        _choose_caution(own, look, card, epochs)
    return own.finished()


def nested(choices: tuple[Choice, ...]) -> dict[str, Any]:
    """Return choices as a recipe has them, section by section."""
    values: dict[str, Any] = {}
    for choice in choices:
        section, _, name = choice.key.partition(".")
        if name:
            values.setdefault(section, {})[name] = choice.value
        else:
            values[section] = choice.value
    return values


class _Choices:
    """Collects choices; what a person asked for wins."""

    def __init__(self, asked: Mapping[str, Any]) -> None:
        self.asked = asked
        self._taken: dict[str, Choice] = {}

    def take(self, key: str, value: Value, why: str = "") -> Value:
        """Choose a value unless one was asked for; return the one that counts."""
        if key in self.asked:
            value, why = self.asked[key], "as asked"
        self._taken[key] = Choice(key, value, why)
        return value

    def finished(self) -> tuple[Choice, ...]:
        """Return all, what was asked for beside them at the end."""
        for key in self.asked:
            if key not in self._taken:
                self.take(key, None)
        return tuple(self._taken.values())


def _choose_net(own: _Choices, look: "Look", card: "Card", weights: str) -> None:
    count = card.architecture.classes
    own.take("net.weights", weights, f"a {card.name} that tells {count:,} classes apart")
    if card.labels == look.labels:
        same, why = True, "the weights are for these very classes, so their head stays"
    else:
        told = "do not name their classes" if card.labels is None else "are for other classes"
        same, why = False, f"the weights {told}, so the classifier begins anew"
    own.take("net.fresh_head", not same, why)


def _choose_data(own: _Choices, look: "Look", card: "Card", cores: int) -> int:
    """Choose the data section, and return the pictures of a step."""
    own.take("data.name", "Folder")
    own.take("data.root", look.root, f"{len(look.labels):,} classes, {look.pictures:,} pictures")
    if look.held_out:
        why = "there is no val/: training pictures kept apart, of every class as much"
        own.take("data.held_out", look.held_out, why)
    size = own.take("data.eval_size", *_size(look, card)) or card.preprocess.size
    batch = own.take("data.batch_size", *_batch_size(look))
    workers = min(cores, _WORKERS)
    own.take("data.workers", workers, "processes that read pictures: one a core, 8 at most")
    if size <= _LEAST_SIZE:
        why = f"a crop of 8% of the area would leave a few pixels of {size}; mirrored half the time"
        own.take("data.augment", "scale_crop_flip", why)
        scale = [size, round(size * 1.25)]
        own.take("data.scale", scale, "the shorter side, before the crop: up to a quarter more")
    else:
        why = "crops of any part; mirrored half the time: none, if left and right are to differ"
        own.take("data.augment", "resized_crop_flip", why)
    turned = f"{look.turned:,} are" if look.turned else "none is here"
    own.take("data.exif", "apply", f"turns upright what is stored turned ({turned})")
    if look.unreadable:
        why = f"not to be read: {look.unreadable:,}, and left out; raise would stop at them"
        own.take("data.on_bad_image", "skip", why)
    if look.skew > SKEWED and not own.asked.keys() & _OTHER_BALANCES:
        why = f"the largest class is {look.skew:.1f} × the smallest; now they come equally often"
        own.take("data.sampling", "balanced", why)
    return batch


def _size(look: "Look", card: "Card") -> tuple[int, str]:
    own, (width, height) = card.preprocess.size, look.median
    usual = f"pictures are {width}×{height} in the middle"
    enough = max(_LEAST_SIZE, 32 * math.ceil(2 * look.side / 32))
    is_fixed = len(card.preprocess.mean) > card.preprocess.channels  # by a mean image of this size
    if card.architecture.stem == "cifar" or is_fixed or enough >= own:
        return own, f"what the weights were made for; {usual}"
    return enough, f"{usual}: beyond twice that, the weights' own {own} would show no more"


def _batch_size(look: "Look") -> tuple[int, str]:
    count = look.trained
    size = max(4, min(_BATCH, 2 ** int(math.log2(max(1, count / 10)))))
    if size == _BATCH:
        return size, f"usual; {count:,} pictures to train on"
    return size, f"of {count:,} pictures to train on, so that an epoch has ten steps or more"


def _epochs(look: "Look", batch: int) -> tuple[int, str]:
    steps = max(1, look.trained // batch)
    least, most = _EPOCHS
    epochs = min(most, max(least, math.ceil(_STEPS / steps)))
    return epochs, f"of {steps:,} steps: {steps * epochs:,} in all, and more may help"


def _choose_learning(own: _Choices, batch: int, epochs: int) -> None:
    own.take("model.label_smoothing", 0.1, "keeps the net from being too sure of what it has seen")
    own.take("optimizer.name", "sgd")
    own.take("optimizer.lr", _LR * batch / _BATCH, f"{_LR} for {_BATCH} a step, in proportion")
    own.take("optimizer.momentum", 0.9)
    own.take("optimizer.nesterov", True)
    own.take("optimizer.weight_decay", 1e-4)
    own.take("optimizer.decay", "no_norm_bias", "norms and biases do not decay")
    own.take("schedule.name", "cosine", "down to 0 at the end")
    own.take("schedule.warmup", min(1, epochs / 5), "epochs in which the rate rises")


def _choose_caution(own: _Choices, look: "Look", card: "Card", epochs: int) -> None:
    """Keep more of the weights: the pictures are few."""
    layers = sum(card.architecture.depths) + 1
    why = "a layer learns at this times the next one's rate: the stem at a tenth of optimizer.lr"
    own.take("optimizer.layer_decay", round(0.1 ** (1 / layers), 3), why)
    own.take("optimizer.head_lr", 10.0, "and the head, which knows least, at ten times that")
    few = f"{look.trained:,} pictures are few: at first the head alone learns"
    own.take("freezing.freeze", "all_but_head", few)
    after = max(1, round(epochs / 5))
    own.take("freezing.thaw", [[after, "all"]], "epochs, after which all layers learn")
    own.take("freezing.norms", "frozen", "the weights' statistics are of more pictures than these")
