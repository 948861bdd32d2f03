"""Does a file that ``kk blend`` did not write say what this workspace's models say of the same images?

Each run's and blend's test predictions are a reference. Another model errs elsewhere, yet row by row and class by class it
agrees with a reference more than it would in any other order. So the file is read again as each known mistake would have
written it (rows shifted, labels decoded by another list, columns by position), and single classes are compared pair by pair;
what makes the two agree more, beyond chance, is what went wrong. How much the two agree does not matter, so a weaker model is
not accused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from kaggle_kit import files, runs
from kaggle_kit.check.assignment import Mapping as MappingVerdict
from kaggle_kit.check.assignment import judge_mapping
from kaggle_kit.check.case import Case, Unavailable, rows_at
from kaggle_kit.check.cells import row_orders
from kaggle_kit.check.mistakes import column_orders, readings_of_integers
from kaggle_kit.check.report import CLAIMS, FAILED, INCONCLUSIVE, PASSED, Check
from kaggle_kit.choices import COLUMN_FORMS
from kaggle_kit.errors import KaggleKitError, SubmissionError
from kaggle_kit.sparse import SparseRows
from kaggle_kit.tables import Classes, read_predictions, shown

Array = npt.NDArray[Any]
FALSE_ALARMS = 0.0005
"""Chance that a file whose classes and rows are in their places fails; the named mistakes and the pairs take half each."""
MOST_REFERENCES = 12
MOST_VALUES = 20_000_000
"""Rows beyond this many probabilities add time, not certainty."""
SOON = 0.1
"""A shift that begins within this share of the rows counts as one of all rows."""
SEED = 23
REMEDY = "Write the file again with each value under its own class and id, or blend here with `kk blend`."


@dataclass(frozen=True)
class Finding:
    """What one reference says of a file.

    Attributes:
        mapping: whether each column or value holds its class.
        mistake: the mistake that explains the file better than its own reading does; "" when none does.
        p_value: how often chance would make that mistake explain as much, corrected for all that were tried.
    """

    mapping: MappingVerdict
    mistake: str
    p_value: float


def check_foreign(case: Case) -> Iterator[Check]:
    """One line: the file against the references, or why there is nothing to compare."""
    name = "foreign"
    if _written_by_blend(case):
        yield Check(name, PASSED, "`kk blend` wrote these bytes; the checks above compare them with the models")
        return
    cells = case.cells
    ids = cells.column(case.config.competition.submission.id_column)
    if not ids:
        yield Check(name, INCONCLUSIVE, "the file has no rows")
        return
    references = _references(case, ids)
    if not references:
        text = "`kk blend` did not write this file, and nothing here has predicted its rows"
        yield Check(name, INCONCLUSIVE, text, "Run `kk predict`, so that there is something to compare with.")
        return
    values = _values(case)
    tried = [] if isinstance(values, SparseRows) else mistakes(case, ids, values)
    findings = {
        reference: judge_foreign(values, probs, case.classes, tried, multilabel=case.multilabel)
        for reference, probs in references.items()
    }
    yield _line(name, findings, len(ids))


def _written_by_blend(case: Case) -> bool:
    try:
        return bool(case.record.sha256 == files.file_fingerprint(case.path))
    except Unavailable:
        return False


def _values(case: Case) -> Array:
    """The file's values, (N, C); all 0 when it names no classes, which one of the mistakes may explain."""
    try:
        return case.answers.values
    except SubmissionError:
        return case.hot_of([()] * len(case.cells.rows)).astype(np.float64)


def _references(case: Case, ids: Sequence[str]) -> dict[str, Array]:
    """Test probabilities of ``ids`` by the runs of the workspace, the newest first, and by its blends; (N, C) each."""
    found: dict[str, Array] = {}
    makers: list[tuple[str, Callable[[], Array]]] = [
        (f"run {name}", lambda name=name: _of_run(case, name, ids))  # type: ignore[misc]
        for name in reversed(runs.list_runs(case.workspace))
    ]
    makers += [
        (f"blend {path.name.removesuffix('.probs.parquet')}", lambda path=path: _of_file(case, path, ids))  # type: ignore[misc]
        for path in sorted((case.workspace.root / "submissions").glob("*.probs.parquet"))
    ]
    for name, make in makers:
        if len(found) == MOST_REFERENCES:
            break
        try:
            found[name] = make()
        except (KaggleKitError, OSError):
            continue  # not predicted, of other classes or of another test set: no reference
    return found


