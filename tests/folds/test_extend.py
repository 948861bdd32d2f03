"""Tables that are extended by new rows: old rows stay, new ones join their group or are dealt class by class."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_folds import competitions, duplicates_of, make_competition, make_rows

from kaggle_kit.competition import Competition
from kaggle_kit.config import FoldsConfig
from kaggle_kit.errors import FoldError
from kaggle_kit.folds import create_folds, make_folds
from kaggle_kit.tables import FoldTable
from kaggle_kit.workspace import Workspace

CONFIG = FoldsConfig(n_folds=3, duplicates="off")


def fold_of(table: FoldTable, repeat: int = 0) -> dict[str, int]:
    return dict(zip(table.ids, table.assignments[repeat].tolist(), strict=True))


def with_more(competition: Competition, count: int) -> Competition:
    """Every row again, under a new id and without a group."""
    more = [dataclasses.replace(row, id=f"new {row.id}", group=None) for row in competition.train[:count]]
    return dataclasses.replace(competition, train=(*competition.train, *more))


@settings(max_examples=40, deadline=None)
@given(competitions(), st.integers(0, 8), st.sampled_from([1, 2]))
def test_old_rows_keep_their_folds_and_new_ones_are_in_one(competition: Competition, count: int, repeats: int) -> None:
    before = make_folds(competition, CONFIG.model_copy(update={"repeats": repeats}))
    grown = with_more(competition, count)
    table = make_folds(grown, CONFIG, before=before)
    assert table.n_folds == before.n_folds
    assert table.n_repeats == repeats
    new_kept = {row.id for row in grown.train[len(competition.train) :] if not row.train_only}
    for repeat in range(repeats):
        old, now = fold_of(before, repeat), fold_of(table, repeat)
        assert {row_id: now[row_id] for row_id in old} == old
        assert all(0 <= now[row_id] < 3 for row_id in new_kept)
    assert make_folds(grown, CONFIG, before=before).fingerprint == table.fingerprint
    for fold in range(table.n_splits):
        trained, valid = table.split(fold)
        assert not set(table.groups[trained]) & set(table.groups[valid])


def test_new_rows_are_dealt_class_by_class() -> None:
    competition = make_competition(make_rows(["ant"] * 12 + ["Cat"] * 12))
    before = make_folds(competition, CONFIG)
    table = make_folds(with_more(competition, 24), CONFIG, before=before)
    counts = np.zeros((2, 3), dtype=int)
    for label, fold in zip(table.labels, table.assignments[0], strict=True):
        counts[int(label == ("Cat",)), fold] += 1
    assert counts.tolist() == [[8, 8, 8], [8, 8, 8]]
    assert table.meta["extends"] == before.fingerprint
    assert table.meta["scheme"] == "stratified (extended)"
    again = make_folds(with_more(competition, 24), CONFIG, before=table)
    assert again.meta["scheme"] == "stratified (extended)"


def test_a_hold_out_goes_on_holding_out_its_share() -> None:
    competition = make_competition(make_rows(["ant", "Cat"] * 20))
    config = FoldsConfig(scheme="holdout", holdout=0.25, duplicates="off")
    before = make_folds(competition, config)
    table = make_folds(with_more(competition, 40), config, before=before)
    assert np.bincount(table.assignments[0] + 1).tolist() == [60, 20]


def test_a_twin_of_an_old_row_joins_it_and_one_of_two_folds_leaks_nothing() -> None:
    competition = make_competition(make_rows(["ant", "Cat"] * 6))
    before = make_folds(competition, CONFIG)
    old = fold_of(before)
    one = next(row_id for row_id, fold in old.items() if fold == 0)
    other = next(row_id for row_id, fold in old.items() if fold == 1)
    grown = with_more(competition, 2)
    joined = make_folds(grown, CONFIG, before=before, duplicates=duplicates_of((one, "new 0000")))
    assert fold_of(joined)["new 0000"] == 0
    bridged = make_folds(grown, CONFIG, before=before, duplicates=duplicates_of((one, other, "new 0000")))
    assert fold_of(bridged)[other] == 1
    trained, _ = bridged.split(0)
    assert other not in {bridged.ids[row] for row in trained}


def test_a_table_of_other_data_is_not_extended(tmp_path) -> None:
    before = make_folds(make_competition(make_rows(["ant", "Cat"] * 6)), CONFIG)
    strange = make_competition([dataclasses.replace(row, id=f"x{row.id}") for row in make_rows(["ant", "Cat"] * 6)])
    with pytest.raises(FoldError, match="none of these ids"):
        make_folds(strange, CONFIG, before=before)
    workspace = Workspace(tmp_path)
    before.write(workspace.folds_path("old"))
    grown = with_more(make_competition(make_rows(["ant", "Cat"] * 6)), 3)
    made = create_folds(workspace, grown, CONFIG, name="new", extend="old")
    assert made.meta["extends"] == before.fingerprint
    assert len(made) == 15
