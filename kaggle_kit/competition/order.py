"""The orders that class names can stand in, and the integers that a grader may expect for them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from kaggle_kit import files
from kaggle_kit.competition.questions import Asker
from kaggle_kit.errors import DataError
from kaggle_kit.tables import Classes, shown

_INTEGER = re.compile(r"[+-]?\d+")
_NEGATIVE = ("0", "no", "false", "negative", "neg", "n", "f", "normal", "healthy", "background", "none")


def is_integer(text: str) -> bool:
    return bool(_INTEGER.fullmatch(text)) and text.isascii()


def lexical(names: Sequence[str]) -> list[str]:
    """By code point: 1, 10, 2."""
    return sorted(names)


def natural(names: Sequence[str]) -> list[str]:
    """Numbers inside names by value, letters without regard to case: 1, 2, 10."""
    return sorted(names, key=lambda name: ([_natural_part(part) for part in re.split(r"(\d+)", name.lower())], name))


def _natural_part(part: str) -> tuple[int, int, str]:
    return (0, int(part), "") if part.isascii() and part.isdigit() else (1, 0, part)


def appearance(names: Sequence[str]) -> list[str]:
    """As they first occur in the training table."""
    return list(names)


ORDERS: dict[str, Callable[[Sequence[str]], list[str]]] = {"lexical": lexical, "natural": natural, "appearance": appearance}


def usual(names: Sequence[str]) -> list[str]:
    """By value when all names are integers, else lexical; of two, one that says no comes first."""
    if all(map(is_integer, names)):
        ordered = sorted(names, key=lambda name: (int(name), name))
    else:
        ordered = lexical(names)
    if len(ordered) == 2 and ordered[1].lower() in _NEGATIVE and ordered[0].lower() not in _NEGATIVE:
        ordered.reverse()
    return ordered


def says_no(names: Sequence[str]) -> bool:
    """Whether exactly one of two names is a word for the negative class."""
    return len(names) == 2 and sum(name.lower() in _NEGATIVE for name in names) == 1


def choose_indices(
    asker: Asker, names: Sequence[str], found: Sequence[str], *, data_dir: Path, tables: Sequence[str], in_table: bool
) -> dict[str, int]:
    """The integer that the grader means by each class: from a table of the two, or by a choice; never guessed.

    Args:
        names: the classes, in the order in which the training data shows them.
        found: integers seen in the sample submission.
        tables: CSV files that may be such a table, relative to ``data_dir``.
        in_table: whether the order of first appearance means anything.
    """
    written = {table: pairs for table in tables if (pairs := _read_pairs(data_dir / table, names))}
    options = {f"file:{table}": f"the integers in {table}" for table in written}
    seen: list[list[str]] = []
    for order, arrange in ORDERS.items():
        arranged = arrange(names)
        if arranged not in seen and (order != "appearance" or in_table):
            seen.append(arranged)
            options[order] = f"{order} order: {', '.join(map(repr, arranged[:4]))}{' …' if len(arranged) > 4 else ''}"
    only = next(iter(options)) if len(written) == 1 else None
    choice = asker.ask(
        "class_order",
        f"the sample submission holds integers, and the classes are names ({shown(map(repr, names))}). Which class is which?",
        options,
        default=only,
        settled=f"the sample submission holds integers; {only and only[5:]} says which class each one means.",
    )
    if choice.startswith("file:"):
        return written[choice.removeprefix("file:")]
    base = _first_index(asker, len(names), found)
    ordered = Classes(tuple(ORDERS[choice](names)))
    return {name: ordered.index(name) + base for name in ordered}


def _first_index(asker: Asker, count: int, found: Sequence[str]) -> int:
    values = {int(float(text)) for text in found}
    options = {"0": f"classes are counted 0..{count - 1}", "1": f"classes are counted 1..{count}"}
    wrong = [str(value) for value in values if not 0 <= value <= count]
    if wrong or {0, count} <= values:
        raise DataError(
            f"the sample submission holds the integers {shown(map(str, sorted(values)))}, but there are {count} classes."
        )
    # A sample that holds one number only may hold a placeholder, which says nothing.
    if len(values) > 1 and (0 in values or count in values):
        start = "0" if 0 in values else "1"
        return int(
            asker.ask(
                "first_index",
                "is the first class 0 or 1?",
                options,
                default=start,
                settled=f"the sample submission's integers show that {options[start]}.",
            )
        )
    return int(asker.ask("first_index", "is the first class 0 or 1? The sample submission's integers allow both.", options))


def _read_pairs(path: Path, names: Sequence[str]) -> dict[str, int]:
    """class -> integer from a CSV of two columns that covers all ``names``; empty when it is no such table."""
    try:
        frame = files.read_table(path)
    except DataError:
        return {}
    if frame.shape[1] != 2:
        return {}
    left, right = list(frame.iloc[:, 0]), list(frame.iloc[:, 1])
    for classes, numbers in ((left, right), (right, left)):
        unique = len(set(classes)) == len(classes) == len(set(numbers))
        if unique and set(names) <= set(classes) and all(map(is_integer, numbers)):
            return {name: int(number) for name, number in zip(classes, numbers, strict=True) if name in names}
    return {}
