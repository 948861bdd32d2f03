"""Writing a fold table without taking away the one that runs were trained on."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from kaggle_kit import files
from kaggle_kit.errors import DataError, FoldError
from kaggle_kit.runs import RUN_RECORD
from kaggle_kit.tables import FoldTable, read_folds, shown
from kaggle_kit.workspace import Workspace

logger = logging.getLogger(__name__)


def write_folds(workspace: Workspace, table: FoldTable, name: str, *, force: bool = False) -> FoldTable:
    """Write ``table`` as ``folds/<name>.csv`` and ``.json``, unless they hold it already; return it.

    Args:
        force: also when runs rest on the table that is there, which is then kept under another name.

    Raises:
        FoldError: runs rest on the table that is there; names them.
    """
    path = workspace.folds_path(name)
    with files.folder_lock(path.parent):
        before = _read(path)
        if before is not None and (before.fingerprint, before.meta) == (table.fingerprint, table.meta):
            logger.info("%s is already there", path)
            return table
        resting = _runs_on(workspace, name, before, table)
        if resting and not force:
            raise FoldError(
                f"{shown(resting)} {'rests' if len(resting) == 1 else 'rest'} on {path}, which would change: what was trained "
                "on it could not be predicted, blended or continued any more. Write another table with --name NAME, or give "
                "--force, which keeps the old one beside it."
            )
        if any(_kept_as(path, trained_on) is None for trained_on in resting.values()):  # else a killed call has done it
            logger.warning("the table that %s rest on is kept as %s", shown(resting), _keep(path))
        table.write(path)
    return table


@contextlib.contextmanager
def held_still(workspace: Workspace, name: str, table: FoldTable) -> Iterator[None]:
    """Keep ``folds/<name>.csv`` as it is while inside, where a run that rests on it is entered.

    Raises:
        FoldError: it is not ``table`` any more.
    """
    path = workspace.folds_path(name)
    if not path.is_file():  # a table that was handed over in Python
        yield
        return
    with files.folder_lock(path.parent):
        now = files.read_json(path.with_suffix(".json"), made_by="kk folds").get("fingerprint")
        if now != table.fingerprint:
            raise FoldError(f"{path} was changed while the run was being begun. Run the same command again.")
        yield


def table_like(workspace: Workspace, fingerprint: str) -> Path | None:
    """Return the table in ``folds/`` with this fingerprint, such as one that ``kk folds --force`` kept; None without one."""
    return next(_tables_like(workspace.root / "folds", fingerprint), None)


def _tables_like(folder: Path, fingerprint: str | None) -> Iterator[Path]:
    for path in sorted(folder.glob("[!.]*.csv")):
        table = _read(path)
        if table is not None and table.fingerprint == fingerprint:
            yield path


def _kept_as(path: Path, fingerprint: str | None) -> Path | None:
    """Where the table with this fingerprint lies beside ``path``; None without one."""
    return next((found for found in _tables_like(path.parent, fingerprint) if found != path), None)


def _read(path: Path) -> FoldTable | None:
    """The table at ``path``; None when there is none, or only a damaged one."""
    try:
        return read_folds(path)
    except DataError:
        return None


def _runs_on(workspace: Workspace, name: str, before: FoldTable | None, after: FoldTable) -> dict[str, str | None]:
    """Return runs that the table as it is fits and ``after`` would not, those of ``kk tune`` among them: name -> fingerprint of
    what each was trained on."""
    if before is not None and before.fingerprint == after.fingerprint:
        return {}
    records = [*workspace.runs_dir.glob(f"*/{RUN_RECORD}"), *(workspace.root / "tune").glob(f"*/*/{RUN_RECORD}")]
    found: dict[str, str | None] = {}
    for record in sorted(records):
        try:
            content = files.read_json(record, made_by="kk train")
        except DataError:
            continue
        trained_on = content.get("folds_fingerprint")
        # A table that is damaged may have been the one that a run of its name was trained on.
        fits = content.get("folds", "folds") == name if before is None else trained_on == before.fingerprint
        if fits and trained_on != after.fingerprint and workspace.folds_path(name).exists():
            found[record.parent.name] = trained_on
    return found


def _keep(path: Path) -> str:
    """Copy the table and its record to the next free ``<name>-<number>``; return the name of the copy."""
    number = 1
    while path.with_name(f"{path.stem}-{number}.csv").exists():
        number += 1
    for suffix in (".json", ".csv"):  # the table last: a copy is whole once it is there
        source = path.with_suffix(suffix)
        if source.is_file():
            files.write_bytes(path.with_name(f"{path.stem}-{number}{suffix}"), source.read_bytes())
    return f"{path.stem}-{number}.csv"
