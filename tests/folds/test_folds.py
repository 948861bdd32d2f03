"""Fold tables: every row once, groups whole, the same bytes for the same seed, and refusal of other data."""

from __future__ import annotations

import dataclasses
import logging
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaggle_kit.choices import SCHEMES
from kaggle_kit.competition import Competition, ImageRow
from kaggle_kit.config import FoldsConfig, SubmissionConfig
from kaggle_kit.errors import ClassMappingError, FoldError, MissingFileError
from kaggle_kit.folds import Duplicates, balance_table, create_folds, folds_for, make_folds, summary
from kaggle_kit.tables import Classes, read_folds
from kaggle_kit.workspace import Workspace

NAMES = ("ant", "bee, the", "Cat", "cat")


def make_competition(rows: Sequence[ImageRow], *, task: str = "multiclass", names: Sequence[str] = NAMES) -> Competition:
    return Competition("zoo", task, "accuracy", Classes(tuple(names)), tuple(rows), (), SubmissionConfig(), None, "f00d")


def make_rows(labels: Sequence[str], *, groups: Sequence[str | None] | None = None) -> list[ImageRow]:
    groups = groups or [None] * len(labels)
    pairs = enumerate(zip(labels, groups, strict=True))
    return [ImageRow(f"{row:04d}", Path(f"{row}.png"), (label,), group) for row, (label, group) in pairs]


def duplicates_of(*groups: Sequence[str]) -> Duplicates:
    return Duplicates("near", tuple(tuple(("train", row_id) for row_id in group) for group in groups))


@st.composite
def competitions(draw: st.DrawFn) -> Competition:
    """Any rows: some in groups, some train-only, some with folds of their own; single- or multi-label."""
    multilabel = draw(st.booleans())
    name = st.sampled_from(NAMES)
    labels = st.lists(name, unique=True, max_size=3) if multilabel else st.lists(name, min_size=1, max_size=1)
    group = st.sampled_from([None, None, "g1", "g2", "g3"])
    count = draw(st.integers(8, 30))
    rows = [
        ImageRow(
            f"{row:02d}",
            Path(f"{row}.png"),
            tuple(draw(labels)),
            draw(group),
            train_only=row >= 8 and draw(st.booleans()),
            fold=row % 3,
        )
        # Eight rows of their own, so that five folds are always possible.
        if row >= 8
        else ImageRow(f"{row:02d}", Path(f"{row}.png"), tuple(draw(labels)), fold=row % 3)
        for row in range(count)
    ]
    return make_competition(rows, task="multilabel" if multilabel else "multiclass")


@st.composite
def found(draw: st.DrawFn) -> Duplicates | None:
    if draw(st.booleans()):
        return None
    groups = draw(st.lists(st.integers(0, 7), min_size=2, max_size=3, unique=True))
    return duplicates_of([f"{row:02d}" for row in sorted(groups)])


@pytest.mark.parametrize("scheme", [*SCHEMES, "auto"])
@given(competition=competitions(), duplicates=found(), seed=st.integers(0, 3))
@settings(max_examples=25, deadline=None)
def test_every_scheme(scheme: str, competition: Competition, duplicates: Duplicates | None, seed: int) -> None:
    repeats = 1 if scheme == "column" else 2
    config = FoldsConfig(scheme=scheme, n_folds=3, repeats=repeats, seed=seed, holdout=0.3)
    groups = {row.group for row in competition.train} - {None}
    if "group" in scheme and not groups and duplicates is None:
        with pytest.raises(FoldError, match="needs groups"):
            make_folds(competition, config, duplicates=duplicates)
        return
    table = make_folds(competition, config, duplicates=duplicates)
    rows = {row.id: row for row in competition.train}
    assert table.ids == tuple(sorted(rows))
    assert table.n_repeats == repeats
    train_only = np.array([rows[row_id].train_only for row_id in table.ids])
    for repeat in range(repeats):
        valid = np.concatenate([table.split(repeat * table.n_folds + fold)[1] for fold in range(table.n_folds)])
        assert len(valid) == len(set(valid.tolist()))
        assert not train_only[valid].any()
        if scheme not in ("holdout", "column"):
            assert set(valid.tolist()) == set(np.flatnonzero(~train_only).tolist())
    together = [*duplicates.train_groups()] if duplicates else []
    together += [tuple(row.id for row in competition.train if row.group == group) for group in groups]
    where = {row_id: position for position, row_id in enumerate(table.ids)}
    for split in range(table.n_splits):
        train, valid = (set(part.tolist()) for part in table.split(split))
        assert valid
        assert not train & valid
        for ids in together:
            members = {where[row_id] for row_id in ids}
            assert not (members & train and members & valid)


