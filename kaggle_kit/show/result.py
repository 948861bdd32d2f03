"""Showing what a command returned: as text and tables, or as one JSON object."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from kaggle_kit.results import Result, plain
from kaggle_kit.show.table import table
from kaggle_kit.show.terminal import line


def result(found: object, *, as_json: bool = False) -> None:
    """Print a :class:`~kaggle_kit.results.Result`, several of them, a data frame or some text; nothing for None.

    Args:
        as_json: print one JSON value with the keys of docs/cli.md instead, and nothing else.
    """
    if as_json:
        sys.stdout.write(json.dumps(plain(found), indent=2, ensure_ascii=False) + "\n")
    elif isinstance(found, Result):
        _result(found)
    elif isinstance(found, str):
        line(found)
    elif isinstance(found, Sequence):
        for one in found:
            result(one)
    elif found is not None:
        table(found)  # type: ignore[arg-type]  # a data frame: naming the class would import pandas


def _result(found: Result) -> None:
    """Print the table of a result, what it says, and its parts."""
    rows = found.table()
    if rows is not None and len(rows):
        table(rows)
    line(found.describe())
    for part in found.parts:
        _result(part)
