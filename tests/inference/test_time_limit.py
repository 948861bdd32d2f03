"""The work list against a clock that the test turns: cost is exactly known, so what must be left out is, too."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaggle_kit.errors import ConfigError
from kaggle_kit.inference.time_limit import RunShare, TimeLimit, Worklist, passes, shrink, without_views

FULL = (RunShare("a", (0, 1, 2), "d4", "mean", 8), RunShare("b", (0, 1, 2)))


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def drive(rows, share, seconds, cost, *, first=0.0, strict=False):
    """Work until the list ends, the first part taking ``first`` seconds more; returns what was done."""
    clock, lines = Clock(), []
    worklist = Worklist(rows, share, TimeLimit(seconds, clock=clock), say=lines.append, strict=strict)
    done = {run.name: {} for run in share}
    while (part := worklist.take()) is not None:
        spent = first + cost * len(part.rows) * passes(part.share)
        first = 0.0
        clock.now += spent
        for run in worklist.done(part, spent):
            done[run.name] |= dict.fromkeys(part.rows, run.tta)
    return done, worklist, clock.now - 100.0, lines


def complete(done, worklist, rows):
    """Whether each run that is left has all rows, made with the same views."""
    return all(done[run.name] == dict.fromkeys(range(rows), run.tta) for run in worklist.share)


@pytest.mark.parametrize("seconds", [None, 1e6])
def test_with_enough_time_everything_is_done(seconds):
    done, worklist, _, lines = drive(5000, FULL, seconds, 0.001)
    assert complete(done, worklist, 5000)
    assert worklist.share == FULL
    assert worklist.left_out == lines == []


def test_without_a_limit_one_device_gets_all_at_once():
    worklist = Worklist(5000, FULL, TimeLimit(), say=print)
    assert worklist.take().rows == range(5000)
    assert worklist.take() is None


def test_views_go_first_then_folds():
    smaller, first = shrink(FULL)
    assert first == "the d4 views of run a"
    assert passes(smaller) == 6
    said = []
    while smaller is not None:
        share, step = smaller, shrink(smaller)
        said.append(step[1] if step else None)
        smaller = step[0] if step else None
    folds = ["fold 2 of run a", "fold 2 of run b", "fold 1 of run a", "fold 1 of run b"]
    assert said == [*folds, "run a", None]
    assert [(run.name, run.folds) for run in share] == [("b", (0,))]


def test_a_run_without_weight_goes_first_and_the_lightest_last():
    light = RunShare("light", (0,), weight=0.1)
    nothing = RunShare("nothing", (0, 1), "d4", "mean", 8, weight=0.0)
    heavy = RunShare("heavy", (0, 1), "hflip", "mean", 2, weight=0.9)
    said, share = [], (heavy, light, nothing)
    while step := shrink(share):
        share = step[0]
        said.append(step[1].partition(",")[0])
    assert said == ["run nothing", "the hflip views of run heavy", "fold 1 of run heavy", "run light"]
    assert [run.name for run in share] == ["heavy"]


def test_short_of_time_views_are_left_out_of_all_images():
    # 27 passes of 2,000 images take 54 s, six passes 12 s.
    done, worklist, spent, lines = drive(2000, FULL, 30.0, 0.001)
    assert complete(done, worklist, 2000)
    assert spent <= 30
    assert passes(worklist.share) == 6
    assert worklist.left_out == ["the d4 views of run a"]
    assert "short of time" in lines[0]
    assert "without the d4 views" in lines[0]


def test_shorter_still_folds_are_left_out():
    done, worklist, spent, _ = drive(2000, FULL, 8.0, 0.001)
    assert complete(done, worklist, 2000)
    assert spent <= 8
    assert passes(worklist.share) < 6


def test_late_in_the_pass_folds_go_rather_than_views_that_would_be_made_anew():
    """Half the views of half the images are done: to start over would take as long as to go on."""
    share = (RunShare("a", (0, 1), "hflip", "mean", 2),)
    clock = Clock()
    worklist = Worklist(1000, share, TimeLimit(100.0, clock=clock), say=print)
    while (part := worklist.take()).rows.stop < 600:
        clock.now += 0.01 * len(part.rows) * passes(part.share)
        worklist.done(part, 0.01 * len(part.rows) * passes(part.share))
    clock.now += 60.0  # the machine was busy
    worklist.done(part, 60.0)
    worklist.take()
    assert worklist.left_out == ["fold 1 of run a"]


def test_out_of_fold_rows_count_among_what_the_views_cost():
    share = (RunShare("a", (0, 1), "hflip", "mean", 2, oof_rows=100_000),)
    done, worklist, _, _ = drive(1000, share, 60.0, 0.001)
    assert worklist.share == (without_views(share[0]),)
    assert complete(done, worklist, 1000)


def test_hopelessly_short_it_ends_in_time_with_rows_left():
    _, worklist, spent, _ = drive(20000, FULL, 5.0, 0.001)
    assert worklist.left > 0
    assert spent <= 5
    assert passes(worklist.share) == 1


def test_hopelessly_short_and_strict_says_how_much_is_needed():
    with pytest.raises(ConfigError, match=r"time limit is too short.*give more time"):
        drive(20000, FULL, 5.0, 0.001, strict=True)


def test_a_slow_start_leaves_nothing_out():
    """Starting devices and processes is no sign of slow images."""
    done, worklist, _, lines = drive(1000, FULL, 200.0, 0.001, first=20.0)
    assert complete(done, worklist, 1000)
    assert lines == []


def test_what_is_given_back_is_handed_out_again():
    worklist = Worklist(40, FULL, TimeLimit(1e6), say=print)
    part = worklist.take()
    worklist.give_back(part)
    assert worklist.left == 40
    again = []
    while (part := worklist.take()) is not None:
        again += list(part.rows)
        worklist.done(part, 0.1)
    assert sorted(again) == list(range(40))


@given(rows=st.integers(0, 5000), seconds=st.floats(0.01, 100), cost=st.floats(1e-5, 1e-1))
def test_a_run_has_the_first_rows_all_alike_and_the_time_is_kept(rows, seconds, cost):
    done, worklist, spent, _ = drive(rows, FULL, seconds, cost)
    for run in worklist.share:
        alike = [row for row, tta in done[run.name].items() if tta == run.tta]
        assert sorted(alike) == list(range(len(alike)))
    warm_up = 48 * passes(FULL) * cost  # before anything is known
    assert spent <= max(seconds, warm_up) + 1e-9
