"""Where a run's time went, from its rows."""

import pytest

from resnet_hub.report.timing import timing


def test_the_time_is_the_last_rows_and_waiting_counts_by_how_long_it_was(trained):
    run = trained()
    run.rows[3] |= {"images_per_s": 25.0, "data_wait": 1.0}  # as long as four of the others
    found = timing(run.rows)
    assert (found.steps, found.seconds, found.images_per_s) == (4, 40, 100)
    assert found.waited == pytest.approx((3 * 0.25 + 4 * 1.0) / 7)
    assert found.paces == ([1, 2, 3, 4], [100, 100, 100, 25])


def test_what_the_rows_do_not_say_is_none():
    found = timing([{"epoch": 0, "step": 4, "train/loss": 1}])
    assert (found.steps, found.seconds, found.waited, found.images_per_s) == (5, None, None, None)
