"""Control rows: training images that travel among the test images in disguise, to show that test images go the right way."""

from __future__ import annotations

import os
import string
from collections.abc import Collection, Sequence

import numpy as np

from kaggle_kit.tables import FoldTable, Labels

_LETTERS = (string.ascii_lowercase, string.ascii_uppercase)
_TRIES = 64
CONTROL_ROWS = 256
"""How many there are unless somebody asks for another number."""


def sample_control(folds: FoldTable, count: int, *, left_out: Collection[str] = (), seed: int = 0) -> list[str]:
    """Choose up to ``count`` training ids, spread over classes and folds in proportion to their sizes.

    Args:
        left_out: ids that training could not read.

    Returns:
        Ids of rows that are validated on at least once, in the order of the fold table.
    """
    rng = np.random.default_rng(seed)
    rows = rng.permutation(np.flatnonzero(np.any(folds.assignments >= 0, axis=0)))
    by_class: dict[Labels, dict[int, list[int]]] = {}
    for row in rows.tolist():
        if folds.ids[row] not in left_out:
            of_class = by_class.setdefault(folds.labels[row], {})
            of_class.setdefault(int(folds.assignments[0, row]), []).append(row)
    # Rows side by side by class, then fold, at random within: evenly spaced picks are a proportional stratified sample.
    ordered = [row for of_class in by_class.values() for of_fold in of_class.values() for row in of_fold]
    count = min(count, len(ordered))
    picks = (np.arange(count) * len(ordered)) // max(count, 1)
    return [folds.ids[row] for row in sorted(ordered[pick] for pick in picks)]


def disguise(ids: Sequence[str], test_ids: Sequence[str], *, seed: int = 0) -> dict[str, str]:
    """Give each of ``ids`` another one that looks like a test id and is none.

    A test id is drawn; what all test ids begin with, folders and the suffix stay, each other digit is replaced by a digit and
    each letter by a letter that test ids use. Where a pattern is used up, it grows by a digit.

    Returns:
        id -> disguise, all different, in the order of ``ids``.
    """
    rng = np.random.default_rng(seed)
    models = list(test_ids) or list(ids)
    # Letter by letter, not folder by folder: "test_0001" and "test_0002" share "test_000".
    fixed = os.path.commonprefix(models).rstrip(string.digits) if len(models) > 1 else ""  # noqa: RUF071
    alphabet = "".join(sorted({character for model in models for character in _stem(model.removeprefix(fixed))}))
    kinds = (string.digits, *("".join(filter(kind.__contains__, alphabet)) for kind in _LETTERS))
    taken = {*test_ids, *ids}
    result: dict[str, str] = {}
    for row_id in ids:
        model = models[int(rng.integers(len(models)))].removeprefix(fixed)
        tries = 0
        while (made := fixed + _imitate(model, kinds, rng)) in taken:
            tries += 1
            if tries % _TRIES == 0:
                model = model.replace(_stem(model), f"{_stem(model)}0", 1) if _stem(model) else f"0{model}"
        taken.add(made)
        result[row_id] = made
    return result


def _imitate(model: str, kinds: Sequence[str], rng: np.random.Generator) -> str:
    """Other characters of the same kinds in the stem; folder and suffix stay as they are."""
    stem = _stem(model)
    before, _, after = model.rpartition(stem) if stem else ("", "", model)
    return before + "".join(_other(character, kinds, rng) for character in stem) + after


def _other(character: str, kinds: Sequence[str], rng: np.random.Generator) -> str:
    kind = next((kind for kind in kinds if character in kind), character)
    return kind[int(rng.integers(len(kind)))]


def _stem(row_id: str) -> str:
    """The last part of an id, without a suffix such as ``.jpg``."""
    name = row_id.rpartition("/")[2]
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and suffix.isalnum() and not suffix.isdigit() else name
