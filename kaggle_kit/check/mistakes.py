"""Known ways to write a class under another class's name: lists of classes in another order, integers counted another way."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kaggle_kit.tables import Classes

Array = npt.NDArray[Any]


def class_lists(classes: Classes, frequent: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The orders in which programs list classes; a list that equals an earlier one is left out.

    Args:
        frequent: the names from the most to the least frequent one; () when that is not known.
    """
    names = classes.names
    lists = {
        "kk.yaml's": names,
        "alphabetical": tuple(sorted(names)),
        "natural": tuple(sorted(names, key=_natural)),
        "frequency": tuple(frequent),
        "reversed": names[::-1],
    }
    return {what: order for at, (what, order) in enumerate(lists.items()) if order and order not in list(lists.values())[:at]}


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Numbers in names by value, letters without regard to case."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name.lower())]


def column_orders(classes: Classes, frequent: Sequence[str], header: Sequence[str]) -> dict[str, Array]:
    """Orders of columns that a wrong list of classes gives: under it, ``values[:, order]`` has each class in its column.

    Args:
        header: the classes in the order of the file's columns; () for a file that names classes in its cells.
    """
    lists = class_lists(classes, frequent)
    if header and set(header) == set(classes):
        lists = {"the file's": tuple(header)} | {what: order for what, order in lists.items() if order != tuple(header)}
    found: dict[str, Array] = {}
    kept = {tuple(range(len(classes)))}
    for meant_as, meant in _meant(lists):
        for written_as, written in lists.items():
            order = np.empty(len(classes), dtype=np.int64)
            order[classes.encode(meant)] = classes.encode(written)
            if tuple(order) not in kept:
                kept.add(tuple(order))
                found[f"classes in {meant_as} order look written under names in {written_as} order"] = order
    return found


def _meant(lists: Mapping[str, tuple[str, ...]]) -> list[tuple[str, tuple[str, ...]]]:
    """The lists, and each shifted by one place either way."""
    found = list(lists.items())
    for what, names in lists.items():
        found += [(f"{what} (shifted by {by:+d})", names[by:] + names[:by]) for by in (1, -1)]
    return found


def readings_of_integers(
    cells: Sequence[str], classes: Classes, indices: Mapping[str, int], frequent: Sequence[str]
) -> dict[str, Array]:
    """What cells that hold integers mean if these count a list of classes: text -> (N, C) 0/1. Empty for other cells.

    Args:
        indices: class -> the integer that the grader expects; {} for a grader that expects the names.
    """
    try:
        numbers = np.array([int(cell) for cell in cells], dtype=np.int64)
    except (ValueError, OverflowError):
        return {}
    found = {}
    for what, names in class_lists(classes, frequent).items():
        for first in (0, 1):
            text = f"each value looks like the index in the {what} list of classes, counted from {first}"
            found[text] = _decoded(numbers - first, dict(enumerate(names)), classes)
    by_number = {number: name for name, number in indices.items()} or _by_name(classes)
    for off in (1, -1):
        text = f"each value looks {abs(off)} too {'high' if off > 0 else 'low'}"
        found[text] = _decoded(numbers - off, by_number, classes)
    return found


def _by_name(classes: Classes) -> dict[int, str]:
    """Classes whose names are integers, by their value."""
    return {int(name): name for name in classes if name.isdecimal()}


def _decoded(numbers: Array, names: Mapping[int, str], classes: Classes) -> Array:
    """(N, C) 0/1; a number that stands for no class gives a row of 0."""
    values = np.zeros((len(numbers), len(classes)))
    for row, number in enumerate(numbers.tolist()):
        if number in names:
            values[row, classes.index(names[number])] = 1.0
    return values
