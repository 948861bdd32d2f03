"""Would Kaggle accept the file? Columns, ids and values, by text alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from kaggle_kit.check.case import Case, Unavailable
from kaggle_kit.check.readback import Cells, numbers, target_columns
from kaggle_kit.check.report import FAILED, INCONCLUSIVE, PASSED, WARNING, Check
from kaggle_kit.choices import COLUMN_FORMS, EXACT_FORMS
from kaggle_kit.competition import IMAGE_SUFFIXES
from kaggle_kit.errors import KaggleKitError
from kaggle_kit.sparse import SparseRows
from kaggle_kit.tables import shown

ROW_SUM_TOLERANCE = 1e-3
SAME_DECIMALS = 1e-9
BLEND_AGAIN = "Run `kk blend` again."


def check_form(case: Case) -> Iterator[Check]:
    """File, columns, ids and values; ids and values are left out when the columns are not those wanted."""
    try:
        cells = case.cells
    except KaggleKitError as error:
        yield Check("form: file", FAILED, str(error), BLEND_AGAIN)
        return
    yield _file(cells)
    columns = _columns(case, cells)
    yield columns
    if case.config.competition.submission.id_column not in cells.header or columns.status == FAILED:
        return
    yield _ids(case, cells)
    yield _test_set(case, cells)
    yield _values(case, cells)
    yield _spread(case)


def _file(cells: Cells) -> Check:
    size = f"{len(cells.rows):,} rows of {len(cells.header)} cells, UTF-8"
    if cells.bom:
        return Check(
            "form: file",
            FAILED,
            f"{size} with a byte-order mark, which some graders read into the first column's name",
            BLEND_AGAIN,
        )
    if not cells.rows:
        return Check("form: file", FAILED, "a header and no rows", BLEND_AGAIN)
    return Check("form: file", PASSED, size)


def _columns(case: Case, cells: Cells) -> Check:
    """Against the sample's header, and every class mapped to one column."""
    name, form = "form: columns", case.config.competition.submission
    try:
        sample = case.sample
    except Unavailable as error:
        sample, where = None, f"{error}; compared with kk.yaml"
    else:
        where = "as in the sample submission" if sample else "as kk.yaml says; there is no sample submission"
    expected = list(sample.header) if sample else [form.id_column, *target_columns(form, case.classes, cells.header)]
    if list(cells.header) != expected:
        lacking = [column for column in expected if column not in cells.header]
        extra = [column for column in cells.header if column not in expected]
        if lacking or extra:
            parts = [
                f"{word} {shown(map(repr, names))}" for word, names in (("lacks", lacking), ("has besides", extra)) if names
            ]
            text = "; ".join(parts)
        else:
            text = f"the order differs: found {shown(cells.header)}; expected {shown(expected)}"
        return Check(name, FAILED, text, "Write the columns of the sample submission, in its order. " + BLEND_AGAIN)
    crossed = [
        f"column {column!r} is mapped to class {mapped!r}"
        for column, mapped in form.columns.items()
        if form.form in COLUMN_FORMS and column in case.classes and column != mapped
    ]
    if crossed:
        return Check(
            name, FAILED, f"kk.yaml crosses names: {shown(crossed)}", "Correct competition.submission.columns in kk.yaml."
        )
    return Check(name, PASSED, f"{len(cells.header)} columns, {where}")


def _ids(case: Case, cells: Cells) -> Check:
    """Each id once, and against the sample submission none missing and none extra."""
    name, found = "form: ids", cells.column(case.config.competition.submission.id_column)
    twice = [row_id for row_id, count in Counter(found).items() if count > 1]
    if twice:
        return Check(name, FAILED, f"{len(twice)} ids stand more than once: {shown(twice)}", BLEND_AGAIN)
    if "" in found:
        return Check(name, FAILED, f"row {found.index('') + 2} has no id", BLEND_AGAIN)
    try:
        sample = case.sample
    except Unavailable as error:
        return Check(name, INCONCLUSIVE, f"{len(found):,} ids, each once; {error}")
    if sample is None:
        return Check(name, PASSED, f"{len(found):,} ids, each once; there is no sample submission")
    wanted = sample.column(case.config.competition.submission.id_column)
    missing, extra = _only(wanted, found), _only(found, wanted)
    if not missing and not extra:
        return Check(name, PASSED, f"{len(found):,} ids, each once, exactly those of the sample submission")
    text = f"{len(missing):,} ids of the sample submission are missing ({shown(missing)})" if missing else ""
    text += ("; " if text and extra else "") + (f"{len(extra):,} ids are not in it ({shown(extra)})" if extra else "")
    return Check(
        name, FAILED, text + _spelling(missing, extra), "Write the ids as the sample submission spells them. " + BLEND_AGAIN
    )