@pytest.mark.parametrize("scheme", [*SCHEMES, "auto"])
def test_same_seed_same_bytes_whatever_the_order(scheme: str, tmp_path: Path) -> None:
    labels = random.Random(0).choices(NAMES, k=60)
    rows = [dataclasses.replace(row, fold=int(row.id) % 3) for row in make_rows(labels)]
    config = FoldsConfig(scheme=scheme, n_folds=4, repeats=1 if scheme == "column" else 2, seed=7)
    duplicates = duplicates_of(("0001", "0002"), ("0007", "0009", "0011"))
    written = []
    for shuffle in range(3):
        random.Random(shuffle).shuffle(rows)
        workspace = Workspace(tmp_path / str(shuffle))
        create_folds(workspace, make_competition(rows), config, duplicates=duplicates)
        path = workspace.folds_path("folds")
        written.append((path.read_bytes(), path.with_suffix(".json").read_bytes()))
    assert written[0] == written[1] == written[2]


def test_another_seed_and_another_repeat_give_other_folds() -> None:
    competition = make_competition(make_rows(["ant", "Cat"] * 30))
    first, second = (make_folds(competition, FoldsConfig(seed=seed, repeats=2)) for seed in (0, 1))
    assert first.assignments[0].tolist() != second.assignments[0].tolist()
    assert first.assignments[0].tolist() != first.assignments[1].tolist()


def test_more_repeats_keep_the_first() -> None:
    competition = make_competition(make_rows(["ant", "Cat"] * 30))
    once, twice = (make_folds(competition, FoldsConfig(repeats=repeats)) for repeats in (1, 2))
    assert once.assignments[0].tolist() == twice.assignments[0].tolist()


@pytest.mark.parametrize(
    ("task", "groups", "duplicates", "expected"),
    [
        ("multiclass", False, None, "stratified"),
        ("multiclass", False, duplicates_of(), "stratified"),
        ("multiclass", False, duplicates_of(("0000", "0001")), "stratified-group"),
        ("multiclass", True, None, "stratified-group"),
        ("multilabel", True, None, "multilabel"),
    ],
)
def test_auto(task: str, groups: bool, duplicates: Duplicates | None, expected: str) -> None:
    rows = make_rows(["ant", "cat"] * 10, groups=[str(row) for row in range(20)] if groups else None)
    table = make_folds(make_competition(rows, task=task), FoldsConfig(), duplicates=duplicates)
    assert table.meta["scheme"] == expected


def test_rare_classes_are_named_and_spread(caplog: pytest.LogCaptureFixture) -> None:
    rows = make_rows(["ant"] * 20 + ["bee, the"] * 3 + ["cat"])
    with caplog.at_level(logging.WARNING):
        table = make_folds(make_competition(rows), FoldsConfig())
    rare, absent = "bee, the (3), cat (1)", "1 of 4 classes have no row to validate on: Cat"
    assert any(rare in warning and "fewer members" in warning for warning in table.meta["warnings"])
    assert any(absent in warning for warning in table.meta["warnings"])
    assert rare in caplog.text
    assert absent in caplog.text
    assert sorted(balance_table(table).loc["bee, the"]) == [0, 0, 1, 1, 1]


def test_duplicates_of_a_class_count_once_against_the_folds() -> None:
    rows = make_rows(["ant"] * 20 + ["cat"] * 6, groups=[None] * 20 + ["g"] * 6)
    table = make_folds(make_competition(rows), FoldsConfig())
    assert any("cat (1)" in warning for warning in table.meta["warnings"])


def test_train_only_rows_sit_out_the_fold_of_their_duplicate() -> None:
    rows = make_rows(["ant", "cat"] * 10)
    rows.append(ImageRow("extra", Path("extra.png"), ("ant",), train_only=True))
    rows.append(ImageRow("other", Path("other.png"), ("cat",), train_only=True))
    table = make_folds(make_competition(rows), FoldsConfig(), duplicates=duplicates_of(("0004", "extra")))
    held = next(fold for fold in range(5) if table.ids.index("0004") in table.split(fold)[1])
    for fold in range(5):
        trained = {table.ids[row] for row in table.split(fold)[0]}
        assert ("extra" in trained) == (fold != held)
        assert "other" in trained
    assert any("sit out" in warning and "extra" in warning for warning in table.meta["warnings"])


