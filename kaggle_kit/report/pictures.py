"""Which images a page shows, and their thumbnails."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kaggle_kit import diagnosis
from kaggle_kit.images.decode import Progress
from kaggle_kit.report.gallery import Album, Picture
from kaggle_kit.report.subjects import Subject
from kaggle_kit.report.thumbnails import make_album, make_thumbnails

SHOWN = 24
"""Pictures of a gallery."""
PER_CELL = 24
"""Pictures of a cell of the confusion matrix."""
RIGHT_PER_CLASS = 2
MOST = 900
"""Thumbnails of a page: about 3 MB."""


@dataclass(frozen=True)
class Pictures:
    """The thumbnails of a page.

    Attributes:
        album: by row of the subject.
        n_wrong: wrong rows of the subject, with a picture or not.
    """

    subject: Subject
    album: Album[int]
    n_wrong: int

    def picture(self, row: int, note: str = "") -> Picture:
        """Return the picture of a row with its classes and how sure the model was."""
        scored = self.subject.scored
        right, sure = scored.sureness
        return self.album.picture(
            row,
            scored.ids[row],
            label=scored.names(row),
            predicted=scored.names(row, predicted=True),
            probability=float(sure[row]),
            note=note,
            mark="right" if right[row] else "wrong",
        )


def rows_to_show(subject: Subject) -> list[int]:
    """Return the rows whose images a page shows: the surest mistakes, what was right by a hair, and some of each cell."""
    scored = subject.scored
    right, sure = scored.sureness
    chosen = dict.fromkeys(diagnosis.surest_mistakes(right, sure, SHOWN).tolist())
    chosen |= dict.fromkeys(diagnosis.least_sure_right(right, sure, SHOWN).tolist())
    if scored.multilabel:
        return list(chosen)
    per_cell: Counter[tuple[int, int]] = Counter()
    wrong = diagnosis.surest_mistakes(right, sure, len(scored)).tolist()
    sure_right = np.flatnonzero(right)[np.argsort(-sure[right], kind="stable")].tolist()
    for most, rows in ((PER_CELL, wrong), (RIGHT_PER_CLASS, sure_right)):
        for row in rows:
            cell = int(scored.truth[row]), int(scored.labels[row])
            if per_cell[cell] < most and (len(chosen) < MOST or row in chosen):
                per_cell[cell] += 1
                chosen[row] = None
    return list(chosen)


def take_pictures(subject: Subject, page: Path, progress: Progress | None = None) -> Pictures:
    """Return thumbnails of :func:`rows_to_show` for a page."""
    rows = [
        (row, subject.paths[subject.scored.ids[row]])
        for row in rows_to_show(subject)
        if subject.scored.ids[row] in subject.paths
    ]
    made, unreadable = make_thumbnails(rows, progress=progress)
    n_wrong = int((~subject.scored.sureness[0]).sum())
    return Pictures(subject, make_album(page, made, unreadable), n_wrong)
