"""Bounds of what a recipe says."""

import math

from resnet_hub.errors import InvalidSetting


def check_fraction(name: str, value: float) -> None:
    """Check that a value is in [0, 1).

    Raises:
        InvalidSetting: It is not.
    """
    if not 0 <= value < 1:
        raise InvalidSetting(f"{name}: {value!r} is not in [0, 1)")


def check_share(name: str, value: float) -> None:
    """Check that a value is in [0, 1].

    Raises:
        InvalidSetting: It is not.
    """
    if not 0 <= value <= 1:
        raise InvalidSetting(f"{name}: {value!r} is not in [0, 1]")


def check_at_least(name: str, value: float, low: float) -> None:
    """Check that a value is finite and not below ``low``.

    Raises:
        InvalidSetting: It is not.
    """
    if not (low <= value and math.isfinite(value)):
        raise InvalidSetting(f"{name}: {value!r} is not a number of at least {low}")


def check_above(name: str, value: float, low: float) -> None:
    """Check that a value is finite and above ``low``.

    Raises:
        InvalidSetting: It is not.
    """
    if not (low < value and math.isfinite(value)):
        raise InvalidSetting(f"{name}: {value!r} is not a number above {low}")