def test_column_takes_the_folds_of_the_data() -> None:
    rows = [
        dataclasses.replace(row, fold=fold) for row, fold in zip(make_rows(["ant"] * 6), [3, 1, 3, 1, None, 9], strict=True)
    ]
    table = make_folds(make_competition(rows), FoldsConfig(scheme="column"))
    assert table.assignments.tolist() == [[1, 0, 1, 0, -1, 2]]
    assert not any("moved" in warning for warning in table.meta["warnings"])


def test_column_says_which_rows_were_moved_to_their_duplicates() -> None:
    rows = [dataclasses.replace(row, fold=int(row.id) % 2) for row in make_rows(["ant"] * 8)]
    table = make_folds(make_competition(rows), FoldsConfig(scheme="column"), duplicates=duplicates_of(("0000", "0001", "0002")))
    assert table.assignments[0].tolist() == [0, 0, 0, 1, 0, 1, 0, 1]
    assert any("1 rows were moved" in warning and "0001" in warning for warning in table.meta["warnings"])


def test_holdout_validates_on_its_share_of_each_class() -> None:
    table = make_folds(make_competition(make_rows(["ant"] * 40 + ["cat"] * 10)), FoldsConfig(scheme="holdout", holdout=0.2))
    assert table.n_splits == 1
    assert balance_table(table).loc[["ant", "cat"], "fold 0"].tolist() == [8, 2]
    assert balance_table(table).loc[["ant", "cat"], "never"].tolist() == [32, 8]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (FoldsConfig(n_folds=1), r"n_folds must be >= 2, got 1; pass --n-folds 5"),
        (FoldsConfig(n_folds=9), r"9 folds need at least as many groups of rows .* found 8 \(8 rows\)"),
        (FoldsConfig(scheme="group"), "needs groups: set group_column"),
        (FoldsConfig(scheme="column"), "found none. Set fold_column"),
        (FoldsConfig(scheme="column", repeats=2), "repeats must be 1, got 2"),
        (FoldsConfig(scheme="holdout", holdout=0.01), "leaves one side empty"),
    ],
)
def test_impossible_folds_are_refused(config: FoldsConfig, message: str) -> None:
    with pytest.raises(FoldError, match=message):
        make_folds(make_competition(make_rows(["ant", "cat"] * 4)), config)


def test_unknown_scheme_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ValueError, match="Did you mean 'stratified'"):
        make_folds(make_competition(make_rows(["ant"] * 8)), FoldsConfig(scheme="stratifed"))


def test_nothing_to_validate_on_is_refused() -> None:
    rows = [dataclasses.replace(row, train_only=True) for row in make_rows(["ant"] * 8)]
    with pytest.raises(FoldError, match="no training rows to validate on, found 8 train-only rows"):
        make_folds(make_competition(rows), FoldsConfig())


def test_duplicates_of_other_data_are_refused() -> None:
    with pytest.raises(FoldError, match="these ids are no training rows: nowhere"):
        make_folds(make_competition(make_rows(["ant"] * 8)), FoldsConfig(), duplicates=duplicates_of(("0001", "nowhere")))


def test_ids_and_labels_survive_the_file(tmp_path: Path) -> None:
    names = ("NA", "None", "0001", 'a "quoted", name', "é")
    rows = [
        ImageRow(row_id, Path("x.png"), (name,))
        for row_id, name in zip(("0001", "NA", "None", "1e5", "é,"), names, strict=True)
    ]
    competition = make_competition(rows, names=names)
    workspace = Workspace(tmp_path)
    table = create_folds(workspace, competition, FoldsConfig(n_folds=2, duplicates="off"))
    read = folds_for(workspace, competition, "folds")
    assert dict(zip(read.ids, read.labels, strict=True)) == {row.id: row.labels for row in rows}
    assert read.fingerprint == table.fingerprint
    assert read.meta == table.meta


