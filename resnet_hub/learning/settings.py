"""What a recipe says, section by section: frozen, flat, torch-free."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, Literal

from resnet_hub.architecture import ShortcutOption, ZeroPlacement
from resnet_hub.data.settings import DataSettings
from resnet_hub.errors import InvalidSetting


@dataclass(frozen=True, kw_only=True)
class NetSettings:
    """The ``net:`` section: which net, and what it begins from.

    Attributes:
        name: A row of the architecture table; not needed where ``weights`` are given.
        weights: A model folder to begin from; the classifier is fresh where classes differ.
        shortcut: Option A, B or C instead of the row's.
        zeros: Placement of option A's zero channels instead of the row's.
        zero_init_residual: Begin every unit as its shortcut (1706.02677 §5.1).
        stochastic_depth: Probability that the last unit is left out of a step; earlier units' are
            in proportion to their number (1603.09382 §3).
        checkpoint_blocks: Units a segment recomputed in the backward pass; 0 keeps activations.
    """

    name: str | None = None
    weights: str | None = None
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
        _fraction("net.stochastic_depth", self.stochastic_depth)
        _at_least("net.checkpoint_blocks", self.checkpoint_blocks, 0)


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """The ``model:`` section: loss and how the net is run.

    Attributes:
        label_smoothing: Share of the target spread over all classes, in [0, 1) (1512.00567 §7).
        ema_decay: Decay of the weights' moving average; ``None`` keeps none. The averaged net is
            what is validated as ``val/…`` and exported.
        ema_every: Optimizer steps between two updates of the average.
        channels_last: Keep tensors channels-last in memory (NHWC).
        compile: Compile the net in place.
        nonfinite: What a step does whose loss or gradients are not finite: ``stop`` ends the run,
            ``skip`` leaves the step out. Either way it changes nothing that was learnt.
        most_nonfinite: Steps of a run that ``skip`` may leave out; one more ends it.
    """

    label_smoothing: float = 0.0
    ema_decay: float | None = None
    ema_every: int = 1
    channels_last: bool = True
    compile: bool = False
    nonfinite: Literal["stop", "skip"] = "stop"
    most_nonfinite: int = 10

    def __post_init__(self) -> None:
        _fraction("model.label_smoothing", self.label_smoothing)
        if self.ema_decay is not None:
            _fraction("model.ema_decay", self.ema_decay)
        _at_least("model.ema_every", self.ema_every, 1)
        _at_least("model.most_nonfinite", self.most_nonfinite, 0)


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """The ``optimizer:`` section.

    Attributes:
        name: ``sgd`` (with momentum) or ``adamw``.
        lr: Learning rate at the schedule's factor 1.
        scaled: Whether ``lr`` is for 256 images an optimizer step and grows with them (1706.02677
            §2.1); else it is what it is.
        momentum: SGD's momentum.
        nesterov: Nesterov's form of it.
        betas: AdamW's decay rates.
        weight_decay: Coefficient, before any scaling of the learning rate.
        decay: What decays: ``all``; ``no_norm_bias`` (weights of convolutions and the classifier);
            ``conv_only`` (weights of convolutions, the classifier left out: the paper's, by
            fb.resnet.torch's account).
    """

    name: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.1
    scaled: bool = False
    momentum: float = 0.9
    nesterov: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 1e-4
    decay: Literal["all", "no_norm_bias", "conv_only"] = "all"

    def __post_init__(self) -> None:
        _above("optimizer.lr", self.lr, 0)
        _fraction("optimizer.momentum", self.momentum)
        for beta in self.betas:
            _fraction("optimizer.betas", beta)
        _at_least("optimizer.weight_decay", self.weight_decay, 0)
        if self.nesterov and (self.name != "sgd" or self.momentum == 0):
            raise InvalidSetting("optimizer.nesterov: needs sgd with a momentum above 0")


@dataclass(frozen=True, kw_only=True)
class ScheduleSettings:
    """The ``schedule:`` section: the learning rate's factor over the run, step by step.

    Attributes:
        name: ``constant``; ``multistep`` (times ``gamma`` at each milestone); ``cosine`` (half a
            cosine from 1 to ``floor``, 1608.03983); ``onecycle`` (straight up over the warm-up,
            straight down to ``floor``, 1708.07120).
        unit: Of ``milestones`` and ``warmup``: ``epochs`` or ``iterations`` (optimizer steps).
        milestones: When ``multistep`` steps.
        gamma: Factor of each of its steps.
        warmup: Length of the warm-up.
        warmup_shape: ``linear`` from ``warmup_factor`` to 1, or ``constant`` at it.
        warmup_factor: Factor that the warm-up begins with.
        floor: Factor at the end of ``cosine`` and ``onecycle``.
    """

    name: Literal["constant", "multistep", "cosine", "onecycle"] = "constant"
    unit: Literal["epochs", "iterations"] = "epochs"
    milestones: tuple[float, ...] = ()
    gamma: float = 0.1
    warmup: float = 0.0
    warmup_shape: Literal["linear", "constant"] = "linear"
    warmup_factor: float = 0.01
    floor: float = 0.0

    def __post_init__(self) -> None:
        if list(self.milestones) != sorted(self.milestones):
            raise InvalidSetting("schedule.milestones: must rise")
        if self.name == "multistep" and not self.milestones:
            raise InvalidSetting("schedule.milestones: multistep needs at least one")
        for milestone in self.milestones:
            _above("schedule.milestones", milestone, 0)
        _above("schedule.gamma", self.gamma, 0)
        _at_least("schedule.warmup", self.warmup, 0)
        for name in ("warmup_factor", "floor"):
            _fraction(f"schedule.{name}", getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class CheckpointSettings:
    """The ``checkpoint:`` section: when training is saved; whichever comes first counts.

    A run that is stopped by a signal is saved then, and every run at its end.

    Attributes:
        every_epochs: Epochs between two checkpoints; ``None`` saves at no epoch's end.
        every_steps: Optimizer steps between two.
        every_minutes: Minutes between two.
        keep: How many of the newest stay on disk.
    """

    every_epochs: int | None = 1
    every_steps: int | None = None
    every_minutes: float | None = None
    keep: int = 2

    def __post_init__(self) -> None:
        for name in ("every_epochs", "every_steps"):
            if (value := getattr(self, name)) is not None:
                _at_least(f"checkpoint.{name}", value, 1)
        if self.every_minutes is not None:
            _above("checkpoint.every_minutes", self.every_minutes, 0)
        _at_least("checkpoint.keep", self.keep, 2)


@dataclass(frozen=True, kw_only=True)
class DistributedSettings:
    """The ``distributed:`` section: what several processes of a run owe each other.

    Attributes:
        timeout: Seconds after which a process that does not answer ends the others.
    """

    timeout: float = 600.0

    def __post_init__(self) -> None:
        _above("distributed.timeout", self.timeout, 0)


@dataclass(frozen=True, kw_only=True)
class ProgressSettings:
    """The ``progress:`` section: what is told of a run while it goes on.

    Attributes:
        heartbeat: Seconds without a line after which a log that is no terminal gets one at the
            next batch; 0 leaves it with a line an epoch.
    """

    heartbeat: float = 60.0

    def __post_init__(self) -> None:
        _at_least("progress.heartbeat", self.heartbeat, 0)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A whole recipe.

    Attributes:
        seed: Key of everything random: first weights, order, augmentation, stochastic depth.
        net: Which net.
        data: Which data, and how it is fed.
        model: Loss and how the net is run.
        optimizer: Optimizer.
        schedule: Learning-rate schedule.
        checkpoint: When training is saved.
        progress: What is told of it while it goes on.
        distributed: What several processes owe each other.
        trainer: Lightning's ``Trainer`` options, as they are called there.
        callbacks: More callbacks, each ``{class_path, init_args}``.
        logger: More loggers, each ``{class_path, init_args}``; metrics.csv is always written.
    """

    seed: int = 0
    net: NetSettings = field(default_factory=NetSettings)
    data: DataSettings = field(default_factory=DataSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    checkpoint: CheckpointSettings = field(default_factory=CheckpointSettings)
    progress: ProgressSettings = field(default_factory=ProgressSettings)
    distributed: DistributedSettings = field(default_factory=DistributedSettings)
    trainer: Mapping[str, Any] = field(default_factory=dict)
    callbacks: tuple[Mapping[str, Any], ...] = ()
    logger: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Recipe":
        """Build from :meth:`to_dict`'s form.

        Raises:
            InvalidSetting: A section or a value that no recipe has.
        """
        kinds: dict[str, Any] = {f.name: f.default_factory for f in fields(cls)}
        try:
            values = {name: _tupled(value) for name, value in content.items()}
            sections = {n: kinds[n](**values[n]) for n in values if is_dataclass(kinds[n])}
            return cls(**{**values, **sections})
        except (KeyError, TypeError, AttributeError) as error:
            raise InvalidSetting(f"no recipe ({error})") from error

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types, complete: a recipe that needs no other file."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}


def _plain(value: Any) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _tupled(value: Any) -> Any:
    """Return what JSON holds with the tuples that it was written from."""
    if isinstance(value, Mapping):
        return {name: _tupled(item) for name, item in value.items()}
    return tuple(map(_tupled, value)) if isinstance(value, list) else value


def _fraction(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise InvalidSetting(f"{name}: {value!r} is not in [0, 1)")


def _at_least(name: str, value: float, low: float) -> None:
    if not (low <= value and math.isfinite(value)):
        raise InvalidSetting(f"{name}: {value!r} is not a number of at least {low}")


def _above(name: str, value: float, low: float) -> None:
    if not (low < value and math.isfinite(value)):
        raise InvalidSetting(f"{name}: {value!r} is not a number above {low}")
