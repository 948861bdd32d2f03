"""Making the fold table of a competition, and reading it back."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kaggle_kit import files
from kaggle_kit.choices import SCHEMES
from kaggle_kit.competition import Competition, ImageRow
from kaggle_kit.config import FoldsConfig
from kaggle_kit.errors import FoldError
from kaggle_kit.folds.duplicates import Duplicates, connected
from kaggle_kit.folds.extend import extended, scheme_of
from kaggle_kit.folds.keep import write_folds
from kaggle_kit.folds.schemes import Material, given_fold
from kaggle_kit.folds.stratify import Counts, Units
from kaggle_kit.tables import Classes, FoldTable, read_folds, shown
from kaggle_kit.workspace import Workspace

logger = logging.getLogger(__name__)

_AUTO = "auto"
_SHAPING = ("kaggle_kit", "numpy")


def create_folds(
    workspace: Workspace,
    competition: Competition,
    config: FoldsConfig,
    *,
    name: str = "folds",
    duplicates: Duplicates | None = None,
    extend: str | None = None,
    force: bool = False,
) -> FoldTable:
    """Make the folds and write ``folds/<name>.csv`` and ``.json``; see :func:`make_folds`.

    The files hold no times and do not depend on the order in which images were listed: the same seed gives the same bytes.

    Args:
        extend: name of a table whose rows keep their folds; see :func:`make_folds`.
        force: change a table on which runs rest; the old one is kept beside it as ``<name>-<number>.csv``.

    Raises:
        FoldError: runs rest on the table that is there, and it would change; names them. Or ``config.duplicates`` asks for
            duplicates to be kept together, and nobody looked for them.
    """
    if config.duplicates != "off" and duplicates is None:
        raise FoldError(
            f"folds with duplicates={config.duplicates!r} need to know them: pass duplicates=find_competition_duplicates("
            "competition, config.folds) of kaggle_kit.images.duplicates, or set duplicates to 'off'."
        )
    before = None if extend is None else read_folds(workspace.folds_path(extend))
    return write_folds(workspace, make_folds(competition, config, duplicates=duplicates, before=before), name, force=force)


def check_settings(config: FoldsConfig) -> None:
    """Refuse settings that no data could satisfy, before the images are compared.

    Raises:
        FoldError: too few folds.
    """
    if config.n_folds < 2 and config.scheme not in ("holdout", "column"):
        raise FoldError(f"n_folds must be >= 2, got {config.n_folds}; pass --n-folds 5, or --scheme holdout for one fold.")


def make_folds(
    competition: Competition, config: FoldsConfig, *, duplicates: Duplicates | None = None, before: FoldTable | None = None
) -> FoldTable:
    """Divide the training rows over folds.

    Rows with the same entry in the group column and rows that are duplicates stay together, whatever the scheme. Rows marked
    as train-only get fold -1: they are never validated on, and sit out the folds that validate on their group.

    >>> from pathlib import Path
    >>> from kaggle_kit.config import SubmissionConfig
    >>> rows = tuple(ImageRow(f"{n}", Path(f"{n}.png"), ("cat" if n % 2 else "dog",), group=f"pet {n // 4}") for n in range(40))
    >>> pets = Competition("pets", "multiclass", "accuracy", Classes(("cat", "dog")), rows, (), SubmissionConfig(), None, "")
    >>> folds = make_folds(pets, FoldsConfig(n_folds=5))
    >>> folds
    FoldTable: 40 rows in 5 folds, scheme stratified-group
    >>> train, valid = folds.split(0)
    >>> set(folds.groups[train]) & set(folds.groups[valid])
    set()

    Args:
        duplicates: what :func:`kaggle_kit.images.duplicates.find_duplicates` found; none: not looked for.
        before: a table whose rows keep their folds, so that models of its folds can be trained further; what is new joins its
            group, or is dealt over the folds class by class. Of ``config`` only the seed counts then.

    Returns:
        Rows sorted by id. ``meta`` says how the folds were made and holds ``warnings`` for the user, which are logged, too.

    Raises:
        FoldError: the data does not allow the scheme or so many folds, or holds no row of ``before``.
    """
    if before is None:
        check_settings(config)
    rows = sorted(competition.train, key=lambda row: row.id)
    groups = _group_numbers(rows, duplicates)
    kept = np.array([not row.train_only for row in rows], dtype=bool)
    if not kept.any():
        raise FoldError(f"{competition.name}: there are no training rows to validate on, found {len(rows)} train-only rows.")
    material, unit_of = _material(rows, groups, kept, competition.classes, grouped=duplicates is not None)
    scheme, repeats = _resolve(config.scheme, competition, groups, kept), config.repeats
    if before is not None:
        scheme, repeats = scheme_of(before), before.n_repeats
    ids = [row.id for row, keep in zip(rows, kept, strict=True) if keep]
    assignments = np.full((repeats, len(rows)), -1, dtype=np.int64)
    for repeat in range(repeats):
        rng = np.random.default_rng([config.seed, repeat])
        if before is None:
            assignments[repeat, kept] = SCHEMES.lookup(scheme)(material, config, rng)[unit_of]
        else:
            assignments[repeat, kept] = extended(before, repeat, ids, unit_of, material.units, rng)
    n_folds = int(assignments.max()) + 1 if before is None else before.n_folds
    warnings = [
        *_rare_classes(material.units, competition.classes, n_folds),
        *(_moved_rows(rows, material, unit_of) if scheme == "column" else ()),
        *_related_rows(rows, groups, kept),
        *(duplicates.warnings if duplicates else ()),
    ]
    for warning in warnings:
        logger.warning("%s", warning)
    return FoldTable(
        tuple(row.id for row in rows),
        tuple(row.labels for row in rows),
        groups,
        assignments,
        n_folds,
        competition.classes,
        competition.multilabel,
        {
            **_meta(competition, config, scheme, duplicates, warnings),
            **({} if before is None else {"repeats": repeats, "extends": before.fingerprint}),
        },
    )


def folds_for(workspace: Workspace, competition: Competition, name: str) -> FoldTable:
    """Read ``folds/<name>.csv`` and make sure that it is of this competition as it is now.

    Raises:
        MissingFileError: it was not made yet.
        FoldError: it is damaged, or of another competition, or ids or labels have changed; says which.
        ClassMappingError: its classes are not the competition's; names those that differ.
    """
    path = workspace.folds_path(name)
    table = read_folds(path)
    made_for = table.meta.get("competition")
    if made_for != competition.name:
        raise FoldError(f"{path} was made for competition {made_for!r}, but this is {competition.name!r}. {_AGAIN}")
    competition.classes.require_same(table.classes, here=str(workspace.config_path), there=str(path))
    labels = {row.id: row.labels for row in competition.train}
    gone = [row_id for row_id in table.ids if row_id not in labels]
    new = sorted(labels.keys() - set(table.ids))
    if gone or new:
        parts = ((gone, "no longer in the data"), (new, "new in the data"))
        found = "; ".join(f"{len(ids)} {what}: {shown(ids)}" for ids, what in parts if ids)
        raise FoldError(f"{path} holds other ids than the training data: {found}. {_AGAIN}")
    changed = [row_id for row_id, row in zip(table.ids, table.labels, strict=True) if set(row) != set(labels[row_id])]
    if changed:
        raise FoldError(f"{path}: the labels of {len(changed)} rows have changed since: {shown(changed)}. {_AGAIN}")
    return table


_AGAIN = "Run `kk folds` again; runs that were trained on the old folds cannot be continued on the new ones."


def _group_numbers(rows: Sequence[ImageRow], duplicates: Duplicates | None) -> npt.NDArray[np.int64]:
    """(N,) int64: equal for rows that must stay together."""
    members: dict[str, list[int]] = {}
    for position, row in enumerate(rows):
        if row.group is not None:
            members.setdefault(row.group, []).append(position)
    where = {row.id: position for position, row in enumerate(rows)}
    same = duplicates.train_groups() if duplicates else []
    unknown = [row_id for ids in same for row_id in ids if row_id not in where]
    if unknown:
        raise FoldError(f"duplicates were looked for in other data; these ids are no training rows: {shown(unknown)}.")
    return connected(len(rows), [*members.values(), *([where[row_id] for row_id in ids] for ids in same)])


def _material(
    rows: Sequence[ImageRow], groups: npt.NDArray[np.int64], kept: npt.NDArray[np.bool_], classes: Classes, *, grouped: bool
) -> tuple[Material, npt.NDArray[np.int64]]:
    """The rows to divide, gathered by group; also (kept rows,) int64, the unit of each of them."""
    unit_of = np.unique(groups[kept], return_inverse=True)[1].astype(np.int64)
    n_units = int(unit_of.max()) + 1
    counts: list[dict[int, int]] = [{} for _ in range(n_units)]
    given: list[list[int]] = [[] for _ in range(n_units)]
    chosen = [row for row, keep in zip(rows, kept, strict=True) if keep]
    for unit, row in zip(unit_of.tolist(), chosen, strict=True):
        # A row without labels counts in a column of its own, after the classes.
        for column in classes.encode(row.labels).tolist() or [len(classes)]:
            counts[unit][column] = counts[unit].get(column, 0) + 1
        given[unit].append(_given(row))
    profiles: tuple[Counts, ...] = tuple(tuple(sorted(count.items())) for count in counts)
    units = Units(tuple(np.bincount(unit_of).tolist()), profiles)
    grouped = grouped or any(row.group is not None for row in rows)
    return Material(units, grouped, tuple(tuple(folds) for folds in given)), unit_of


def _resolve(scheme: str, competition: Competition, groups: npt.NDArray[np.int64], kept: npt.NDArray[np.bool_]) -> str:
    """The scheme that ``auto`` stands for with this data."""
    if scheme != _AUTO:
        return scheme
    if competition.multilabel:
        return "multilabel"
    declared = any(row.group is not None for row in competition.train)
    return "stratified-group" if declared or len(np.unique(groups[kept])) < kept.sum() else "stratified"


def _rare_classes(units: Units, classes: Classes, n_folds: int) -> Iterator[str]:
    """Warnings about classes that cannot stand in every fold."""
    parts = np.zeros(len(classes) + 1, dtype=np.int64)
    for counts in units.counts:
        parts[[column for column, _ in counts]] += 1
    members = dict(zip(classes, parts.tolist(), strict=False))
    absent = [name for name, count in members.items() if count == 0]
    if absent:
        yield f"{len(absent)} of {len(classes)} classes have no row to validate on: {shown(absent)}."
    rare = [f"{name} ({count})" for name, count in members.items() if 0 < count < n_folds]
    if rare:
        never_seen = " A class with one member is validated on by a model that never saw it." if 1 in members.values() else ""
        yield (
            f"{len(rare)} of {len(classes)} classes have fewer members than there are folds, counting a group or duplicates "
            f"once, so some folds validate without them: {', '.join(rare)}.{never_seen}"
        )


def _moved_rows(rows: Sequence[ImageRow], material: Material, unit_of: npt.NDArray[np.int64]) -> Iterator[str]:
    """A warning about rows that left the fold which the data gives them, to stay with their group."""
    kept = [row for row in rows if not row.train_only]
    went = [given_fold(given) for given in material.given]
    moved = [row.id for row, unit in zip(kept, unit_of.tolist(), strict=True) if _given(row) != went[unit]]
    if moved:
        yield (
            f"{len(moved)} rows were moved out of the fold that the data gives them, to stay with their group or duplicates: "
            f"{shown(moved)}."
        )


def _given(row: ImageRow) -> int:
    return -1 if row.fold is None else row.fold


def _related_rows(rows: Sequence[ImageRow], groups: npt.NDArray[np.int64], kept: npt.NDArray[np.bool_]) -> Iterator[str]:
    """A warning about train-only rows that would leak into validation if they were always trained on."""
    related = [rows[row].id for row in np.flatnonzero(~kept & np.isin(groups, groups[kept])).tolist()]
    if related:
        yield (
            f"{len(related)} train-only rows are duplicates or group members of rows that are validated on; "
            f"they sit out the fold that does so: {shown(related)}."
        )


def _meta(
    competition: Competition, config: FoldsConfig, scheme: str, duplicates: Duplicates | None, warnings: Sequence[str]
) -> dict[str, Any]:
    """How the folds were made. Nothing here changes between two calls with the same data and seed."""
    labels = {row.id: row.labels for row in competition.train}
    installed = files.versions()
    meta: dict[str, Any] = {
        "kind": "folds",
        "competition": competition.name,
        "competition_fingerprint": competition.fingerprint,
        "scheme": scheme,
        "seed": config.seed,
        "repeats": config.repeats,
        **({"holdout": config.holdout} if scheme == "holdout" else {}),
        "versions": {name: installed[name] for name in _SHAPING if name in installed},
        "warnings": list(warnings),
        "duplicates": {"search": "off"},
    }
    if duplicates is not None:
        meta["duplicates"] = {
            "search": duplicates.search,
            **({"near_distance": config.near_distance} if duplicates.search == "near" else {}),
            "groups": [list(ids) for ids in duplicates.train_groups()],
            "different_labels": [list(ids) for ids in duplicates.different_labels(labels)],
            "in_test": [[list(train), list(test)] for train, test in duplicates.in_test()],
            "unreadable": [list(key) for key in sorted(duplicates.unreadable)],
        }
    return meta
