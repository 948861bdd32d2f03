"""Evidence that rows belong together: images that look alike agree, beyond chance, in a column of the table or in their ids."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from kaggle_kit.competition import Competition, ImageRow
from kaggle_kit.competition.layouts.csv import joined
from kaggle_kit.competition.tabular import read_frame
from kaggle_kit.config import TrainDataConfig
from kaggle_kit.folds.duplicates import Duplicates

PATTERNS = (r"([^/_-]+)[_-][^/]*$", r"([^/]+)[_-][^/_-]+$")
"""Of the name in an id its first part, and all but its last."""
_LEAST_PAIRS, _LEAST_SHARE, _LEAST_GROUPS = 5, 0.5, 10
_DEVIATIONS = 4.0
Said = Mapping[str, str]
"""Id of a row -> what is said of it."""


@dataclass(frozen=True)
class _Agreement:
    """How often pairs of like images agree in something, and how often they would by chance."""

    key: str
    value: str
    agree: int
    expected: float
    pairs: int
    groups: int

    @property
    def telling(self) -> bool:
        """Whether it is no chance: most pairs agree, twice as many as expected, four standard deviations beyond it."""
        share, chance = self.agree / self.pairs, self.expected / self.pairs
        deviation = np.sqrt(max(self.pairs * chance * (1 - chance), 1e-12))
        return share >= max(_LEAST_SHARE, 2 * chance) and self.agree - self.expected >= _DEVIATIONS * deviation

    def __str__(self) -> str:
        what = "ids in the part that " if self.key == "group_pattern" else "column "
        return (
            f"{self.agree} of {self.pairs} pairs of like images agree in {what}{self.value!r}{' finds' * (what[0] == 'i')}, by "
            f"chance {self.expected:.1f} would: its {self.groups:,} groups seem to show one thing each, and validation is too "
            f"good where one is parted. To keep each in one fold, write {self.key}: '{self.value}' to competition.train in "
            "kk.yaml, and run `kk folds --force`."
        )


def with_evidence(
    found: Duplicates | None, competition: Competition, data_dir: Path, train: TrainDataConfig
) -> Duplicates | None:
    """Return what was found, with a warning about the strongest sign that rows are related by more than being duplicates.

    Args:
        data_dir: where the competition's files lie, unpacked.
        train: how its training data are read.
    """
    if found is None:
        return None
    rows = {row.id: row for row in competition.train}
    pairs = [
        (rows[one], rows[other])
        for ids in found.train_groups()
        for one, other in pairwise(ids)
        if rows[one].labels == rows[other].labels and (rows[one].group is None or rows[one].group != rows[other].group)
    ]
    if len(pairs) < _LEAST_PAIRS:
        return found
    agreements = [
        _agreement(key, value, said, pairs, competition.train) for key, value, said in _sayings(data_dir, train, rows)
    ]
    telling = [one for one in agreements if one is not None and one.telling]
    if not telling:
        return found
    best = max(telling, key=lambda one: (one.agree - one.expected, -one.groups))
    return replace(found, warnings=(*found.warnings, str(best)))


def _sayings(data_dir: Path, train: TrainDataConfig, rows: Mapping[str, ImageRow]) -> Iterator[tuple[str, str, Said]]:
    """What could name groups: key of kk.yaml and its value, and what that says of each row."""
    for pattern in PATTERNS:
        parts = {row_id: match.group(1) for row_id in rows if (match := re.search(pattern, row_id))}
        yield "group_pattern", pattern, parts
    if train.csv is None or train.image_column is None or train.class_separator is not None:
        return
    frame = read_frame(data_dir / train.csv)
    ids = joined(frame, train.id_columns or [train.image_column])
    used = {train.image_column, train.group_column, train.fold_column, *train.label_columns, *train.id_columns}
    for column in map(str, frame.columns):
        if column not in used:
            cells = dict(zip(reversed(ids), reversed(list(frame[column])), strict=True))  # an id's first row counts
            yield "group_column", column, {row_id: cell for row_id, cell in cells.items() if cell and row_id in rows}


def _agreement(
    key: str, value: str, said: Said, pairs: Sequence[tuple[ImageRow, ImageRow]], rows: Sequence[ImageRow]
) -> _Agreement | None:
    """Compare like images with images of the same class; None where nothing is said of most, or no groups of it."""
    groups = len(set(said.values()))
    known = [(one, other) for one, other in pairs if one.id in said and other.id in said]
    if len(known) < max(_LEAST_PAIRS, len(pairs) / 2) or not _LEAST_GROUPS <= groups < len(said):
        return None
    sizes = Counter(row.labels for row in rows if row.id in said)
    counts = Counter((row.labels, said[row.id]) for row in rows if row.id in said)
    same: Counter[tuple[str, ...]] = Counter()
    for (labels, _), count in counts.items():
        same[labels] += count * (count - 1)
    chance = {labels: same[labels] / max(size * (size - 1), 1) for labels, size in sizes.items()}
    expected = sum(chance[one.labels] for one, _ in known)
    agree = sum(said[one.id] == said[other.id] for one, other in known)
    return _Agreement(key, value, agree, expected, len(known), groups)
