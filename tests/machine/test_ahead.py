"""Results come in order, a few are computed ahead, and no more than those."""

import threading
from itertools import count

import pytest

from kaggle_kit.machine import ahead as module
from kaggle_kit.machine.ahead import ahead

PATIENCE = 30  # seconds that nothing here should take


def test_results_come_in_the_order_of_the_items():
    second_is_done = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            assert second_is_done.wait(PATIENCE)  # the first ends after the second
        if item == 1:
            second_is_done.set()
        return item * item

    assert list(ahead(work, range(20))) == [item * item for item in range(20)]


def test_nothing_of_nothing():
    assert list(ahead(str, [])) == []


@pytest.fixture(autouse=True)
def two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "available_cpus", lambda: 2)


def test_the_next_are_begun_while_one_is_used_and_no_more():
    begun = threading.Semaphore(0)
    taken: list[int] = []

    def items():
        for item in count():
            taken.append(item)
            yield item

    results = ahead(lambda item: (begun.release(), item)[1], items())
    assert next(results) == 0
    for _ in range(3):
        assert begun.acquire(timeout=PATIENCE)
    assert taken == [0, 1, 2]
    results.close()
    assert not begun.acquire(blocking=False)


def test_many_cpus_do_not_take_the_memory_of_many(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "available_cpus", lambda: 64)
    taken = []
    results = ahead(str, (taken.append(item) or item for item in count()))
    next(results)
    assert len(taken) == module.MOST_THREADS + 1
    results.close()


def test_an_error_is_raised_in_its_turn_and_nothing_more_is_begun():
    begun = []

    def work(item: int) -> int:
        begun.append(item)
        return 1 // (item - 1)

    results = ahead(work, range(100))
    assert next(results) == -1
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert max(begun) <= 3
    assert next(results, None) is None
