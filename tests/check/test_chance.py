from __future__ import annotations

import numpy as np
import pytest

from kaggle_kit.check import chance
from kaggle_kit.check.chance import fewer_than_explained, least_share, more_lost_than_won


def test_ten_of_ten_rows_leave_room_for_an_accuracy_of_three_quarters() -> None:
    assert least_share(10, 10, 0.05) == pytest.approx(0.741, abs=1e-3)
    assert least_share(0, 10, 0.05) == least_share(0, 0, 0.05) == 0.0


def test_the_least_share_explains_what_was_seen_at_the_level() -> None:
    from scipy.stats import binom

    for right, rows in ((3, 8), (17, 20), (950, 1000)):
        assert binom.sf(right - 1, rows, least_share(right, rows, 0.01)) == pytest.approx(0.01)


def test_few_hits_of_many_rows_are_not_explained() -> None:
    assert fewer_than_explained(50, 100, 0.9, 0.001)
    assert not fewer_than_explained(2, 3, 0.9, 0.001)


def test_losses_are_weighed_against_gains_on_the_same_rows() -> None:
    before, after = np.ones(40), np.ones(40)
    after[:14] = 0
    assert more_lost_than_won(before, after, 0.001)
    assert not more_lost_than_won(before[:9], after[:9], 0.001)  # nine rows, all lost: 1 in 512
    before[20:34] = 0
    assert not more_lost_than_won(before, after, 0.001)


def test_the_lines_share_one_rate() -> None:
    assert pytest.approx(chance.FALSE_ALARMS) == chance.LEVEL * chance.LINES
