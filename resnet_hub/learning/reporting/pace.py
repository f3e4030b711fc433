"""How fast a run goes, by the clock of the host alone: no device is waited for."""

from collections import deque
from collections.abc import Callable
from datetime import timedelta
from time import perf_counter
from typing import NamedTuple

_APART = 1.0  # seconds between two marks at least
_MARKS = 61  # so the recent pace is that of a minute, or of as many batches if they take longer


class Stretch(NamedTuple):
    """A stretch of training.

    Attributes:
        seconds: Of training, all between its batches included but validations.
        batches: Finished in it.
        images: Finished in it, over all ranks.
        waited: Seconds that this process waited for its loader.
    """

    seconds: float = 0.0
    batches: int = 0
    images: int = 0
    waited: float = 0.0

    def since(self, start: "Stretch") -> "Stretch":
        """Return what lies between the end of a stretch and the end of this longer one."""
        return Stretch(
            self.seconds - start.seconds,
            self.batches - start.batches,
            self.images - start.images,
            self.waited - start.waited,
        )

    @property
    def images_per_s(self) -> float:
        """Images a second, over all ranks."""
        return self.images / self.seconds

    @property
    def data_wait(self) -> float:
        """Share of the time in which this process waited for its loader, in [0, 1]."""
        return min(1.0, self.waited / self.seconds)


class Pace:
    """Measures a run's training and evaluation while they go on.

    A device works on while the host queues its next steps. The queue is short, so over many steps
    the host's clock tells the device's pace, and asking the device would only slow it down.

    Args:
        clock: Returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        self.clock = clock
        self.before = 0.0  # seconds of training before this process, in a run that is resumed
        self._resumed: float | None = None  # when training went on, if it is not paused
        self._whole, self._lap = Stretch(), Stretch()
        self._marks: deque[Stretch] = deque(maxlen=_MARKS)
        self._evaluation: tuple[float, int] | None = None
        self._per_evaluated: float | None = None

    def resume(self) -> None:
        """Let the time count as training, from now on."""
        if self._resumed is None:
            self._resumed = self.clock()

    def pause(self) -> None:
        """Let it count no more."""
        self._tick()
        self._resumed = None

    def trained(self, images: int, waited: float) -> None:
        """Count a batch.

        Args:
            images: Of all ranks.
            waited: Seconds that its loader was waited for.
        """
        self._tick()
        seconds, batches, before, waits = self._whole
        self._whole = Stretch(seconds, batches + 1, before + images, waits + waited)
        # The first batch is no measure: workers start, kernels are chosen and compiled.
        if not self._marks or self._whole.seconds - self._marks[-1].seconds >= _APART:
            self._marks.append(self._whole)

    @property
    def seconds(self) -> float:
        """Seconds of training up to the last batch or pause, those before a resume included."""
        return self.before + self._whole.seconds

    def lap(self) -> Stretch | None:
        """Return the training since the last call, or ``None`` where there was none."""
        lap, self._lap = self._whole.since(self._lap), self._whole
        return lap if lap.batches and lap.seconds > 0 else None

    @property
    def recent(self) -> Stretch | None:
        """The last minute of training, or the last 60 batches if they took longer."""
        stretch = self._whole.since(self._marks[0]) if self._marks else Stretch()
        return stretch if stretch.batches and stretch.seconds > 0 else None

    @property
    def seconds_per_evaluated(self) -> float | None:
        """Seconds an image, in the last whole evaluation; before one, those of training."""
        if self._per_evaluated is None and self.recent and self.recent.images:
            return self.recent.seconds / self.recent.images
        return self._per_evaluated

    @property
    def evaluated_so_far(self) -> int:
        """Images of the running evaluation that are done."""
        return self._evaluation[1] if self._evaluation else 0

    def begin_evaluation(self) -> None:
        """Start the evaluation's clock; training's is paused."""
        self.pause()
        self._evaluation = (self.clock(), 0)

    def evaluated(self, images: int) -> None:
        """Count a batch of the running evaluation, all ranks' images."""
        if self._evaluation:
            began, before = self._evaluation
            self._evaluation = (began, before + images)

    def end_evaluation(self) -> None:
        """Stop the evaluation's clock."""
        if self._evaluation and self._evaluation[1]:
            began, images = self._evaluation
            self._per_evaluated = (self.clock() - began) / images
        self._evaluation = None

    def _tick(self) -> None:
        if self._resumed is not None:
            now = self.clock()
            self._whole = self._whole._replace(seconds=self._whole.seconds + now - self._resumed)
            self._resumed = now


def duration(seconds: float) -> str:
    """Return seconds as a person reads them: ``0:00:07``, ``2 days, 3:04:05``."""
    return str(timedelta(seconds=round(max(0.0, seconds))))
