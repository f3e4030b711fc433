"""Where a run's time went, as far as its rows tell."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from resnet_hub.curves import series


@dataclass(frozen=True)
class Timing:
    """What the rows of a run say about time; ``None`` where they do not.

    Attributes:
        steps: Optimizer steps taken.
        seconds: Of training, validations left out.
        waited: Share of it in which the first process waited for its loader, in [0, 1].
        images_per_s: Over all processes: the median over the logged stretches.
        paces: Where these were logged, in steps, and their values.
    """

    steps: int
    seconds: float | None
    waited: float | None
    images_per_s: float | None
    paces: tuple[list[float], list[float]]


def timing(rows: list[dict[str, float]]) -> Timing:
    """Return what a run's rows say about time."""
    _, seconds = series(rows, "seconds", by="step")
    _, shares = series(rows, "data_wait", by="step")
    paces = series(rows, "images_per_s", by="step")
    return Timing(
        steps=max((int(row["step"]) + 1 for row in rows), default=0),
        seconds=seconds[-1] if seconds else None,
        waited=_weighted(shares, paces[1]),
        images_per_s=median(paces[1]) if paces[1] else None,
        paces=paces,
    )


def _weighted(shares: Sequence[float], paces: Sequence[float]) -> float | None:
    """Return the share of the time: stretches are of equal many images, so slow ones are longer."""
    if not shares or len(shares) != len(paces) or not all(pace > 0 for pace in paces):
        return None
    times = [1 / pace for pace in paces]
    return sum(s * t for s, t in zip(shares, times, strict=True)) / sum(times)
