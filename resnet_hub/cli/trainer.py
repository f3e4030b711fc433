"""Which of Lightning's Trainer options a recipe may set, and to what: refused before it starts."""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from resnet_hub.errors import InvalidSetting

OWN = {
    "logger": "use the recipe's `logger:`",
    "callbacks": "use the recipe's `callbacks:`",
    "plugins": "checkpoints are written by a plugin of this package",
    "default_root_dir": "use --out",
    "use_distributed_sampler": "the data modules' samplers know the ranks",
    "enable_checkpointing": "a run always saves its checkpoints",
    "barebones": "a run always logs and saves",
    "overfit_batches": "use --trainer.limit_train_batches",
    "fast_dev_run": "use --trainer.limit_train_batches 2 --trainer.max_epochs 1",
}
"""Options that a run sets itself, and what to use instead."""

STRATEGIES = (
    "auto",
    "ddp",
    "ddp_find_unused_parameters_false",
    "ddp_find_unused_parameters_true",
    "single_device",
)
"""Strategies that start a process a rank by the command line, and keep the net whole on each."""

LEAST = {
    "accumulate_grad_batches": 1,
    "check_val_every_n_epoch": 1,
    "gradient_clip_val": 0,
    "log_every_n_steps": 0,
    "max_epochs": -1,
    "max_steps": -1,
    "min_epochs": 0,
    "min_steps": 0,
    "num_nodes": 1,
    "num_sanity_val_steps": -1,
}
"""Options that Lightning takes any number for, and trips over later."""

_DAYS = re.compile(r"(\d{1,9}):(\d\d):(\d\d):(\d\d)")


def refuse_own(name: str) -> None:
    """Refuse an option that a run sets itself.

    Raises:
        InvalidSetting: The message says what to use instead.
    """
    if name in OWN:
        raise InvalidSetting(f"trainer.{name} is set by the run; {OWN[name]}")


def check_trainer(name: str, value: Any) -> None:
    """Check one option's value, of its type already; ``None`` leaves it to Lightning.

    Raises:
        InvalidSetting: A value that Lightning would refuse late, by a traceback, or not at all.
    """
    if value is None:
        return
    if name == "strategy" and value not in STRATEGIES:
        raise InvalidSetting(
            f"trainer.strategy: {value!r} is none that runs here ({', '.join(STRATEGIES)}); use ddp"
        )
    if name in LEAST and value < LEAST[name]:
        raise InvalidSetting(f"trainer.{name}: {value} is below {LEAST[name]}")
    if name == "max_time" and not _seconds(value) > 0:
        raise InvalidSetting(f"trainer.{name}: {value!r} is no time above 0, written DD:HH:MM:SS")
    if name == "val_check_interval" or (name.startswith("limit_") and name.endswith("_batches")):
        _check_share(name, value)


def has_end(options: Mapping[str, Any]) -> bool:
    """Whether epochs or steps are bounded; a schedule cannot follow ``max_time`` alone."""
    bounds = (options.get("max_epochs"), options.get("max_steps"))
    return any(bound is not None and bound >= 0 for bound in bounds)


def _check_share(name: str, value: Any) -> None:
    """Refuse what is neither a number of batches nor a share of them in [0, 1]."""
    if not isinstance(value, int | float):  # a time, at which no two runs would be alike
        raise InvalidSetting(f"trainer.{name}: {value!r} is no number of batches, nor a share")
    if isinstance(value, float) and not 0 <= value <= 1:
        raise InvalidSetting(f"trainer.{name}: {value} is no share of the batches, from 0 to 1")
    if value < 0:
        raise InvalidSetting(f"trainer.{name}: {value} is no number of batches")
    if value == 0 and name == "val_check_interval":
        raise InvalidSetting(f"trainer.{name}: 0 is no number of batches between validations")
    if value == 0 and name == "limit_test_batches":
        raise InvalidSetting(f"trainer.{name}: 0 leaves nothing to score the net on")


def _seconds(value: Any) -> float:
    """Return a duration's seconds, below 0 for what is none."""
    if isinstance(value, str):
        found = _DAYS.fullmatch(value.strip())
        names = ("days", "hours", "minutes", "seconds")
        value = dict(zip(names, map(int, found.groups()), strict=True)) if found else None
    try:
        return timedelta(**value).total_seconds()
    except (TypeError, OverflowError):
        return -1
