"""Which folds are meant by ``--fold``."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kaggle_kit.errors import ConfigError
from kaggle_kit.fold_names import FULL, fold_name

_RANGE = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?")


def chosen_folds(fold: str | Sequence[int], n_splits: int) -> list[int]:
    """Return fold numbers of ``all``, ``0``, ``0,2`` or ``0-3``, in ascending order, or the numbers as given; ``full`` is FULL.

    Raises:
        ConfigError: the text is something else, or there is no such fold.
    """
    if isinstance(fold, str) and fold.strip() == fold_name(FULL):
        return [FULL]
    if isinstance(fold, str):
        return parse_folds(fold, n_splits)
    return checked_folds(fold, n_splits)


def parse_folds(text: str, n_splits: int) -> list[int]:
    """Return ``all``, ``0``, ``0,2`` or ``0-3`` as fold numbers, in ascending order; raises as :func:`chosen_folds`."""
    if text.strip() == "all":
        return list(range(n_splits))
    numbers: set[int] = set()
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            alone = f"; {fold_name(FULL)}, all data, stands alone" if part.strip() == fold_name(FULL) else ""
            raise ConfigError(f"folds must be written as all, 0, 0,2 or 0-3, got {text!r}{alone}.")
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last:
            raise ConfigError(f"a range of folds must ascend, got {part.strip()!r}.")
        if last >= n_splits:  # before a range of a thousand million is written out
            checked_folds([last], n_splits)
        numbers.update(range(first, last + 1))
    return checked_folds(sorted(numbers), n_splits)


def checked_folds(numbers: Sequence[int], n_splits: int) -> list[int]:
    """Return the same numbers, when the fold table has them; raises as :func:`chosen_folds`."""
    wrong = [number for number in numbers if not 0 <= number < n_splits]
    if wrong or not numbers:
        raise ConfigError(f"folds must lie in 0..{n_splits - 1}, got {', '.join(map(str, wrong)) or 'none'}.")
    return list(numbers)
