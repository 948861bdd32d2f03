"""Classes, predictions and fold tables: alignment by name and id, and refusal of what does not fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaggle_kit.errors import ClassMappingError, DataError, FoldError, MissingFileError
from kaggle_kit.fold_names import FULL
from kaggle_kit.tables import Classes, FoldTable, Predictions, read_folds, read_predictions, require_unique, shown

ODD_NAMES = ("id", "NA", "None", "1", "10", "2", "Cat", "cat", 'a "b", c', "é ü", "x y", "fold_1", "label")
names = st.lists(st.sampled_from(ODD_NAMES), min_size=1, unique=True).map(tuple)


class TestClasses:
    @given(names, st.data())
    def test_encode_and_decode_are_inverse(self, given_names: tuple[str, ...], data: st.DataObject) -> None:
        classes = Classes(given_names)
        labels = data.draw(st.lists(st.sampled_from(given_names)))
        assert classes.decode(classes.encode(labels)) == labels

    @given(names, st.randoms())
    def test_order_of_aligns_columns_by_name(self, given_names: tuple[str, ...], random) -> None:
        shuffled = list(given_names)
        random.shuffle(shuffled)
        here, there = Classes(given_names), Classes(tuple(shuffled))
        order = here.order_of(there, here="a", there="b")
        assert [there.names[position] for position in order] == list(here)

    @given(names)
    def test_top_and_above_name_the_column(self, given_names: tuple[str, ...]) -> None:
        classes = Classes(given_names)
        assert classes.top(np.eye(len(classes))) == list(given_names)
        assert classes.above(np.eye(len(classes))) == [(name,) for name in given_names]

    def test_above_takes_a_threshold_per_class_and_includes_equality(self) -> None:
        classes = Classes(("a", "b"))
        probs = [[0.5, 0.5], [0.1, 0.2]]
        assert classes.above(probs, [0.5, 0.6]) == [("a",), ()]
        assert classes.above(probs, [0.5, 0.6], at_least_one=True) == [("a",), ("b",)]

    def test_encode_rows(self) -> None:
        assert Classes(("a", "b", "c")).encode_rows([("c", "a"), (), ("b",)]).tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
        assert Classes(("a", "b")).encode_rows([]).shape == (0, 2)

    def test_fingerprint_depends_on_the_order(self) -> None:
        assert Classes(("a", "b")).fingerprint == Classes(("a", "b")).fingerprint
        assert Classes(("a", "b")).fingerprint != Classes(("b", "a")).fingerprint
        assert Classes(("a,b",)).fingerprint != Classes(("a", "b")).fingerprint

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ((), "needs at least one name"),
            (("a", ""), "non-empty strings, got 'a', ''"),
            ((1, 2), "non-empty strings, got 1, 2"),
            (("a", "b", "a"), "unique, found twice: a"),
        ],
    )
    def test_bad_names(self, wrong: tuple, message: str) -> None:
        with pytest.raises(ClassMappingError, match=message):
            Classes(wrong)

    def test_case_and_number_like_names_stay_apart(self) -> None:
        assert Classes(("cat", "Cat", "1", "01")).encode(["01", "Cat"]).tolist() == [3, 1]

    def test_unknown_label(self) -> None:
        with pytest.raises(ClassMappingError, match=r"label 'x' is none of the 2 classes \(a, b\)"):
            Classes(("a", "b")).encode(["a", "x"])

    @pytest.mark.parametrize("position", [-1, 2])
    def test_decode_does_not_wrap_around(self, position: int) -> None:
        with pytest.raises(ClassMappingError, match=rf"must lie in 0\.\.1, got {position}"):
            Classes(("a", "b")).decode([0, position])

    @pytest.mark.parametrize("shape", [(3,), (2, 3), (1, 2, 2)])
    def test_wrong_number_of_columns(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ClassMappingError, match=r"expected probabilities of shape \(N, 2\)"):
            Classes(("a", "b")).top(np.zeros(shape))

    def test_differences_are_named(self) -> None:
        here = Classes(("a", "b", "c"))
        with pytest.raises(ClassMappingError, match=r"only in kk\.yaml: b; only in run r: x"):
            here.order_of(Classes(("a", "x", "c")), here="kk.yaml", there="run r")
        with pytest.raises(ClassMappingError, match="same classes in another order; column 1: 'b' / 'c', 2: 'c' / 'b'"):
            here.require_same(Classes(("a", "c", "b")), here="kk.yaml", there="run r")
        here.require_same(Classes(("a", "b", "c")), here="kk.yaml", there="run r")


def make_predictions(classes: tuple[str, ...] = ODD_NAMES, ids: tuple[str, ...] = ("0001", "NA", "None", "é,")) -> Predictions:
    probs = np.random.default_rng(0).dirichlet(np.ones(len(classes)), len(ids))
    return Predictions(ids, probs, Classes(classes), {"run": "r", "views": "none"})


class TestPredictions:
    @pytest.mark.parametrize("value", [-1.0, -0.01, 1.5, 100.0, np.nan, np.inf])
    def test_what_is_no_probability_is_refused_by_id(self, value: float) -> None:
        with pytest.raises(DataError, match="b"):
            Predictions(("a", "b"), np.array([[0.5, 0.5], [value, 0.0]]), Classes(("x", "y")))

    def test_float32_may_round_a_probability(self) -> None:
        Predictions(("a",), np.array([[1 + 1e-6, -1e-6]]), Classes(("x", "y")))

    @given(names)
    @settings(max_examples=20, deadline=None)
    def test_file_round_trip(self, tmp_path_factory: pytest.TempPathFactory, given_names: tuple[str, ...]) -> None:
        path = tmp_path_factory.mktemp("predictions") / "oof.parquet"
        written = make_predictions(given_names)
        written.write(path)
        read = read_predictions(path)
        assert read.ids == written.ids
        assert read.classes == written.classes
        assert read.meta == written.meta
        assert read.probs.dtype == np.float32
        np.testing.assert_array_equal(read.probs, written.probs)

    def test_no_rows(self, tmp_path: Path) -> None:
        Predictions((), np.zeros((0, 2)), Classes(("a", "b"))).write(tmp_path / "a.parquet")
        assert len(read_predictions(tmp_path / "a.parquet")) == 0

    def test_take_is_by_id(self) -> None:
        predictions = make_predictions()
        taken = predictions.take(["None", "0001"])
        assert taken.ids == ("None", "0001")
        np.testing.assert_array_equal(taken.probs, predictions.probs[[2, 0]])
        with pytest.raises(DataError, match="test rows lack 1 of 2 ids: 1"):
            predictions.take(["1", "NA"], what="test rows")

    def test_align_moves_columns_with_their_names(self) -> None:
        predictions = make_predictions(("a", "b", "c"))
        aligned = predictions.align(Classes(("c", "a", "b")), here="kk.yaml")
        np.testing.assert_array_equal(aligned.probs, predictions.probs[:, [2, 0, 1]])
        assert aligned.classes.names == ("c", "a", "b")
        with pytest.raises(ClassMappingError, match=r"only in kk\.yaml: d; only in predictions: c"):
            predictions.align(Classes(("a", "b", "d")), here="kk.yaml")

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_only_finite_numbers(self, bad: float) -> None:
        with pytest.raises(DataError, match="NaN or infinite values for 1 ids: y"):
            Predictions(("x", "y"), [[0.5, 0.5], [bad, 0.5]], Classes(("a", "b")))

    def test_shape_and_ids_must_fit(self) -> None:
        with pytest.raises(DataError, match=r"shape \(2, 2\), got \(2, 3\)"):
            Predictions(("x", "y"), np.zeros((2, 3)), Classes(("a", "b")))
        with pytest.raises(DataError, match="found more than once: x"):
            Predictions(("x", "x"), np.zeros((2, 2)), Classes(("a", "b")))

    def test_missing_and_damaged_files(self, tmp_path: Path) -> None:
        path = tmp_path / "oof.parquet"
        with pytest.raises(MissingFileError, match=r"`kk train` writes oof\.parquet"):
            read_predictions(path)
        make_predictions().write(path)
        whole = path.read_bytes()
        for content in (b"", b"junk", whole[: len(whole) // 2]):
            path.write_bytes(content)
            with pytest.raises(DataError, match="not a prediction file of kaggle_kit, or it is damaged"):
                read_predictions(path)

    def test_arrow_reads_a_file_of_its_own(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """One of Python's makes some processes abort when they end, see `files.open_for_arrow`."""
        seen: list[type] = []
        opened = pq.ParquetFile
        monkeypatch.setattr(pq, "ParquetFile", lambda source: seen.append(type(source)) or opened(source))
        make_predictions().write(tmp_path / "a.parquet")
        read_predictions(tmp_path / "a.parquet")
        assert seen == [pa.OSFile]

    def test_a_parquet_file_of_somebody_else(self, tmp_path: Path) -> None:
        import pandas as pd

        pd.DataFrame({"id": ["x"], "a": [0.5]}).to_parquet(tmp_path / "a.parquet")
        with pytest.raises(DataError, match="not a prediction file"):
            read_predictions(tmp_path / "a.parquet")

    def test_renamed_columns_are_noticed(self, tmp_path: Path) -> None:
        import pyarrow.parquet as pq

        path = tmp_path / "oof.parquet"
        make_predictions(("a", "b")).write(path)
        table = pq.ParquetFile(path).read()
        renamed = table.rename_columns(["id", "b", "a"]).replace_schema_metadata(table.schema.metadata)
        pq.write_table(renamed, path)
        with pytest.raises(ClassMappingError, match="are not the classes that the file was written with"):
            read_predictions(path)


