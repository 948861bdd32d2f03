"""The layout of a CSV with labels: which file, which column names the images, which columns hold the labels."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from kaggle_kit.competition.layouts.labels import MISSING, SEPARATORS, YES, is_switch, split_cell
from kaggle_kit.competition.matching import ImageIndex, leaves_folder
from kaggle_kit.competition.order import is_integer
from kaggle_kit.competition.questions import Asker
from kaggle_kit.competition.sample import Sample, long_form, naming_share
from kaggle_kit.competition.scan import Tree, role_of
from kaggle_kit.competition.tabular import CATEGORY, read_frame
from kaggle_kit.errors import DataError
from kaggle_kit.tables import shown

_LABEL_NAMES = ("label", "labels", "target", "class", "category")
_GROUP_NAMES = frozenset({"group", "group_id", "patient", "patient_id", "subject", "subject_id", "individual_id", "site_id"})
_GROUP_WORDS = frozenset(
    {"group", "patient", "subject", "individual", "person", "people", "user", "driver", "participant", "owner", "animal"}
    | {
        "site",
        "place",
        "location",
        "camera",
        "plot",
        "field",
        "house",
        "room",
        "station",
        "sensor",
        "specimen",
        "plant",
        "tree",
    }
    | {"seq", "sequence", "series", "burst", "video", "clip", "scene", "session", "visit", "event", "capture", "episode"}
    | {"case", "study", "exam", "slide", "scan", "volume", "lesion", "hotel", "product", "item", "source"}
)
"""Words in the name of a column that says which rows show the same thing."""
_ENOUGH_GROUPS = 10
"""Fewer groups cannot be spread over folds."""
_FOLD_NAMES = frozenset({"fold", "folds", "kfold"})
_IMAGE_NAMES = frozenset(
    {"image", "image_id", "image_name", "image_path", "img", "file", "filename", "file_name", "filepath", "path"}
)
JOINT = "one-per-class"
NONE = "none"


@dataclass(frozen=True)
class CsvTable:
    """A table, with the columns whose cells name images; those that name each image once come first.

    Attributes:
        annotated: whether it is in COCO's form, with annotations.
        separator: of a table with a row for each image and class, what stands between the two; ``frame`` has a column a class.
    """

    file: str
    frame: pd.DataFrame
    image_columns: tuple[str, ...]
    annotated: bool = False
    separator: str | None = None

    @property
    def role(self) -> str | None:
        return role_of(self.file.rpartition("/")[2].rpartition(".")[0])

    def rest(self, image_column: str) -> list[str]:
        """Columns that may hold labels: not the ids, not constant, not fractions, not a number of its own for each row."""
        return [column for column in map(str, self.frame.columns) if column != image_column and self._may_label(column)]

    def _may_label(self, column: str) -> bool:
        cells = self.frame[column]
        different = cells.nunique()
        own = different == len(cells) and len(cells) >= 10
        if own or different == 1 or (column in self.image_columns and different == len(cells)):
            return False
        return not any(_is_fraction(cell) for cell in cells.unique())


def read_tables(asker: Asker, data_dir: Path, tree: Tree, sample: Sample | None, index: ImageIndex) -> list[CsvTable]:
    """All tables but the sample submission that name images; those that cannot be read are findings.

    A column that was chosen as that of the images is believed to be, so that what lacks can be said.

    Raises:
        DataError: the only table with a column called image or the like has names that leave the data folder.
    """
    tables, escaping = [], []
    for file in (*tree.tables, *tree.documents):
        if sample is not None and file == sample.file:
            continue
        try:
            frame = read_frame(data_dir / file)
        except DataError as error:
            if file in tree.tables:  # most JSON is no table, which is no news
                asker.find(f"{file} is left aside: {error}")
            continue
        columns = [str(column) for column in frame.columns if naming_share(list(frame[column]), index) >= 0.5]
        columns += [column for column in asker.said("image_column") if column in frame and column not in columns]
        long = None if columns else long_form(frame, index)
        if long is not None:
            asker.find(f"{file} has a row for each image and class; the class stands behind the id, after {long[0]!r}.")
            tables.append(CsvTable(file, long[1], (str(frame.columns[0]),), separator=long[0]))
            continue
        if columns:
            ordered = tuple(sorted(columns, key=lambda column: not frame[column].is_unique))
            annotated = file in tree.documents and CATEGORY in frame
            tables.append(CsvTable(file, frame, ordered, annotated))
            continue
        for column in frame.columns:
            outside = [cell for cell in frame[column] if leaves_folder(cell)]
            if outside and (str(column).lower() in _IMAGE_NAMES or len(outside) == len(frame)):
                escaping.append(f"{file}, column {column!r}: {shown(map(repr, outside))}")
    if escaping and not tables:
        raise DataError(
            f"image names leave the data folder: {'; '.join(escaping)}. Expected names or paths relative to it; correct "
            "the file."
        )
    return tables


def choose_table(asker: Asker, tables: Sequence[CsvTable], sample: Sample | None = None) -> CsvTable:
    """The table with the training labels, of several that could be it."""
    by_file = {table.file: table for table in tables}
    named = [table.file for table in tables if table.role == "train"]
    alike = (
        [] if sample is None else [one.file for one in tables if {sample.id_column, *sample.targets} <= set(one.frame.columns)]
    )
    only = len(tables) == 1
    default = tables[0].file if only else named[0] if len(named) == 1 else alike[0] if len(alike) == 1 else None
    why = f"the training labels are in {default}" + ("." if only else ", which has the columns of the sample submission.")
    options = {
        file: f"columns {shown(map(str, by_file[file].frame.columns))}; {len(by_file[file].frame):,} rows" for file in by_file
    }
    return by_file[
        asker.ask(
            "train_csv",
            "which table holds the training labels?",
            options,
            default=default,
            settled=why if only or alike == [default] else None,
        )
    ]


def choose_image_column(asker: Asker, table: CsvTable, index: ImageIndex, sample: Sample | None) -> str:
    """The column whose cells name the images and are the rows' ids."""
    unique = [column for column in table.image_columns if table.frame[column].is_unique]
    candidates = unique or list(table.image_columns)
    options = {column: f"for example {table.frame[column].iloc[0]!r}" for column in (*candidates, *table.image_columns)}
    default: str | None
    why: str | None
    same = len({tuple(index.find(cell) for cell in table.frame[column].head(1000)) for column in candidates}) == 1
    if len(candidates) == 1:
        default = candidates[0]
        why = f"column {default!r} of {table.file} names the images."
    elif sample is not None and sample.id_column in candidates:
        default = sample.id_column
        why = f"column {default!r} of {table.file} names the images, like the id column of the sample submission."
    else:
        default, why = candidates[0] if same else None, None
    text = f"several columns of {table.file} name images. Which one are the ids?"
    return asker.ask("image_column", text, options, default=default, settled=why)


