"""The governor against a clock that the test turns: cost is exactly known, so what must be left out is, too."""

from hypothesis import given
from hypothesis import strategies as st

from kaggle_kit.kernel.budget import Governor, RunShare, passes, shrink

FULL = (RunShare("a", (0, 1, 2), "d4", "mean", 8), RunShare("b", (0, 1, 2)))


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def drive(rows, share, seconds, cost, *, overhead=0.0):
    """Work until the governor ends; returns (parts, governor, clock)."""
    clock, lines = Clock(), []
    governor = Governor(rows, share, seconds, say=lines.append, clock=clock)
    parts = []
    while (taken := governor.take()) is not None:
        part, asked = taken
        spent = overhead + cost * len(part) * passes(asked)
        clock.now += spent
        governor.measured(len(part), asked, spent)
        parts.append((part, asked))
    return parts, governor, clock.now - 100.0, lines


def test_with_enough_time_everything_is_done():
    parts, governor, _, lines = drive(5000, FULL, 1e6, 0.001)
    assert sum(len(part) for part, _ in parts) == 5000
    assert {share for _, share in parts} == {FULL}
    assert governor.left_out == []
    assert lines == []


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


def test_short_of_time_views_are_left_out_and_all_images_are_done():
    # 27 passes of 2,000 images take 54 s, six passes 12 s.
    parts, governor, spent, lines = drive(2000, FULL, 30.0, 0.001)
    assert sum(len(part) for part, _ in parts) == 2000
    assert spent <= 30
    assert passes(parts[-1][1]) == 6
    assert governor.left_out[0].startswith("the d4 views of run a from image ")
    assert "short of time" in lines[0]
    assert "without the d4 views" in lines[0]


def test_shorter_still_folds_are_left_out():
    parts, _, spent, _ = drive(2000, FULL, 8.0, 0.001)
    assert sum(len(part) for part, _ in parts) == 2000
    assert spent <= 8
    assert passes(parts[-1][1]) < 6


def test_hopelessly_short_it_ends_in_time_with_rows_left():
    parts, governor, spent, _ = drive(20000, FULL, 5.0, 0.001)
    assert governor.left > 0
    assert spent <= 5
    assert passes(parts[-1][1]) == 1


def test_a_slow_start_leaves_nothing_out():
    """Starting devices and processes is no sign of slow images."""
    clock, lines = Clock(), []
    governor = Governor(1000, FULL, 200.0, say=lines.append, clock=clock)
    first = True
    while (taken := governor.take()) is not None:
        part, share = taken
        spent = (20.0 if first else 0.0) + 0.001 * len(part) * passes(share)
        first = False
        clock.now += spent
        governor.measured(len(part), share, spent)
    assert governor.left == 0
    assert lines == []


def test_what_is_given_back_is_handed_out_again():
    governor = Governor(40, FULL, 1e6, say=print)
    part, share = governor.take()
    governor.give_back(part)
    assert governor.left == 40
    again = []
    while (taken := governor.take()) is not None:
        again += list(taken[0])
        governor.measured(len(taken[0]), share, 0.1)
    assert sorted(again) == list(range(40))


@given(rows=st.integers(0, 5000), seconds=st.floats(0.01, 100), cost=st.floats(1e-5, 1e-1))
def test_rows_are_handed_out_once_and_in_order(rows, seconds, cost):
    parts, governor, _, _ = drive(rows, FULL, seconds, cost)
    handed = [row for part, _ in parts for row in part]
    assert handed == list(range(rows - governor.left))