def make_table(*, multilabel: bool = False, **changes) -> FoldTable:
    labels = (("a",), ("b",), ("a",), ("b",)) if not multilabel else (("a", "b"), (), ("b",), ("a",))
    parts = {
        "ids": ("0001", "NA", "é,", "x"),
        "labels": labels,
        "groups": np.array([0, 1, 2, 0]),
        "assignments": np.array([[0, 1, 0, -1], [1, 0, 1, -1]]),
        "n_folds": 2,
        "classes": Classes(("b", "a")),
        "multilabel": multilabel,
        "meta": {"seed": 3},
    }
    return FoldTable(**{**parts, **changes})


class TestFoldTable:
    @pytest.mark.parametrize("multilabel", [False, True])
    def test_file_round_trip(self, tmp_path: Path, multilabel: bool) -> None:
        table = make_table(multilabel=multilabel)
        table.write(tmp_path / "folds.csv")
        read = read_folds(tmp_path / "folds.csv")
        assert (read.ids, read.labels, read.n_folds, read.classes) == (table.ids, table.labels, 2, table.classes)
        assert read.meta == table.meta
        assert read.fingerprint == table.fingerprint
        np.testing.assert_array_equal(read.assignments, table.assignments)
        np.testing.assert_array_equal(read.groups, table.groups)

    def test_splits_number_repeats_one_after_the_other(self) -> None:
        table = make_table(groups=np.arange(4))
        assert (table.n_repeats, table.n_splits) == (2, 4)
        parts = [[part.tolist() for part in table.split(split)] for split in range(4)]
        assert parts == [[[1, 3], [0, 2]], [[0, 2, 3], [1]], [[0, 2, 3], [1]], [[1, 3], [0, 2]]]

    def test_a_train_only_row_sits_out_the_fold_of_its_group(self) -> None:
        assert [make_table().split(split)[0].tolist() for split in (0, 1)] == [[1], [0, 2, 3]]

    def test_full_trains_on_all_rows_and_validates_on_none(self) -> None:
        assert [part.tolist() for part in make_table().split(FULL)] == [[0, 1, 2, 3], []]

    @pytest.mark.parametrize("fold", [-2, 4])
    def test_no_such_fold(self, fold: int) -> None:
        with pytest.raises(FoldError, match=rf"fold must lie in 0\.\.3, got {fold}"):
            make_table().split(fold)

    def test_truth(self) -> None:
        assert make_table().truth().tolist() == [1, 0, 1, 0]
        assert make_table().truth(np.array([3, 0])).tolist() == [0, 1]
        assert make_table(multilabel=True).truth().tolist() == [[1, 1], [0, 0], [1, 0], [0, 1]]

    @pytest.mark.parametrize(
        "changes",
        [
            {"ids": ("0001", "NA", "é,", "y")},
            {"labels": (("b",), ("b",), ("a",), ("b",))},
            {"groups": np.array([0, 1, 2, 3])},
            {"assignments": np.array([[0, 1, 1, -1], [1, 0, 1, -1]])},
            {"classes": Classes(("a", "b"))},
        ],
        ids=lambda changes: next(iter(changes)),
    )
    def test_fingerprint_depends_on_all_that_shapes_a_split(self, changes: dict) -> None:
        assert make_table(**changes).fingerprint != make_table().fingerprint
        assert make_table(meta={}).fingerprint == make_table().fingerprint

    @pytest.mark.parametrize(
        ("changes", "error", "message"),
        [
            ({"groups": np.arange(3)}, FoldError, "as many labels, groups and assignments"),
            ({"assignments": np.array([0, 1, 2, 0])}, FoldError, r"folds must lie in -1\.\.1"),
            ({"assignments": np.array([0, 1, -2, 0])}, FoldError, r"folds must lie in -1\.\.1"),
            ({"ids": ("x", "y", "x", "z")}, DataError, "found more than once: x"),
            ({"labels": (("a",), (), ("a", "b"), ("b",))}, FoldError, "exactly one label .* these do not: NA, é,"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, changes: dict, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            make_table(**changes)

    def test_damaged_files(self, tmp_path: Path) -> None:
        path = tmp_path / "folds.csv"
        with pytest.raises(MissingFileError, match="Run `kk folds` first"):
            read_folds(path)
        make_table().write(path)
        content = path.read_text()
        for damaged in (content.replace("id,", "name,", 1), content.replace("group", "g"), content.replace(",-1", ",?")):
            path.write_text(damaged)
            with pytest.raises(FoldError, match="is not a fold table of kaggle_kit"):
                read_folds(path)
        path.write_text(content)
        record = path.with_suffix(".json")
        record.write_text(json.dumps({**json.loads(record.read_text()), "classes": ["a", "b"]}))
        with pytest.raises(FoldError, match="was changed after"):
            read_folds(path)
        record.unlink()
        with pytest.raises(MissingFileError, match=r"folds\.json does not exist"):
            read_folds(path)


def test_require_unique_names_each_id_once() -> None:
    require_unique(["a", "b"], "rows")
    with pytest.raises(DataError, match=r"^rows: ids must be unique, found more than once: a, c\.$"):
        require_unique(["a", "b", "a", "a", "c", "c"], "rows")


def test_shown_stops_after_a_few() -> None:
    assert shown("abc") == "a, b, c"
    assert shown(str(number) for number in range(20)).endswith("7 … and 12 more")


class TestPredictionCells:
    """What pandas or another tool may have made of a prediction file."""

    def damage(self, path: Path, **columns: object) -> Path:
        import pyarrow as pa
        import pyarrow.parquet as pq

        Predictions(("1", "2"), np.full((2, 2), 0.5, np.float32), Classes(("a", "b"))).write(path)
        table = pq.read_table(path)
        for name, values in columns.items():
            table = table.set_column(table.column_names.index(name), name, pa.array(values))
        pq.write_table(table, path)
        return path

    @pytest.mark.parametrize(
        ("columns", "text"),
        [
            ({"id": ["1", None]}, r"'id' holds string with 1 empty cells, expected text"),
            ({"id": [1, 2]}, r"'id' holds int64"),
            ({"a": ["0.5", "x"]}, r"'a' holds string with 0 empty cells, expected floating-point numbers"),
            ({"a": [[0.5], [0.5]]}, r"'a' holds list"),
            ({"b": [0.5, None]}, r"'b' holds double with 1 empty cells"),
            ({"b": [0, 1]}, r"'b' holds int64"),
        ],
    )
    def test_other_types_are_named(self, tmp_path: Path, columns: dict[str, object], text: str) -> None:
        with pytest.raises(DataError, match=text):
            read_predictions(self.damage(tmp_path / "p.parquet", **columns))

    def test_damaged_text_in_it(self, tmp_path: Path) -> None:
        path = self.damage(tmp_path / "p.parquet", id=["row-one", "row-two"])
        path.write_bytes(path.read_bytes().replace(b"row-one", b"row-\xff\xfe\xfd"))
        with pytest.raises(DataError, match=r"p\.parquet"):
            read_predictions(path)
