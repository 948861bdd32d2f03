"""Does each row speak of the image that its id names? The pixels that the model saw say so.

Every prediction carries two hashes: of the pixels that went into the model, which travelled with its answer, and of the pixels
that were read from the file of the row's id. They are compared with each other, and over all folds and runs that prepare images
in the same way; control rows also with the out-of-fold rows that training wrote.
"""

from __future__ import annotations

from collections.abc import Iterator

from kaggle_kit import runs
from kaggle_kit.check.case import Case
from kaggle_kit.check.report import FAILED, INCONCLUSIVE, PASSED, Check
from kaggle_kit.machine.ahead import ahead
from kaggle_kit.tables import Predictions, shown

NAME = "pixels"
_FILES = {runs.OOF: "training", runs.OOF_VIEWS: "training", runs.CONTROL: "training", runs.TEST: "test"}
REMEDY = "Rows were exchanged between the model and the file. Run `kk predict` again, then `kk blend`."


def check_pixels(case: Case) -> Iterator[Check]:
    """Hashes of each file against each other, and of each id over all files."""
    known: dict[tuple[str, str, str], tuple[int, str]] = {}
    rows = tables = 0
    all_tests = True
    paths = [fold.path / name for run in case.runs for fold in run.finished_models() for name in _FILES]
    found = ahead(lambda path: case.table(path) if path.is_file() else None, paths)
    for path, table in zip(paths, found, strict=True):
        if table is None or table.pixels is None:
            all_tests &= path.name != runs.TEST
            continue
        where, kind = case.relative(path), (table.meta.get("prepared"), _FILES[path.name])
        problem = _within(table, where) or _across(table, kind, where, known)
        if problem:
            yield Check(NAME, FAILED, problem, REMEDY)
            return
        rows, tables = rows + len(table), tables + 1
    if not tables:
        yield Check(NAME, INCONCLUSIVE, "no prediction says which pixels it was made from", "Run `kk predict` again.")
    else:
        text = f"{rows:,} rows of {tables} files: each model saw the image that the row's id names"
        yield Check(NAME, PASSED, text, shows=("rows",) if all_tests else ())


def _within(table: Predictions, where: str) -> str:
    """Say which rows of a file are of another image than their id's; empty when none are."""
    others = table.of_other_images()
    if not others:
        return ""
    return f"{where}: {len(others):,} of {len(table):,} rows were predicted from another image than their id's: {shown(others)}"


def _across(
    table: Predictions, kind: tuple[str | None, str], where: str, known: dict[tuple[str, str, str], tuple[int, str]]
) -> str:
    """Say which rows are of another image than the same ids in the files before; empty when none are."""
    prepared, role = kind
    if table.pixels is None or prepared is None:
        return ""
    differing: list[tuple[str, str]] = []
    for row_id, seen in zip(table.ids, table.pixels[:, 0].tolist(), strict=True):
        before, file = known.setdefault((prepared, role, row_id), (seen, where))
        if before != seen:
            differing.append((row_id, file))
    if not differing:
        return ""
    ids = shown(row_id for row_id, _ in differing)
    return f"{where} and {differing[0][1]} saw different images under {len(differing):,} ids: {ids}"
