"""Predictions as the CSV that the competition asks for.

Seven forms (:data:`kaggle_kit.choices.FORMS`), after the sample submission. Columns are matched to classes by the explicit
map in ``kk.yaml``, never by position.

Precision: a probability is written as the shortest decimal that reads back as the same float32, at most nine significant
digits. Each decimal lies nearer to its own float32 than to any other, so equal stays equal, the order of any two values stays,
and a ranking metric cannot move; a row that summed to 1 in float32 still does within 1e-6.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from kaggle_kit import files
from kaggle_kit.choices import COLUMN_FORMS, FORMS
from kaggle_kit.config import SubmissionConfig
from kaggle_kit.errors import SubmissionError
from kaggle_kit.sparse import SparseRows, ranking
from kaggle_kit.tables import Classes, Predictions, require_unique, shown

Array = npt.NDArray[np.float32]
Thresholds = npt.ArrayLike
_BLOCK_ROWS = 20_000


def submission_frame(
    predictions: Predictions,
    form: SubmissionConfig,
    *,
    classes: Classes,
    ids: Sequence[str],
    columns: Sequence[str] = (),
    thresholds: Thresholds | None = None,
) -> pd.DataFrame:
    """The submission as a table: text cells, and float32 where the form wants probabilities.

    Args:
        predictions: (N, C) probabilities; its columns are brought to the order of ``classes`` by name.
        form: the form wanted.
        classes: the competition's classes; for form "positive" the last one is the positive one.
        ids: the ids wanted, as the sample spells them; the rows come out in this order.
        columns: the sample's header; without one, the id column and then the targets.
        thresholds: form "labels": a number, or (C,) in the order of ``classes``, instead of ``form.threshold``.

    Raises:
        SubmissionError: ids are missing or not asked for, the header holds a column that the form does not map, a class has
            no column or integer, or a probability lies outside 0..1.
        ClassMappingError: the predictions hold other classes.
    """
    probs = _rows_of(predictions, classes, ids)
    if form.form == "long":
        return _long_frame(probs, form, classes, ids)
    header = list(columns) or [form.id_column, *(form.columns or _default_columns(form, classes))]
    if form.id_column not in header:
        raise SubmissionError(f"the sample's header has no id column {form.id_column!r}; it holds {shown(header)}.")
    at = header.index(form.id_column)
    targets = header[:at] + header[at + 1 :]
    cells = FORMS.lookup(form.form)(probs, form, classes, targets, thresholds)
    series = [pd.Series(list(ids), dtype=object), *(pd.Series(column) for column in cells)]
    frame = pd.concat(series[1 : at + 1] + series[:1] + series[at + 1 :], axis=1)
    frame.columns = pd.Index(header, dtype=object)  # set last: a class may be called as the id column is
    return frame


def _long_frame(probs: Array, form: SubmissionConfig, classes: Classes, ids: Sequence[str]) -> pd.DataFrame:
    """A row for each id and class, the classes in the sample's order; the class stands behind the id."""
    ends = list(form.columns) or list(classes)
    columns = probability_cells(probs, form, classes, ends, None)
    keys = [f"{row_id}{form.separator}{end}" for row_id in ids for end in ends]
    values = np.stack([column.to_numpy() for column in columns], axis=1).ravel()
    return pd.DataFrame({form.id_column: pd.Series(keys, dtype=object), form.value_column or "label": values})


def write_submission(
    path: Path,
    predictions: Predictions,
    form: SubmissionConfig,
    *,
    classes: Classes,
    ids: Sequence[str],
    columns: Sequence[str] = (),
    thresholds: Thresholds | None = None,
) -> Path:
    """Write :func:`submission_frame` to ``path``, whole or not at all, as UTF-8 with ``\\n`` line ends.

    Raises:
        SubmissionError: as :func:`submission_frame`; or a name or id holds a character that CSV readers disagree on.
        StorageError: the file cannot be written.
    """
    frame = submission_frame(predictions, form, classes=classes, ids=ids, columns=columns, thresholds=thresholds)
    _require_plain([*ids, *frame.columns, *classes])
    with files.atomic_path(Path(path)) as temporary, open(temporary, "w", encoding="utf-8", newline="") as handle:
        for start in range(0, max(len(frame), 1), _BLOCK_ROWS):  # in blocks: text takes many times the room of float32
            block = pd.concat([_as_text(frame.iloc[start : start + _BLOCK_ROWS, at]) for at in range(frame.shape[1])], axis=1)
            block.to_csv(handle, index=False, header=start == 0, lineterminator="\n")
    return Path(path)


def sample_header(path: Path) -> list[str]:
    """The column names of a sample submission, exactly as they stand there: pandas would rename one that occurs twice."""
    import csv
    import io

    with files.open_regular(path) as handle:
        header = next(csv.reader(io.TextIOWrapper(handle, encoding="utf-8-sig", newline="")), [])
    return header[1:] if header and not header[0].strip() else header  # pandas' index, which nobody asks for