def choose_label_columns(asker: Asker, table: CsvTable, image_column: str, sample: Sample | None) -> list[str]:
    """The column of labels, or the 0/1 columns that are one per class.

    Raises:
        DataError: no column can hold labels.
    """
    columns = [str(column) for column in table.frame.columns if str(column) != image_column]
    rest = [column for column in table.rest(image_column) if not _is_other(table.frame, column)]
    rest = rest or table.rest(image_column)
    switches = [column for column in columns if is_switch(table.frame[column])]
    switches = [column for column in switches if column in rest or len(switches) > 2]
    others = [column for column in rest if column not in switches]
    joint = _joint(switches, others, sample)
    options = {column: _described(table.frame, column) for column in rest}
    if len(joint) > 1:
        options[JOINT] = f"one 0/1 column per class: {shown(joint)}"
    if not options:
        raise DataError(
            f"{table.file} has no column that could hold labels beside {image_column!r}; it has {shown(map(repr, columns))}. "
            "Expected one column of labels, or one 0/1 column per class."
        )
    default, why = _evident(table, rest, others, joint, sample)
    text = f"which column of {table.file} holds the labels?"
    for column in columns:  # an odd choice is allowed, but not proposed
        if asker.given("label_column") == column:
            options.setdefault(column, _described(table.frame, column))
    chosen = asker.ask("label_column", text, options, default=default, settled=why)
    return joint if chosen == JOINT else [chosen]


def _joint(switches: list[str], others: list[str], sample: Sample | None) -> list[str]:
    """The 0/1 columns that are classes: those of the sample submission where it names them."""
    if sample is not None and len(sample.targets) > 1 and set(sample.targets) <= set(switches):
        return list(sample.targets)
    return switches if len(switches) > 1 or not others else []


