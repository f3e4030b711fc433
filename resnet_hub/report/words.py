"""Numbers as a page says them."""

from collections.abc import Sequence

_AMOUNTS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def count(number: int) -> str:
    """Return a whole number with its thousands apart."""
    return f"{number:,}"


def amount(number: float) -> str:
    """Return a large number in three digits or so: ``40.6 M``."""
    size, letter = next(((s, f" {n}") for s, n in _AMOUNTS if number >= s), (1.0, ""))
    value = number / size
    return f"{value:.{2 if value < 10 and letter else 1 if value < 100 and letter else 0}f}{letter}"


def percent(share: float) -> str:
    """Return a share as a percentage with two decimals."""
    return f"{100 * share:.2f}%"


def interval(ends: Sequence[float]) -> str:
    """Return the two ends of an interval of shares, in percent."""
    low, high = ends
    return f"{100 * low:.2f} to {100 * high:.2f}"


def span(seconds: float) -> str:
    """Return a time as a person says it: ``0.4 s``, ``25 s``, ``3 min 10 s``, ``2 h 05 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60:,} h {minutes % 60:02d} min"


def listed(things: Sequence[str]) -> str:
    """Return things in a row, the last two with "and" between them."""
    *most, last = things
    return f"{', '.join(most)} and {last}" if most else last