def _of_run(case: Case, name: str, ids: Sequence[str]) -> Array:
    tables = [case.predictions(fold, runs.TEST) for fold in runs.predicted_models(runs.read_run(case.workspace, name))]
    return cast(Array, sum(rows_at(table, ids) for table in tables) / len(tables))


def _of_file(case: Case, path: Path, ids: Sequence[str]) -> Array:
    table = read_predictions(case.note(path)).align(case.classes, here="kk.yaml", there=path.name)
    return rows_at(table, ids)


def _line(name: str, findings: Mapping[str, Finding], rows: int) -> Check:
    """Failed when most references name a mistake; passed when they confirm rows and classes."""
    wrong = {reference: finding for reference, finding in findings.items() if finding.mistake}
    shares = [finding.mapping.hits for finding in findings.values()]
    agreement = f"{rows:,} rows; {_span(shares)} of them name what {shown(findings)} say"
    if mostly_wrong(list(findings.values())):
        reference, finding = min(wrong.items(), key=lambda item: item[1].p_value)
        text = f"{finding.mistake} (against {reference}, p = {finding.p_value:.1g}; {len(wrong)} of {len(findings)} references)"
        return Check(name, FAILED, f"{text}; {agreement}", REMEDY)
    best = max(findings.values(), key=lambda finding: (finding.mapping.above_chance, -len(finding.mapping.unproved)))
    if not best.mapping.above_chance:
        return Check(name, INCONCLUSIVE, f"{agreement}: not distinguishable from chance", "Look at the file's origin.")
    if not best.mapping.mostly_proved:
        text = f"{agreement}: too few rows to tell the classes apart"
        return Check(name, INCONCLUSIVE, text, shows=("rows",))
    if best.mapping.unproved:
        text = f"{agreement}; too few or too confusable rows of {shown(best.mapping.unproved)} to rule out a swap"
        return Check(name, INCONCLUSIVE, text, shows=tuple(CLAIMS))
    return Check(
        name, PASSED, f"{agreement}; a swap of two classes or a shift of rows would have been seen", shows=tuple(CLAIMS)
    )


def mostly_wrong(findings: Sequence[Finding]) -> bool:
    """Return whether more than half of the references name a mistake: a run that is wrong itself accuses nobody."""
    return 2 * sum(bool(finding.mistake) for finding in findings) > len(findings)


def _span(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.1%}" if low == high else f"{low:.1%} to {high:.1%}"


@dataclass(frozen=True)
class Mistake:
    """A way to write a file wrongly.

    Attributes:
        text: what it looks like, for the user.
        values: (N, C), what the file would mean if the mistake was made in its columns or values; None for its rows.
        rows: (N,), row r of the file holds what belongs to row rows[r]; None for a mistake in columns or values.
    """

    text: str
    values: Array | None = None
    rows: Array | None = None


def mistakes(case: Case, ids: Sequence[str], values: Array) -> list[Mistake]:
    """All named mistakes that would change how this file is read."""
    form, classes = case.config.competition.submission, case.classes
    found = [Mistake(f"the rows look {what}", rows=order) for what, order in row_orders(ids).items()]
    frequent = _by_frequency(case)
    if form.form in ("label", "index"):
        for target in [name for name in case.cells.header if name != form.id_column][:1]:
            readings = readings_of_integers(case.cells.column(target), classes, form.indices, frequent)
            found += [Mistake(text, values=read) for text, read in readings.items()]
    header = [form.columns.get(name, name) for name in case.cells.header if form.columns.get(name, name) in classes]
    orders = column_orders(classes, frequent, header if form.form in COLUMN_FORMS else ())
    return found + [Mistake(text, values=values[:, order]) for text, order in orders.items()]


def _by_frequency(case: Case) -> tuple[str, ...]:
    """Class names from the most to the least frequent one in training; () when the labels are not here."""
    try:
        counts = Counter(label for row in case.competition.train for label in row.labels)
    except Unavailable:
        return ()
    return tuple(sorted(case.classes, key=lambda name: -counts[name])) if counts else ()


