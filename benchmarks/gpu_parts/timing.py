"""Time on a GPU or a CPU, candidates that take turns, and what a part of the benchmark says."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median

import torch
from turns import Row


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
        turns: Of each candidate.
        steps: Of a turn; ``warm`` ones before them are not measured.
        warm: See above.
        batch: Images a step of ImageNet's nets.
        infer: Images a batch of inference.
        side: Of their images, in pixels.
        net: ImageNet's net.
        cifar: CIFAR's nets.
        images: In the made-up set, enough that no epoch ends within a turn: real ones are longer.
    """

    turns: int = 3
    steps: int = 20
    warm: int = 5
    batch: int = 256
    infer: int = 256
    side: int = 224
    net: str = "resnet50"
    cifar: tuple[str, ...] = ("cifar_resnet20", "cifar_resnet56")
    images: int = 26 * 256


QUICK = Scale(
    turns=1,
    steps=2,
    warm=1,
    batch=4,
    infer=2,
    side=32,
    net="resnet18",
    cifar=("cifar_resnet20",),
    images=16,
)
"""Enough to see that everything runs."""


@dataclass
class Found:
    """What a part found.

    Attributes:
        rows: Of the table.
        figures: What other parts' rows need, by name.
        said: Lines about what was left out, and why.
    """

    rows: list[Row] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)


class Clock:
    """Seconds of work on a device: by CUDA's events there, by the wall clock on a CPU.

    Events count what lies between them on the GPU, its idling included. On a GPU of one's own this
    is steady, so that candidates can take turns within one process.

    Args:
        device: The device.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._begun: float | torch.cuda.Event = 0.0

    def start(self) -> None:
        """Begin, once all work that was asked for before is done."""
        if self.device.type != "cuda":
            self._begun = time.perf_counter()
            return
        torch.cuda.synchronize(self.device)
        self._begun = torch.cuda.Event(enable_timing=True)
        self._begun.record()

    def stop(self) -> float:
        """Return the seconds since :meth:`start`, up to the end of all work asked for since."""
        if isinstance(self._begun, float):
            return time.perf_counter() - self._begun
        ended = torch.cuda.Event(enable_timing=True)
        ended.record()
        torch.cuda.synchronize(self.device)
        return self._begun.elapsed_time(ended) / 1000

    def seconds(self, work: Callable[[], object], times: int) -> float:
        """Return how long a piece of work takes, in the mean of so many times."""
        self.start()
        for _ in range(times):
            work()
        return self.stop() / times


def alternate(
    candidates: Mapping[str, Callable[[], float]], turns: int, found: Found
) -> dict[str, float]:
    """Let candidates take turns and return each one's median.

    Args:
        candidates: Functions that return what one turn measured; a first turn, in which kernels
            are chosen and nets compiled, does not count.
        turns: That count.
        found: Is told of candidates that fail; these are left out, and the others go on.
    """
    taken: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(turns + 1):
        for name in [*taken]:
            try:
                seconds = candidates[name]()
            except Exception as error:  # anything that a card, a driver or a peer does
                lines = [line for line in str(error).splitlines() if line.strip()]
                reason = lines[0] if lines else type(error).__name__
                found.said.append(f"{name} failed: {reason}")
                del taken[name]
            else:
                if turn:
                    taken[name].append(seconds)
    return {name: median(seconds) for name, seconds in taken.items()}


def ratio(
    what: str, medians: Mapping[str, float], ours: str, other: str, goal: float | None = None
) -> list[Row]:
    """Return the row of how many times as fast as another candidate one is; none, if one failed."""
    if ours not in medians or other not in medians:
        return []
    note = f"{1000 * medians[ours]:.4g} and {1000 * medians[other]:.4g} ms"
    return [Row(what, medians[other] / medians[ours], goal, "higher", note)]