def _evident(
    table: CsvTable, rest: Sequence[str], others: Sequence[str], joint: Sequence[str], sample: Sample | None
) -> tuple[str | None, str | None]:
    """The default and why nothing need be asked; both None where the data does not say."""
    single = f"the labels are in column {{!r}} of {table.file}"
    if sample is not None and len(sample.targets) > 1:
        if joint and set(sample.targets) == set(joint):
            return JOINT, f"{table.file} has one 0/1 column for each column of the sample submission: {shown(joint)}."
        fitting = [column for column in rest if _values(table.frame, column) == set(sample.targets)]
        if len(fitting) == 1:
            return fitting[0], single.format(fitting[0]) + ", for its values are the columns of the sample submission."
    if sample is not None and len(sample.targets) == 1:
        if sample.targets[0] in rest:
            return sample.targets[0], single.format(sample.targets[0]) + ", called as in the sample submission."
        words = {value for value in sample.values if not _is_number(value)}
        fitting = [column for column in rest if words and words <= _values(table.frame, column)]
        if len(fitting) == 1:
            return fitting[0], single.format(fitting[0]) + ", for the sample submission's labels occur there."
    if len(joint) > 2 and not others:
        return JOINT, f"{table.file} has one 0/1 column per class: {shown(joint)}."
    if len(rest) == 1 and len(joint) < 2:
        return rest[0], single.format(rest[0]) + "."
    named = [column for column in rest if column.lower() in _LABEL_NAMES]
    return (named[0] if len(named) == 1 else None), None


def choose_separator(asker: Asker, cells: Iterable[str], source: str, sample: Sample | None) -> str | None:
    """What separates several labels in a cell; None when a cell is one name."""
    counts = Counter(cell for cell in cells if cell.strip())
    found = {word: sign for word, sign in SEPARATORS.items() if any(len(split_cell(cell, sign)) > 1 for cell in counts)}
    if not found:
        asker.given("label_separator")
        return None
    options = {NONE: f"a cell is one name, {len(counts)} classes: {shown(map(repr, counts))}"}
    for word, sign in found.items():
        parts = _parts(counts, sign)
        options[word] = f"a cell holds names separated by a {word}, {len(parts)} classes: {shown(map(repr, parts))}"
    default, why = _evident_separator(counts, found, source, sample)
    text = f"{source} has cells such as {next(cell for cell in counts if _splits(cell, found))!r}: one name, or several labels?"
    return SEPARATORS.get(asker.ask("label_separator", text, options, default=default, settled=why))


def _evident_separator(
    counts: Mapping[str, int], found: Mapping[str, str], source: str, sample: Sample | None
) -> tuple[str | None, str | None]:
    """A default for the separator, and why it is certain where it is.

    The columns of the sample submission settle it, and so does a cell there that puts known names together anew. Else several
    labels are the likely reading when every part of every cell also stands alone somewhere, and one name is when every part
    belongs to a single cell. In between neither is safe.
    """
    if sample is not None and len(sample.targets) > 1:
        if set(counts) <= set(sample.targets):
            return NONE, f"a cell of {source} is one name, for the sample submission has such columns."
        for word, sign in found.items():
            if set(_parts(counts, sign)) <= set(sample.targets):
                return word, f"a cell of {source} may hold several labels, separated by a {word}: the columns of the sample."
    if sample is not None and len(sample.targets) == 1:
        new = [value for value in sample.values if value not in counts]
        for word, sign in found.items():
            known = set(_parts(counts, sign))
            if any(len(split_cell(value, sign)) > 1 and set(split_cell(value, sign)) <= known for value in new):
                return word, f"a cell of {source} may hold several labels, separated by a {word}, as in the sample submission."
    closed = [word for word, sign in found.items() if all(part in counts for part in _parts(counts, sign))]
    if len(closed) == 1:
        return closed[0], None
    if not closed and "pipe" in found:
        return "pipe", None
    lone = all(_only_together(counts, sign) for sign in found.values())
    return (NONE if lone and not closed else None), None


def _only_together(counts: Mapping[str, int], sign: str) -> bool:
    uses = Counter(part for cell in counts for part in split_cell(cell, sign))
    return all(count == 1 for count in uses.values())


def _parts(cells: Iterable[str], sign: str) -> list[str]:
    return list(dict.fromkeys(part for cell in cells for part in split_cell(cell, sign)))