def _rows_of(predictions: Predictions, classes: Classes, ids: Sequence[str]) -> Array:
    require_unique(ids, "the submission's ids")
    wanted, held = set(ids), set(predictions.ids)
    missing = [row_id for row_id in ids if row_id not in held]
    extra = [row_id for row_id in predictions.ids if row_id not in wanted]
    if missing or extra:
        parts = [f"{len(missing)} have no prediction ({shown(missing)})"] if missing else []
        parts += [f"{len(extra)} predictions are for other ids ({shown(extra)})"] if extra else []
        raise SubmissionError(f"of {len(ids)} ids wanted, {'; '.join(parts)}. Run `kk predict` again for this test set.")
    probs = predictions.align(classes, here="the competition").take(ids).probs
    return np.clip(probs, 0.0, 1.0)


def _default_columns(form: SubmissionConfig, classes: Classes) -> list[str]:
    return list(classes) if form.form in COLUMN_FORMS else ["label"]


def _single(targets: Sequence[str], form: SubmissionConfig) -> None:
    if len(targets) != 1:
        raise SubmissionError(
            f"form {form.form!r} fills one column beside the ids, the header has {len(targets)}: {shown(targets)}. "
            "Correct competition.submission in kk.yaml."
        )


def label_cells(
    probs: Array, form: SubmissionConfig, classes: Classes, targets: Sequence[str], _thresholds: Thresholds | None
) -> list[pd.Series]:
    _single(targets, form)
    return [pd.Series(classes.top(probs), dtype=object)]


def _require_apart(form: SubmissionConfig, classes: Classes) -> None:
    torn = [name for name in classes if form.separator in name or not form.separator]
    if torn:
        raise SubmissionError(
            f"the separator {form.separator!r} stands inside class names ({shown(torn)}), so that a cell could not be read "
            "back; set competition.submission.separator to what the sample submission uses."
        )


def index_cells(
    probs: Array, form: SubmissionConfig, classes: Classes, targets: Sequence[str], _thresholds: Thresholds | None
) -> list[pd.Series]:
    _single(targets, form)
    lacking = [name for name in classes if name not in form.indices]
    if lacking:
        raise SubmissionError(
            f"form 'index' needs the grader's integer of every class; competition.submission.indices lacks {shown(lacking)}."
        )
    return [pd.Series([str(form.indices[name]) for name in classes.top(probs)], dtype=object)]


def labels_cells(
    probs: Array, form: SubmissionConfig, classes: Classes, targets: Sequence[str], thresholds: Thresholds | None
) -> list[pd.Series]:
    _single(targets, form)
    _require_apart(form, classes)
    threshold = form.threshold if thresholds is None else thresholds
    rows = classes.above(probs, threshold, at_least_one=form.empty_label is None)
    return [pd.Series([form.separator.join(row) or form.empty_label for row in rows], dtype=object)]


def ranked_cells(
    probs: Array, form: SubmissionConfig, classes: Classes, targets: Sequence[str], _thresholds: Thresholds | None
) -> list[pd.Series]:
    """The ``form.guesses`` most probable classes of each row, the likeliest first; of equals the first in class order."""
    _single(targets, form)
    _require_apart(form, classes)
    best = ranking(probs, form.guesses)
    return [pd.Series([form.separator.join(classes.decode(row)) for row in best], dtype=object)]


def probability_cells(
    probs: Array, form: SubmissionConfig, classes: Classes, targets: Sequence[str], _thresholds: Thresholds | None
) -> list[pd.Series]:
    if isinstance(probs, SparseRows):
        raise SubmissionError(
            f"form {form.form!r} wants the probability of each of {len(classes):,} classes, of which only the largest of a row "
            "are kept. Pages with so many classes ask for a label or for ranked guesses: set competition.submission.form."
        )
    mapping = form.columns or {name: name for name in classes}
    unknown = [column for column in targets if column not in mapping]
    if unknown:
        raise SubmissionError(f"columns of the sample submission that competition.submission.columns lacks: {shown(unknown)}.")
    wanted = [mapping[column] for column in targets]
    lacking = [name for name in classes if name not in wanted]
    if lacking or len(wanted) != len(classes):
        raise SubmissionError(
            f"{len(classes)} classes need one column each, the header maps to {len(wanted)} "
            f"({'without: ' + shown(lacking) if lacking else 'some twice'}). Correct competition.submission.columns."
        )
    return [pd.Series(probs[:, position]) for position in classes.encode(wanted)]


def positive_cells(
    probs: Array, form: SubmissionConfig, classes: Classes, targets: Sequence[str], _thresholds: Thresholds | None
) -> list[pd.Series]:
    _single(targets, form)
    if len(classes) != 2:
        raise SubmissionError(f"form 'positive' is for two classes, got {len(classes)}: {shown(classes)}.")
    return [pd.Series(probs[:, -1])]


def _as_text(column: pd.Series) -> pd.Series:
    """float32 to its shortest decimal; text as it is."""
    if column.dtype != np.float32:
        return column
    return pd.Series(column.to_numpy().astype(str).astype(object), index=column.index, name=column.name)


def _require_plain(texts: Sequence[str]) -> None:
    """Carriage returns and NUL end a cell or a line for some CSV readers even inside quotes."""
    bad = [text for text in texts if "\r" in text or "\0" in text]
    if bad:
        raise SubmissionError(
            f"names and ids must not hold carriage returns or NUL, found {shown(map(repr, bad))}. Rename them."
        )