def judge_foreign(
    values: Array,
    reference: Array,
    classes: Classes,
    tried: Sequence[Mistake],
    *,
    multilabel: bool,
    level: float = FALSE_ALARMS,
) -> Finding:
    """Compare a file with one model's probabilities of the same rows.

    Args:
        values: (N, C), what the file says.
        reference: (N, C) probabilities.
        tried: named mistakes.
        level: chance of an alarm when the file is in order.
    """
    named = classes.above(reference, at_least_one=True) if multilabel else [(name,) for name in classes.top(reference)]
    hot = classes.encode_rows(named) if multilabel else classes.hot(named)
    mapping = judge_mapping(hot, values, classes, level=level / 2, rng=np.random.default_rng(SEED))
    if isinstance(values, SparseRows):  # the named mistakes are told by sums over all classes and pairs of them
        return Finding(mapping, exchanged(mapping) if mapping.refuted else "", mapping.p_value)
    own, other = (_centred(table[: max(MOST_VALUES // len(classes), 1)]) for table in (values, reference))
    best, p_value, gained = _best_mistake(values, own, other, tried, level)
    if mapping.refuted:
        gain = _gain_of_moving(mapping, own, other, classes)
        # A pair says more than the list that happens to have this pair exchanged; a list says more than many pairs.
        clearly = 0.99 if len(mapping.moved) == 2 else 1.1
        if gain >= clearly * gained:
            best, p_value = exchanged(mapping), mapping.p_value
    return Finding(mapping, best, p_value)


def _best_mistake(values: Array, own: Array, other: Array, tried: Sequence[Mistake], level: float) -> tuple[str, float, float]:
    """Return the named mistake that explains ``values`` best, "" for none, its p-value, and how much more the two then agree.

    Args:
        own, other: the first rows of the file and of the reference, centred.
    """
    best, p_value, gained = "", 1.0, 0.0
    for mistake in tried:
        left, right = own, other
        if mistake.rows is not None:
            if len(values) > len(own):
                continue
            right = other[mistake.rows] - other
        elif mistake.values is not None:
            left = _centred(mistake.values[: len(own)]) - own
        gain = float((left * right).sum())
        if gain > gained:
            p = _tail(gain, left, right) * len(tried)
            if p <= level / 2:
                best, p_value, gained = mistake.text, min(p, 1.0), gain
    text, p, gain = _shifted_from(own, other)
    if p <= level / 2 and gain > gained:
        best, p_value, gained = text, p, gain
    return best, p_value, gained


def _centred(table: Array) -> Array:
    """Columns with mean 0: agreement by the mere frequency of classes counts for nothing then."""
    table = np.asarray(table, dtype=np.float64)
    return table - table.mean(axis=0) if len(table) else table


def _tail(gain: float, left: Array, right: Array) -> float:
    """Bound how often rows of ``left`` dealt out anew to rows of ``right`` give a sum of products of ``gain`` or more.

    Bernstein's inequality with the exact variance of a linear permutation statistic (Hoeffding 1951; Chatterjee 2007).
    """
    if len(left) < 3:
        return 1.0
    gain -= len(left) * float(left.mean(axis=0) @ right.mean(axis=0))  # what any order of the rows gives
    if gain <= 0:
        return 1.0
    left, right = left - left.mean(axis=0), right - right.mean(axis=0)
    variance = float(((left.T @ left) * (right.T @ right)).sum()) / (len(left) - 1)
    largest = float(np.sqrt((left**2).sum(axis=1).max() * (right**2).sum(axis=1).max()))
    return float(np.exp(-(gain**2) / (2 * (variance + largest * gain / 3 + 1e-30))))


def _shifted_from(own: Array, other: Array) -> tuple[str, float, float]:
    """The row from which on all rows look shifted by one, its p-value and gain; as when one row was lost or written twice."""
    best = ("", 1.0, 0.0)
    for what, by in (("down", 1), ("up", -1)):
        right = np.roll(other, by, axis=0) - other
        gains = np.cumsum((own * right).sum(axis=1)[::-1])[::-1]
        start = int(gains.argmax()) if len(gains) else 0
        if start < SOON * len(own):
            continue  # all rows are shifted, then
        p = min(_tail(float(gains[start]), own[start:], right[start:]) * 2 * len(own), 1.0)
        if p < best[1]:
            best = (f"the rows from line {start + 2} of the file on look shifted {what} by one", p, float(gains[start]))
    return best


def _gain_of_moving(mapping: MappingVerdict, own: Array, other: Array, classes: Classes) -> float:
    order = np.arange(len(classes))
    for column, label in mapping.moved:
        order[classes.index(label)] = classes.index(column)
    return float(((own[:, order] - own) * other).sum())


def exchanged(mapping: MappingVerdict) -> str:
    """Say which classes look exchanged."""
    holds = dict(mapping.moved)
    pairs = sorted({tuple(sorted(pair)) for pair in mapping.moved if holds.get(pair[1]) == pair[0]})
    rest = [(column, label) for column, label in mapping.moved if holds.get(label) != column]
    texts = [f"{first} and {second} look exchanged" for first, second in pairs]
    return shown(texts + [f"{column} looks like what is {label}" for column, label in rest])