def _spelling(missing: Sequence[str], extra: Sequence[str]) -> str:
    """Say so when ids differ by extension, folder or leading zeros only."""
    ways = {"extension": _bare, "folder": lambda text: text.rpartition("/")[2], "leading zeros": lambda text: text.lstrip("0")}
    for what, plain in ways.items():
        if missing and extra and {plain(text) for text in missing} & {plain(text) for text in extra}:
            return f"; they differ by {what}: wanted {missing[0]!r}, found {extra[0]!r}"
    return ""


def _test_set(case: Case, cells: Cells) -> Check:
    """Ids against the test images: a stale sample submission has been seen on Kaggle."""
    name, ids = "form: test images", cells.column(case.config.competition.submission.id_column)
    try:
        images = case.test_images
    except Unavailable as error:
        return Check(name, INCONCLUSIVE, str(error))
    if images is None:
        return Check(name, INCONCLUSIVE, "kk.yaml names no test images")
    for plain in (_bare, lambda text: _bare(text).rpartition("/")[2]):
        wanted, found = {plain(image) for image in images}, {plain(row_id) for row_id in ids}
        if wanted == found:
            return Check(name, PASSED, f"{len(images):,} test images, one row for each")
    without_row, without_image = _only(sorted(wanted), found), _only(sorted(found), wanted)
    text = f"{len(images):,} test images; {len(without_row):,} have no row ({shown(without_row)})"
    text += f"; {len(without_image):,} rows have no image ({shown(without_image)})"
    remedy = "If the sample submission is out of date, take the ids from the test images; else predict and blend again."
    return Check(name, FAILED, text, remedy)


def _values(case: Case, cells: Cells) -> Check:
    """No empty cells, numbers finite and in 0..1, row sums of 1, labels and integers that exist."""
    name, form = "form: values", case.config.competition.submission
    targets = target_columns(form, case.classes, cells.header)
    if form.form not in EXACT_FORMS:
        column = cells.column(targets[0])
        blank = [number for number, cell in enumerate(column, start=2) if not cell.strip() and form.empty_label != cell]
        if blank:
            return Check(
                name, FAILED, f"{len(blank)} empty cells in {targets[0]!r}, rows {shown(map(str, blank))}", BLEND_AGAIN
            )
        _ = case.answers  # refuses what is no class, by name
        return Check(name, PASSED, f"{len(set(column)):,} different values, each a class or a list of classes")
    # A class may be called as the id column is.
    table = np.stack([numbers(cells.column(target, int(target == form.id_column)), target) for target in targets], axis=1)
    bad = ~np.isfinite(table)
    if bad.any():
        where = [f"row {row + 2} column {targets[column]!r}" for row, column in np.argwhere(bad)[:8]]
        return Check(name, FAILED, f"{int(bad.sum())} cells are NaN or infinite: {'; '.join(where)}", BLEND_AGAIN)
    if table.min() < 0 or table.max() > 1:
        return Check(name, FAILED, f"probabilities run from {table.min():g} to {table.max():g}, expected 0 to 1", BLEND_AGAIN)
    text = f"{table.size:,} numbers from {table.min():.3g} to {table.max():.3g}"
    if form.form == "positive" or case.multilabel:
        return Check(name, PASSED, text)
    off = np.abs(table.sum(axis=1) - 1)
    if off.max() > ROW_SUM_TOLERANCE:
        share = float(np.mean(off > ROW_SUM_TOLERANCE))
        return Check(
            name,
            FAILED,
            f"{share:.0%} of rows do not sum to 1 within {ROW_SUM_TOLERANCE}; furthest {off.max():.3g}",
            BLEND_AGAIN,
        )
    return Check(name, PASSED, f"{text}; rows sum to 1 within {max(float(off.max()), 1e-7):.1g}")


def _spread(case: Case) -> Check:
    """Constant columns, identical rows, and everything one class."""
    name, values, classes = "form: spread", case.answers.values, case.classes
    if len(values) < 2:
        return Check(name, PASSED, "one row")
    # Of many classes cells hold names, and how many of them says all.
    constant = np.zeros(1, dtype=bool) if isinstance(values, SparseRows) else np.ptp(values, axis=0) <= SAME_DECIMALS
    if constant.all() and case.answers.exact:
        return Check(name, WARNING, f"all {len(values):,} rows say the same", "Check the run's history.")
    top = Counter(classes.top(values))
    if constant.all() or (len(top) == 1 and len(classes) > 2 and not case.multilabel):
        return Check(name, WARNING, f"every row's most probable class is {next(iter(top))!r}", "Check the run's history.")
    if constant.any() and case.answers.exact:
        names = [column for column, flat in zip(classes, constant, strict=True) if flat]
        return Check(name, WARNING, f"constant columns: {shown(names)}", "Check that these classes are in the training data.")
    return Check(name, PASSED, f"{len(top)} of {len(classes)} classes are the most probable one of some row")


def _only(these: Iterable[str], those: Iterable[str]) -> list[str]:
    known = set(those)
    return [text for text in these if text not in known]


def _bare(text: str) -> str:
    """A path without the extension of an image."""
    stem, dot, suffix = text.rpartition(".")
    return stem if dot and f".{suffix.lower()}" in IMAGE_SUFFIXES else text
