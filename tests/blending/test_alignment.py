from __future__ import annotations

import numpy as np
import pytest

from kaggle_kit.blending import align_runs, alignment
from kaggle_kit.errors import ClassMappingError, DataError
from kaggle_kit.tables import Classes, Predictions

CLASSES = Classes(("a", "b", "c"))


def predictions(ids, classes=CLASSES, seed=0):
    """Probabilities that depend on id and class name only, so that the same cell is the same number in any order."""
    cells = [[(hash_of(row_id) * 7 + hash_of(name) * 3 + seed) % 97 for name in classes] for row_id in ids]
    return Predictions(tuple(ids), np.array(cells, dtype=np.float32) / 97, classes)


def hash_of(text):
    return sum(ord(mark) for mark in text)


def test_rows_and_columns_are_matched_by_name():
    other = Classes(("c", "a", "b"))
    aligned = align_runs([("one", predictions("xyz")), ("two", predictions("zxy", other))], CLASSES)
    assert aligned.ids == ("x", "y", "z")
    np.testing.assert_array_equal(aligned.stack[0], aligned.stack[1])
    assert aligned.dropped == 0


def test_other_classes_are_named():
    with pytest.raises(ClassMappingError, match="only in run two: d"):
        align_runs([("one", predictions("x")), ("two", predictions("x", Classes(("a", "b", "d"))))], CLASSES)


def test_differing_ids_are_refused_and_named():
    with pytest.raises(DataError, match=r"two lacks 1 ids of one \(z\); two has 1 ids that one lacks \(q\)"):
        align_runs([("one", predictions("xyz")), ("two", predictions("xyq"))], CLASSES)


def test_common_keeps_what_all_hold():
    named = [("one", predictions("xyz")), ("two", predictions("qyx")), ("three", predictions("yxz"))]
    aligned = align_runs(named, CLASSES, common=True)
    assert aligned.ids == ("x", "y")
    assert aligned.dropped == 2
    for probs in aligned.stack:
        np.testing.assert_array_equal(probs, predictions("xy").probs)


def test_nothing_in_common_is_refused_even_then():
    with pytest.raises(DataError, match="no id in common"):
        align_runs([("one", predictions("xy")), ("two", predictions("pq"))], CLASSES, common=True)


def test_no_runs():
    with pytest.raises(DataError, match="no runs were given"):
        align_runs([], CLASSES)


def test_a_large_stack_lies_in_a_file_and_holds_the_same(monkeypatch, tmp_path):
    named = [("one", predictions("xyz")), ("two", predictions("zxy", seed=5))]
    small = align_runs(named, CLASSES, n_runs=2)
    monkeypatch.setattr(alignment, "MEMORY_BYTES", 10)
    large = align_runs(iter(named), CLASSES, n_runs=2, scratch=tmp_path / "cache")
    assert all(isinstance(probs, np.memmap) for probs in large.stack)
    np.testing.assert_array_equal(np.stack(large.stack), np.stack(small.stack))
    assert not list((tmp_path / "cache").iterdir())  # nameless: nothing to clean up
