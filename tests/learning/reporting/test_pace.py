"""The arithmetic of a run's pace."""

import pytest

from resnet_hub.learning.reporting.pace import Pace, duration


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def train(pace: Pace, clock: Clock, batches: int, seconds: float, waited: float = 0.0) -> None:
    for _ in range(batches):
        clock.now += seconds
        pace.trained(10, waited)


def test_nothing_is_known_before_the_second_batch(clock: Clock):
    pace = Pace(clock)
    pace.resume()
    assert pace.recent is None
    assert pace.lap() is None
    train(pace, clock, 1, 30)
    assert pace.recent is None
    assert pace.seconds_per_evaluated is None
    assert pace.lap().images_per_s == 10 / 30
    train(pace, clock, 1, 2)
    assert pace.recent.images_per_s == 5
    assert pace.seconds_per_evaluated == 0.2


def test_the_recent_pace_is_the_last_minutes(clock: Clock):
    pace = Pace(clock)
    pace.resume()
    train(pace, clock, 1000, 1.0)
    assert pace.recent.images_per_s == 10
    train(pace, clock, 600, 0.1)
    assert pace.recent.images_per_s == pytest.approx(100, rel=0.1)  # one of the seconds was slower
    train(pace, clock, 61, 20)
    assert pace.recent.images_per_s == pytest.approx(0.5)  # of the last 60 batches


def test_time_that_is_no_training_counts_nowhere(clock: Clock):
    pace = Pace(clock)
    clock.now = 50
    pace.resume()
    train(pace, clock, 4, 1)
    clock.now += 3  # what follows a batch, saving perhaps, is training's
    pace.begin_evaluation()
    assert pace.evaluated_so_far == 0
    for _ in range(5):
        clock.now += 100
        pace.evaluated(20)
    assert pace.evaluated_so_far == 100
    pace.end_evaluation()
    assert pace.seconds_per_evaluated == 5
    clock.now += 1000
    pace.resume()
    pace.resume()  # once more does no harm
    train(pace, clock, 1, 1)
    lap = pace.lap()
    assert (lap.seconds, lap.batches, lap.images) == (8, 5, 50)
    assert pace.lap() is None


def test_the_share_of_waiting(clock: Clock):
    pace = Pace(clock)
    pace.resume()
    train(pace, clock, 4, 2, waited=0.5)
    assert pace.recent.data_wait == pace.lap().data_wait == 0.25
    train(pace, clock, 1, 1, waited=1.5)  # two clocks never agree
    assert pace.lap().data_wait == 1


def test_time_goes_on_over_a_resume(clock: Clock):
    pace = Pace(clock)
    pace.before = 100
    clock.now = 7
    pace.resume()
    train(pace, clock, 2, 3)
    assert pace.seconds == 106
    assert pace.recent.seconds == pace.lap().seconds - 3 == 3  # the pace is this process's


def test_an_evaluation_of_nothing_tells_nothing(clock: Clock):
    pace = Pace(clock)
    pace.begin_evaluation()
    pace.end_evaluation()
    assert pace.seconds_per_evaluated is None
    pace.evaluated(3)
    assert pace.evaluated_so_far == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0:00:00"),
        (59.6, "0:01:00"),
        (3661, "1:01:01"),
        (-3, "0:00:00"),
        (90061, "1 day, 1:01:01"),
    ],
)
def test_a_duration_reads_as_hours(seconds: float, text: str):
    assert duration(seconds) == text