def _splits(cell: str, found: Mapping[str, str]) -> bool:
    return any(len(split_cell(cell, sign)) > 1 for sign in found.values())


def choose_missing(asker: Asker, cells: Sequence[str], source: str, *, several: bool) -> dict[str, str | None]:
    """The ``label_map`` for cells without a label; an empty cell of several labels is a row without any."""
    counts = Counter(cells)
    wanted = [cell for cell in counts if cell in MISSING or not cell.strip()]
    if several and "" in wanted:
        wanted.remove("")
        asker.find(f"{counts['']:,} rows of {source} have no label; in a multi-label task they are rows of no class.")
    if not wanted:
        asker.given("missing_labels")
        return {}
    rows = sum(counts[cell] for cell in wanted)
    options = {"drop": "leave these rows out"}
    if any(cell.strip() for cell in wanted):
        options["class"] = "they are rows of a class with this name"
    text = f"{rows:,} rows of {source} have no label ({shown(map(repr, wanted))}). What about them?"
    if asker.ask("missing_labels", text, options) == "class":
        wanted = [cell for cell in wanted if not cell.strip()]
    return dict.fromkeys(wanted)


def choose_group(asker: Asker, table: CsvTable, taken: Sequence[str], id_columns: Sequence[str] = ()) -> str | None:
    """A column whose rows belong together, such as photographs of one patient.

    It is found by the words in its name and by values that repeat; of several the one with the largest groups that can still
    be spread over folds is proposed, and taken unless told otherwise: a group too many costs little, one that leaks a lot.
    """
    columns = [str(column) for column in table.frame.columns if column not in taken]
    given = asker.given("group_column")
    likely = sorted(
        (column for column in columns if _says_group(table.frame, column, id_columns)),
        key=lambda column: table.frame[column].nunique(),
    )
    if not likely and given is None:
        return None
    proposed = [column for column in columns if column in likely or column == given]
    options = {column: _grouped(table.frame, column) for column in proposed}
    options[NONE] = "rows are independent"
    text = f"does a column of {table.file} say which rows belong together?"
    value = asker.ask("group_column", text, options, default=likely[0] if likely else NONE)
    return None if value == NONE else value


def _says_group(frame: pd.DataFrame, column: str, id_columns: Sequence[str]) -> bool:
    """Whether a column's name and values say that its rows belong together."""
    words = {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", column)}
    count = frame[column].nunique()
    if not (column.lower() in _GROUP_NAMES or words & _GROUP_WORDS) or count == len(frame) or count < 2:
        return False
    few = count < _ENOUGH_GROUPS
    return not (few and (column.lower() not in _GROUP_NAMES or len(frame) >= 5 * _ENOUGH_GROUPS)) or column in id_columns


def _grouped(frame: pd.DataFrame, column: str) -> str:
    """What a group column would mean, with how many groups folds by chance would part."""
    sizes = frame[column].value_counts()
    parted = int((sizes > 1).sum())
    return (
        f"rows with the same {column!r} stay in one fold; by chance up to {parted:,} of {len(sizes):,} groups would be parted"
    )


def fold_column(asker: Asker, table: CsvTable, taken: Sequence[str]) -> str | None:
    """A column with folds that came with the data."""
    for column in map(str, table.frame.columns):
        if column.lower() in _FOLD_NAMES and column not in taken and all(map(is_integer, table.frame[column])):
            asker.find(f"column {column!r} of {table.file} holds folds; `kk folds --scheme column` uses them.")
            return column
    return None


def is_exclusive(frame: pd.DataFrame, columns: Sequence[str]) -> bool:
    """Whether every row has exactly one 1."""
    return bool((frame[list(columns)].isin(YES).sum(axis=1) == 1).all())


def _is_other(frame: pd.DataFrame, column: str) -> bool:
    name = column.lower()
    return _says_group(frame, column, ()) or (name in _FOLD_NAMES and all(map(is_integer, frame[column].unique())))


def _values(frame: pd.DataFrame, column: str) -> set[str]:
    return set(frame[column].unique())


def _described(frame: pd.DataFrame, column: str) -> str:
    values = list(dict.fromkeys(frame[column]))
    return f"{len(values)} different values: {shown(map(repr, values))}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.strip().lower() not in ("nan", "inf", "infinity")


def _is_fraction(text: str) -> bool:
    return _is_number(text) and not is_integer(text) and math.isfinite(float(text)) and not float(text).is_integer()
