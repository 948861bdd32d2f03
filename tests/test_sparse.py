"""Sparse rows do what the whole table does: each operation is tried on both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kaggle_kit import sparse
from kaggle_kit.errors import DataError
from kaggle_kit.inference.several import merged, owners_of
from kaggle_kit.metrics import get_metric
from kaggle_kit.sparse import SparseRows, arranged, combined, ranking, together, with_column
from kaggle_kit.tables import Classes, Predictions, read_predictions

ROWS, CLASSES, KEPT = 40, 30, 6


def table(seed: int = 0) -> tuple[SparseRows, np.ndarray]:
    """Sparse rows, and the whole table that they stand for."""
    dense = np.random.default_rng(seed).dirichlet(np.full(CLASSES, 0.1), ROWS)
    rows = SparseRows.largest(dense, KEPT)
    return rows, np.asarray(rows)


def test_the_largest_stay_and_the_others_share_the_rest_evenly() -> None:
    dense = np.random.default_rng(3).dirichlet(np.full(CLASSES, 0.1), ROWS).astype(np.float32)
    rows = SparseRows.largest(dense, KEPT)
    np.testing.assert_allclose(np.asarray(rows).sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(rows.argmax(), dense.argmax(axis=1))
    for row, whole in zip(np.asarray(rows), dense, strict=True):
        kept = np.argsort(-whole)[:KEPT]
        np.testing.assert_array_equal(row[kept], whole[kept])
        others = np.delete(row, kept)
        assert np.ptp(others) == 0
        assert others[0] <= row[kept].min()


@pytest.mark.parametrize(
    "operation",
    [
        lambda one, other: 0.3 * one + 0.7 * other,
        lambda one, other: np.log(np.clip(one, 1e-7, 1.0)) - other,
        lambda one, other: one / np.maximum(other.sum(axis=1, keepdims=True), 1e-9),
        lambda one, other: np.abs(one - other),
        lambda one, other: (one >= 0.01).astype(float) * other,
        lambda one, other: one[np.arange(ROWS)[::-1]] * other,
        lambda one, other: one[:, np.arange(CLASSES)[::-1]] + other,
        lambda one, other: one[5:20],
        lambda one, other: one[:, [4, 0, 9]],
        lambda one, other: one[:, 7],
        lambda one, other: one[np.arange(ROWS), np.arange(ROWS) % CLASSES],
        lambda one, other: one[3],
        lambda one, other: (one + other).sum(axis=0),
        lambda one, other: (one - other).sum(axis=1),
        lambda one, other: (one - other).max(axis=1),
        lambda one, other: (one - other).min(),
        lambda one, other: (one > other).any(axis=1),
        lambda one, other: (one <= 1.0).all(),
        lambda one, other: together([one, one + other]),
        lambda one, other: arranged([(np.arange(ROWS)[::2], one[::2]), (np.arange(ROWS)[1::2], (one + other)[1::2])]),
        lambda one, other: combined(np.maximum, [(np.array([4, 0]), one[:2]), (np.array([0, 2]), other[:2])], 5),
        lambda one, other: with_column(one, 7, 0.25),
        lambda one, other: ranking(one, 4),
        lambda one, other: (one * other).argmax(axis=1),
        lambda one, other: (1 - one).argmax(axis=1),
        lambda one, other: one + np.asarray(other),
    ],
)
def test_each_operation_gives_what_it_gives_of_the_whole_table(operation) -> None:
    (one, whole_one), (other, whole_other) = table(0), table(1)
    np.testing.assert_allclose(np.asarray(operation(one, other)), operation(whole_one, whole_other), atol=1e-12)


def test_a_table_whose_columns_are_all_held_has_no_others() -> None:
    full = SparseRows(np.arange(3)[None], [[-1.0, -2.0, -3.0, 9.0]], 3)
    assert full.max() == -1
    assert full.argmax().tolist() == [0]
    assert full.sum() == -6


def test_of_equals_the_first_column_wins_whether_it_is_held_or_not() -> None:
    rows = SparseRows([[1, 4], [0, 2]], [[0.2, 0.1, 0.2], [0.1, 0.3, 0.3]], 6)
    assert rows.argmax().tolist() == np.asarray(rows).argmax(axis=1).tolist() == [0, 1]


def test_a_whole_table_beyond_memory_is_refused_with_the_reason() -> None:
    rows = SparseRows(np.zeros((1_000_000, 1)), np.zeros((1_000_000, 2), dtype=np.float32), 64_500)
    with pytest.raises(DataError, match=r"1,000,000 rows and 64,500 classes"):
        np.asarray(rows)


@pytest.mark.parametrize(
    "name", ["accuracy", "f1_macro", "map_5", "top_3_error", "log_loss", "balanced_accuracy", "roc_auc_columns"]
)
def test_a_metric_scores_them_as_it_scores_the_whole_table(name: str) -> None:
    rows, whole = table(2)
    truth = np.random.default_rng(0).integers(0, CLASSES, ROWS)
    assert get_metric(name)(truth, rows) == pytest.approx(get_metric(name)(truth, whole), abs=1e-12)


@pytest.mark.parametrize("rule", ["mean", "max"])
def test_images_of_one_id_become_one_row_as_of_whole_tables(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparse, "KEPT", CLASSES)
    rows, whole = table()
    owners = owners_of([(f"i{at % 7 if at < 30 else at}", Path("some.png")) for at in range(ROWS)])
    np.testing.assert_allclose(
        np.asarray(merged(rows, owners, rule, "multiclass")), merged(whole, owners, rule, "multiclass"), atol=1e-6
    )


class TestFiles:
    def written(self, tmp_path) -> tuple[Predictions, Predictions]:
        rows, _ = table()
        classes = Classes(tuple(f"c{at}" for at in range(CLASSES)))
        made = Predictions(
            tuple(f"r{at}" for at in range(ROWS)), rows, classes, {"fold": 1}, np.ones((ROWS, 2), dtype=np.uint64)
        )
        made.write(tmp_path / "some.parquet")
        return made, read_predictions(tmp_path / "some.parquet")

    def test_come_back_as_they_were(self, tmp_path) -> None:
        made, back = self.written(tmp_path)
        assert isinstance(back.probs, SparseRows)
        assert (back.ids, back.classes, back.meta) == (made.ids, made.classes, made.meta)
        np.testing.assert_array_equal(np.asarray(back.probs), np.asarray(made.probs))
        np.testing.assert_array_equal(back.pixels, made.pixels)

    def test_are_aligned_and_taken_by_name(self, tmp_path) -> None:
        _, back = self.written(tmp_path)
        turned = back.align(Classes(back.classes.names[::-1]), here="here").take(["r5", "r2"])
        np.testing.assert_array_equal(np.asarray(turned.probs), np.asarray(back.probs)[[5, 2]][:, ::-1])
        assert turned.to_frame()["predicted"].tolist() == [back.to_frame()["predicted"][row] for row in (5, 2)]

    def test_positions_out_of_order_are_refused(self, tmp_path) -> None:
        rows, _ = table()
        bad = SparseRows(rows.columns[:, ::-1], rows.cells, CLASSES)
        classes = Classes(tuple(f"c{at}" for at in range(CLASSES)))
        Predictions(tuple(f"r{at}" for at in range(ROWS)), bad, classes).write(tmp_path / "bad.parquet")
        with pytest.raises(DataError, match="positions of the classes"):
            read_predictions(tmp_path / "bad.parquet")

    def test_few_classes_stay_whole(self) -> None:
        assert sparse.kept_columns(sparse.DENSE_CLASSES) == 0
        assert sparse.kept_columns(sparse.DENSE_CLASSES + 1) == sparse.KEPT
        assert sparse.kept_columns(10 * sparse.DENSE_CLASSES, multilabel=True) == 0
