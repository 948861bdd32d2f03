"""Races leave time for what wins them."""

import math
from dataclasses import replace

from hypothesis import assume, given
from hypothesis import strategies as st

from kaggle_kit.auto.ideas import Candidate
from kaggle_kit.auto.race import race
from kaggle_kit.auto.steps import Step

FOLDS = 5


def candidate(name, seconds, gain=0.25):
    step = Step("train", (), {"run": name, "strategy": "finetune", "fold": "all"})
    return Candidate("finetune", name, "small", step, gain, seconds)


def of_seconds(*seconds):
    return [candidate(f"run{number}", one) for number, one in enumerate(seconds)]


def test_there_is_no_race_where_all_fit_or_only_one_can_be_finished():
    runs = of_seconds(100.0, 100.0)
    assert race(runs, {}, folds=FOLDS, seconds=200.0) == runs
    assert race(runs, {}, folds=FOLDS, seconds=110.0) == runs  # 20 for each of two on one fold, and 80 for the better
    assert race(runs, {}, folds=2, seconds=190.0) == runs


def test_as_many_race_as_leave_time_for_half_of_them():
    runs = of_seconds(*[100.0] * 8)
    # n runs take 20 n seconds on one fold, and the better half of them 80 each for the others.
    for seconds, expected in ((120.0, 2), (219.0, 2), (220.0, 3), (240.0, 4), (480.0, 8)):
        found = race(runs, {}, folds=FOLDS, seconds=seconds)
        assert [one.run for one in found] == [one.run for one in runs[:expected]]
        assert all(one.races and one.seconds == 20.0 for one in found)


def test_those_that_gain_most_a_second_race_and_the_better_half_goes_on():
    runs = [candidate("slow", 200.0), candidate("quick", 100.0), candidate("poor", 100.0, gain=0.1)]
    assert {one.run for one in race(runs, {}, folds=FOLDS, seconds=220.0)} == {"quick", "slow"}
    left = [replace(runs[0], seconds=160.0), replace(runs[1], seconds=80.0), runs[2]]
    (best,) = race(left, {"slow": 0.2, "quick": 0.1}, folds=FOLDS, seconds=160.0)
    assert best.run == "slow"
    assert not best.races


TIMES = st.lists(st.floats(1, 100), min_size=1, max_size=7)


@given(TIMES, st.floats(1, 400), st.integers(3, 10))
def test_a_race_leaves_time_for_all_folds_of_half_of_those_that_race(times, seconds, folds):
    found = race(of_seconds(*times), {}, folds=folds, seconds=seconds)
    assert found
    if not found[0].races:
        assert len(found) == len(times)
        return
    assert len(found) > 1
    others = sorted(((folds - 1) * one.seconds for one in found), reverse=True)
    assert sum(one.seconds for one in found) + sum(others[: math.ceil(len(found) / 2)]) <= seconds + 1e-6


@given(TIMES, st.floats(1, 400), st.integers(2, 10), st.randoms())
def test_something_is_finished_where_anything_fits(times, seconds, folds, random):
    runs = {one.run: one for one in of_seconds(*times)}
    assume(any(one.seconds <= seconds for one in runs.values()))
    raced, finished = {}, []
    while fitting := [one for one in runs.values() if one.seconds <= seconds + 1e-9]:
        chosen = max(race(fitting, raced, folds=folds, seconds=seconds), key=lambda one: one.rate)
        seconds -= chosen.seconds
        if chosen.races:
            raced[chosen.run] = random.uniform(-0.5, 0.5)
            whole = runs[chosen.run]
            runs[chosen.run] = replace(whole, seconds=whole.seconds - chosen.seconds)
        else:
            finished.append(runs.pop(chosen.run).run)
    assert finished
