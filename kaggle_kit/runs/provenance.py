"""Which rows a model has seen, so that it is never scored on them. No torch here.

A model file says what it was trained on: run, fold and fold table. Where training began from another model of kaggle_kit, what
that one has seen stands under ``seen``, with all before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from kaggle_kit.errors import DataError, FoldError
from kaggle_kit.fold_names import fold_text
from kaggle_kit.runs.files import MODEL, OOF, FoldRun, Run
from kaggle_kit.runs.model_header import read_model_record
from kaggle_kit.tables import FoldTable, read_folds, read_prediction_meta, shown
from kaggle_kit.workspace import Workspace


@dataclass(frozen=True)
class Seen:
    """The training rows of one fold of a fold table, seen by a model of ``run``."""

    competition: str
    run: str
    fold: int
    folds_fingerprint: str

    @property
    def text(self) -> str:
        """Run and fold in words."""
        return f"{fold_text(self.fold)} of run {self.run!r}"


def seen_by(path: Path) -> tuple[Seen, ...]:
    """Return what the model in ``path`` and those that it began from were trained on; nothing for a file of another origin."""
    if path.suffix != ".safetensors":
        return ()
    try:
        return seen_in(read_model_record(path))
    except DataError:  # of timm or of a hub, say
        return ()


def seen_by_fold(run: Run, fold: FoldRun, workspace: Workspace) -> tuple[Seen, ...]:
    """Return what the model of a finished fold has seen.

    Models of version 0.1.0 do not say what they began from; the run's configuration names the file, which may still be there.
    """
    start, model = _start_of(run, workspace), fold.path / MODEL
    # In a training kernel there are only the predictions of runs that others learn from; they say the same.
    own = (
        seen_by(model) if model.is_file() or not (fold.path / OOF).is_file() else seen_in(read_prediction_meta(fold.path / OOF))
    )
    return tuple(dict.fromkeys((*own, *(seen_by(start) if start is not None else ()))))


def unknown_start(run: Run, workspace: Workspace) -> str:
    """Say from what a run of version 0.1.0 began where that is not here any more, so that nobody knows what it has seen; empty
    where that is known."""
    start = _start_of(run, workspace)
    if start is None or start.is_file():
        return ""
    return (
        f"run {run.name} of an earlier version began from {start}, which is not here any more: nobody can tell whether those "
        "weights had seen rows that it is scored on"
    )


def _start_of(run: Run, workspace: Workspace) -> Path | None:
    """The model file that a run of version 0.1.0 began from; None for weights of another origin, and for newer runs."""
    pretrained = run.record.config.model.pretrained
    if run.record.version > 1 or not isinstance(pretrained, str) or not pretrained.endswith(".safetensors"):
        return None
    return workspace.root / pretrained


def seen_in(record: Mapping[str, Any]) -> tuple[Seen, ...]:
    """Return what a model's record, or the ``meta`` of its predictions, says that it was trained on.

    Raises:
        DataError: an entry is damaged.
    """
    earlier = record.get("seen") or []
    own = [record] if record.get("run") is not None and record.get("folds_fingerprint") is not None else []
    try:
        found = (
            Seen(str(one["competition"]), str(one["run"]), int(one["fold"]), str(one["folds_fingerprint"]))
            for one in (*own, *earlier)
        )
        return tuple(dict.fromkeys(found))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"a model's record of what it has seen is damaged ({error!r}). Train it again.") from error


def to_entries(seen: Iterable[Seen]) -> list[dict[str, Any]]:
    """Return what to write under ``seen``."""
    return [asdict(one) for one in seen]


def require_unseen(seen: Sequence[Seen], workspace: Workspace, competition: str, folds: FoldTable, *, fold: int) -> None:
    """Refuse to train or score ``fold`` by something that has seen rows, or twins of rows, that the fold is validated on.

    Rows of other competitions are no matter. Another table of this competition is looked for in ``folds/`` by its fingerprint.

    Raises:
        FoldError: names both folds, or the table that is not here, so that nothing can be told.
    """
    for one in seen:
        leaked = leaked_to(one, workspace, competition, folds, fold=fold)
        if leaked:
            raise FoldError(
                f"{one.text} was trained on {len(leaked)} images that fold {fold} is validated on ({shown(leaked)}), so its "
                f"score would mean nothing. Begin fold {fold} from the model of the same fold of the same table, or from "
                "weights that have not seen this competition."
            )


def leaked_to(one: Seen, workspace: Workspace, competition: str, folds: FoldTable, *, fold: int) -> list[str]:
    """Return the ids that ``one`` was trained on and that ``fold`` is validated on, itself or by a twin.

    Raises:
        FoldError: the table that ``one`` was trained on is not here.
    """
    if one.competition != competition or (one.folds_fingerprint, one.fold) == (folds.fingerprint, fold):
        return []
    table = folds if one.folds_fingerprint == folds.fingerprint else _find(workspace, one.folds_fingerprint)
    if table is None:
        raise FoldError(
            f"{one.text} was trained on a fold table that is not in {workspace.root / 'folds'} any more "
            f"({one.folds_fingerprint[:8]}), so nobody can tell whether it has seen what fold {fold} is validated on. "
            "Begin from other weights, or put the table back."
        )
    _, valid = folds.split(fold)
    validated = set(folds.groups[valid].tolist())
    twins = {row_id for row_id, group in zip(folds.ids, folds.groups.tolist(), strict=True) if group in validated}
    trained, _ = table.split(one.fold)
    return [row_id for row in trained.tolist() if (row_id := table.ids[row]) in twins]


def _find(workspace: Workspace, fingerprint: str) -> FoldTable | None:
    for path in sorted((workspace.root / "folds").glob("[!.]*.csv")):
        try:
            state = path.stat()
            table = _read(path, state.st_mtime_ns, state.st_size)
        except (DataError, OSError):
            continue
        if table.fingerprint == fingerprint:
            return table
    return None


@lru_cache(maxsize=8)
def _read(path: Path, time: int, size: int) -> FoldTable:  # noqa: ARG001  what was changed is read again
    return read_folds(path)
