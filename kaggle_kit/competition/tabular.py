"""Tables of whatever file type as text: CSV, and JSON as lists of objects, as pairs, or in COCO's form."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from kaggle_kit import files
from kaggle_kit.errors import DataError
from kaggle_kit.tables import shown

_IMAGE_IDS = ("id", "image_id")
_CATEGORY_IDS = ("id", "category_id")
CATEGORY = "category_id"
"""The column of labels of a table in COCO's form."""
MOST_JSON = 4 * 1024**3
"""Bytes of a table in JSON."""


def read_frame(path: Path) -> pd.DataFrame:
    """A table as text, with a header whose names are unique and at least one row.

    Of JSON in COCO's form a row an image: its own entries and, where there are annotations, those of its annotation; of an
    image with several categories they stand in one cell, parted by blanks.

    Raises:
        MissingFileError: there is no such file.
        DataError: it is no such table.
    """
    frame = _from_json(path) if path.suffix.lower() == ".json" else _from_csv(path)
    if frame.empty:
        raise DataError(f"{path} has a header but no rows; expected one row per image.")
    return frame


def _from_csv(path: Path) -> pd.DataFrame:
    frame = files.read_table(path)
    with files.open_regular(path) as handle:
        header = pd.read_csv(handle, dtype=str, keep_default_na=False, encoding="utf-8-sig", header=None, nrows=1)
    names = [str(name) for name in header.iloc[0]]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{path} has the column {shown(map(repr, twice))} more than once; rename one of them.")
    # A header that is one name short makes pandas take the first column for an index.
    if not frame.empty and not isinstance(frame.index, pd.RangeIndex):
        raise DataError(f"{path} has rows with more cells than its header has names; correct the file.")
    # Rows that are too short come as NaN even so.
    return frame.fillna("")


def _parsed(path: Path) -> Any:
    with files.parsing(path, fault="is not JSON", remedy="Download it again.", also=(RecursionError,)):
        return json.loads(files.read_bytes(path, most=MOST_JSON))


def _from_json(path: Path) -> pd.DataFrame:
    content = _parsed(path)
    if _is_list_of(content):
        return _frame(content)
    if isinstance(content, dict) and _is_list_of(content.get("images")):
        return _coco(content, path)
    if isinstance(content, dict) and content and all(isinstance(value, str | int | float) for value in content.values()):
        return pd.DataFrame({"id": list(map(str, content)), "label": [_cell(value) for value in content.values()]}, dtype=str)
    raise DataError(f"{path} is JSON, but no table: expected a list of objects, pairs, or images and annotations as of COCO.")


def _is_list_of(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _frame(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Objects as rows; what is no plain value is left out."""
    cells = [{str(key): _cell(value) for key, value in row.items() if not isinstance(value, list | dict)} for row in rows]
    return pd.DataFrame(cells, dtype=object).fillna("").astype(str)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    return str(value)


def _coco(content: Mapping[str, Any], path: Path) -> pd.DataFrame:
    images = _frame(content["images"])
    key = _first(list(images.columns), _IMAGE_IDS, path)
    if not _is_list_of(content.get("annotations")):
        return images
    found = _frame(content["annotations"])
    if "image_id" not in found or CATEGORY not in found:
        raise DataError(f"{path}: annotations need image_id and category_id, found {shown(map(repr, found.columns))}.")
    several = found.groupby("image_id", sort=False)[CATEGORY].agg(lambda cells: " ".join(dict.fromkeys(cells)))
    others = [name for name in found.columns if name not in (CATEGORY, "id", "image_id", *images.columns)]
    firsts = found.drop_duplicates("image_id").set_index("image_id")[others]
    labelled = images[images[key].isin(several.index)].reset_index(drop=True)
    table = pd.concat([labelled, firsts.reindex(labelled[key]).reset_index(drop=True)], axis=1)
    table.insert(1, CATEGORY, list(several.reindex(labelled[key])))
    names = _names_of_categories(content)
    if names:
        table["category_name"] = [" ".join(names.get(part, part) for part in cell.split()) for cell in table[CATEGORY]]
    return table.astype(str)


def _names_of_categories(content: Mapping[str, Any]) -> dict[str, str]:
    """Id of a category -> its name, where there are names."""
    categories = content.get("categories")
    if not _is_list_of(categories):
        return {}
    table = _frame(categories if isinstance(categories, list) else [])
    keys = [name for name in _CATEGORY_IDS if name in table]
    return dict(zip(table[keys[0]], table["name"], strict=True)) if keys and "name" in table else {}


def _first(columns: Sequence[str], wanted: Sequence[str], path: Path) -> str:
    known = [name for name in wanted if name in columns]
    if not known:
        raise DataError(f"{path}: images need an id, found {shown(map(repr, columns))}.")
    return known[0]