def test_duplicates_that_nobody_looked_for_are_no_silent_leak(tmp_path: Path) -> None:
    with pytest.raises(FoldError, match="find_competition_duplicates"):
        create_folds(Workspace(tmp_path), make_competition(make_rows(["ant", "cat"] * 5)), FoldsConfig(n_folds=2))
    assert not Workspace(tmp_path).folds_path("folds").exists()


class TestFoldsFor:
    """Folds of other data are refused, saying what differs."""

    @pytest.fixture
    def workspace(self, tmp_path: Path) -> Workspace:
        workspace = Workspace(tmp_path)
        create_folds(workspace, make_competition(self.rows), FoldsConfig(n_folds=2, duplicates="off"))
        return workspace

    rows = make_rows(["ant", "cat"] * 5)

    def test_missing(self, workspace: Workspace) -> None:
        with pytest.raises(MissingFileError, match="Run `kk folds` first"):
            folds_for(workspace, make_competition(self.rows), "others")

    def test_of_another_competition(self, workspace: Workspace) -> None:
        other = dataclasses.replace(make_competition(self.rows), name="garden")
        with pytest.raises(FoldError, match="made for competition 'zoo', but this is 'garden'"):
            folds_for(workspace, other, "folds")

    def test_other_ids(self, workspace: Workspace) -> None:
        rows = [*self.rows[1:], ImageRow("new", Path("x.png"), ("ant",))]
        with pytest.raises(FoldError, match="1 no longer in the data: 0000; 1 new in the data: new"):
            folds_for(workspace, make_competition(rows), "folds")

    def test_other_labels(self, workspace: Workspace) -> None:
        rows = [dataclasses.replace(self.rows[0], labels=("Cat",)), *self.rows[1:]]
        with pytest.raises(FoldError, match="labels of 1 rows have changed since: 0000"):
            folds_for(workspace, make_competition(rows), "folds")

    def test_other_order_of_classes(self, workspace: Workspace) -> None:
        with pytest.raises(ClassMappingError, match="'ant' / 'cat'"):
            folds_for(workspace, make_competition(self.rows, names=NAMES[::-1]), "folds")

    def test_edited_file(self, workspace: Workspace) -> None:
        path = workspace.folds_path("folds")
        lines = path.read_text().splitlines()
        row_id, label, group, fold = lines[2].split(",")
        lines[2] = ",".join([row_id, label, group, str(1 - int(fold))])
        path.write_text("\n".join(lines) + "\n")
        with pytest.raises(FoldError, match="was changed after"):
            read_folds(path)


def test_summary_lists_what_wants_a_decision() -> None:
    rows = make_rows(["ant"] * 5 + ["cat"] * 5)
    duplicates = Duplicates(
        "near",
        groups=((("test", "t1"), ("train", "0004"), ("train", "0005")), (("train", "0001"), ("train", "0002"))),
        unreadable={("test", "t9"): "truncated"},
        warnings=("a chain of look-alikes",),
    )
    text = "\n".join(summary(make_folds(make_competition(rows), FoldsConfig(n_folds=2), duplicates=duplicates)))
    assert "2 folds, scheme stratified-group, seed 0, 10 rows" in text
    assert "duplicates (near): 4 training images in 2 groups" in text
    assert "0004 (ant), 0005 (cat)" in text
    assert "0001 (ant)" not in text
    assert "training images that also stand in the test set (2; training = test)" in text
    assert "0004, 0005 = t1" in text
    assert "cannot be read and were not compared (1): test t9" in text
    assert "warning: a chain of look-alikes" in text


def test_summary_without_a_search() -> None:
    lines = summary(make_folds(make_competition(make_rows(["ant"] * 8)), FoldsConfig(repeats=2)))
    assert "5 folds x 2 repeats" in lines[0]
    assert lines[-1] == "duplicates: not looked for."


def test_balance_counts_every_label_of_a_row() -> None:
    rows = [ImageRow(f"{row}", Path("x.png"), ("ant", "cat") if row % 2 else ()) for row in range(8)]
    frame = balance_table(make_folds(make_competition(rows, task="multilabel"), FoldsConfig(n_folds=2)))
    assert list(frame.index) == list(NAMES)
    assert frame.loc["ant"].tolist() == frame.loc["cat"].tolist() == [2, 2]
    assert frame.loc["Cat"].tolist() == [0, 0]


def test_folds_start_without_torch() -> None:
    import subprocess
    import sys

    code = "import sys, kaggle_kit.folds; sys.exit(bool({'torch', 'cv2', 'sklearn', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
