"""Class names and their order: the only place where a class name becomes an index or an index becomes a name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from kaggle_kit import files
from kaggle_kit.errors import ClassMappingError, ConfigError, DataError
from kaggle_kit.registry import suggest
from kaggle_kit.sparse import SparseRows, kept_columns

Labels = tuple[str, ...]
"""The labels of one row: one name, or for multi-label any number of names."""
SHOWN = 8
"""How many of many values a message names."""


@dataclass(frozen=True)
class Classes:
    """Ordered, unique class names.

    >>> classes = Classes(("cat", "dog"))
    >>> classes.encode(["dog", "cat", "dog"]).tolist()
    [1, 0, 1]
    >>> classes.top([[0.2, 0.8], [0.9, 0.1]])
    ['dog', 'cat']
    >>> classes.above([[0.6, 0.7], [0.1, 0.2]], threshold=0.5)
    [('cat', 'dog'), ()]

    Raises:
        ClassMappingError: there are no names, an empty name or a name twice.
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        if not self.names:
            raise ClassMappingError("a list of classes needs at least one name, got none.")
        if any(not isinstance(name, str) or not name for name in self.names):
            raise ClassMappingError(f"class names must be non-empty strings, got {shown(map(repr, self.names))}.")
        if len(self._positions) != len(self.names):
            twice = [name for name in dict.fromkeys(self.names) if self.names.count(name) > 1]
            raise ClassMappingError(f"class names must be unique, found twice: {shown(twice)}.")

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._positions

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {name: position for position, name in enumerate(self.names)}

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the ordered names; another order is another fingerprint."""
        return files.fingerprint(list(self.names))

    def index(self, name: str) -> int:
        """Position of ``name``.

        Raises:
            ClassMappingError: no class has this name.
        """
        try:
            return self._positions[name]
        except KeyError:
            raise ClassMappingError(f"label {name!r} is none of the {len(self)} classes ({shown(self.names)}).") from None

    def require(self, names: Iterable[str], *, key: str) -> None:
        """Refuse what is no class.

        Args:
            key: of the configuration, which holds ``names``.

        Raises:
            ConfigError: some of ``names`` are no classes.
        """
        unknown = [name for name in names if name not in self]
        if unknown:
            raise ConfigError(
                f"{key} names classes that do not exist: {shown(unknown)}.{suggest(unknown[0], self)} There are: {shown(self)}."
            )

    def encode(self, labels: Iterable[str]) -> npt.NDArray[np.int64]:
        """Names to positions, (N,)."""
        return np.array([self.index(label) for label in labels], dtype=np.int64)

    def encode_rows(self, rows: Iterable[Iterable[str]]) -> npt.NDArray[np.uint8]:
        """Rows of any number of names to a 0/1 matrix, (N, C)."""
        columns = [[self.index(name) for name in row] for row in rows]
        matrix = np.zeros((len(columns), len(self)), dtype=np.uint8)
        counts = [len(row) for row in columns]
        matrix[np.repeat(np.arange(len(columns)), counts), np.array(list(chain(*columns)), dtype=np.int64)] = 1
        return matrix

    def hot(self, rows: Iterable[Iterable[str]]) -> npt.NDArray[Any]:
        """Rows of few names to (N, C) of 0 and 1; :class:`SparseRows` where classes are many."""
        if not kept_columns(len(self)):
            return self.encode_rows(rows)
        return cast(npt.NDArray[Any], SparseRows.named([[self.index(name) for name in row] for row in rows], len(self)))

    def decode(self, positions: Iterable[int]) -> list[str]:
        """Positions to names.

        Raises:
            ClassMappingError: a position lies outside 0..C-1 (negative ones included: they would wrap around).
        """
        positions = [int(position) for position in positions]
        wrong = [position for position in positions if not 0 <= position < len(self)]
        if wrong:
            raise ClassMappingError(f"class index must lie in 0..{len(self) - 1}, got {shown(map(str, wrong))}.")
        return [self.names[position] for position in positions]

    def top(self, probs: npt.ArrayLike) -> list[str]:
        """The most probable class of each row of ``probs`` (N, C); the first one on a tie."""
        return self.decode(self._columns(probs).argmax(axis=1))

    def above(self, probs: npt.ArrayLike, threshold: npt.ArrayLike = 0.5, *, at_least_one: bool = False) -> list[Labels]:
        """The classes of each row whose probability reaches ``threshold`` (a number or (C,)), in class order.

        With ``at_least_one``, a row that no class reaches gets its most probable class.
        """
        probs = self._columns(probs)
        chosen = probs >= np.asarray(threshold)
        if at_least_one:
            empty = ~chosen.any(axis=1)
            chosen[empty, probs[empty].argmax(axis=1)] = True
        return [tuple(self.decode(np.flatnonzero(row))) for row in chosen]

    def order_of(self, other: Classes, *, here: str, there: str) -> npt.NDArray[np.int64]:
        """Positions in ``other`` of these classes, so that ``there_probs[:, order]`` has this column order.

        Raises:
            ClassMappingError: the two hold different names; names those that differ.
        """
        if set(self.names) != set(other.names):
            raise ClassMappingError(self.difference(other, here=here, there=there))
        return other.encode(self.names)

    def require_same(self, other: Classes, *, here: str, there: str) -> None:
        """Refuse ``other`` unless it has the same names in the same order.

        Raises:
            ClassMappingError: names the files and the classes that differ.
        """
        if self.names != other.names:
            raise ClassMappingError(self.difference(other, here=here, there=there))

    def difference(self, other: Classes, *, here: str, there: str) -> str:
        """One sentence on how two class lists differ, for messages."""
        only_here = [name for name in self.names if name not in other]
        only_there = [name for name in other.names if name not in self]
        if only_here or only_there:
            parts = [f"only in {place}: {shown(names)}" for place, names in ((here, only_here), (there, only_there)) if names]
            return f"the classes of {here} ({len(self)}) and {there} ({len(other)}) differ; {'; '.join(parts)}."
        moved = [
            f"{position}: {mine!r} / {theirs!r}"
            for position, (mine, theirs) in enumerate(zip(self.names, other.names, strict=True))
            if mine != theirs
        ]
        return f"{here} and {there} hold the same classes in another order; column {shown(moved)}."

    def _columns(self, probs: Any) -> npt.NDArray[Any]:
        probs = probs if isinstance(probs, SparseRows) else np.asarray(probs)
        if probs.ndim != 2 or probs.shape[1] != len(self):
            raise ClassMappingError(f"expected probabilities of shape (N, {len(self)}), got {probs.shape}.")
        return cast(npt.NDArray[Any], probs)


def require_unique(ids: Sequence[str], what: str) -> None:
    """Refuse ids that occur twice.

    Raises:
        DataError: names the ids.
    """
    if len(set(ids)) == len(ids):
        return
    seen: set[str] = set()
    twice = [row_id for row_id in ids if row_id in seen or seen.add(row_id)]  # type: ignore[func-returns-value]
    raise DataError(f"{what}: ids must be unique, found more than once: {shown(dict.fromkeys(twice))}.")


def shown(values: Iterable[str]) -> str:
    """The first few of many values, for messages."""
    listed = list(values)
    more = f" … and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(listed[:SHOWN]) + more
