"""The page of several runs or blends beside each other, the first against each of the others, on the rows that all have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kaggle_kit import diagnosis, figures
from kaggle_kit.errors import DataError
from kaggle_kit.images.decode import Progress
from kaggle_kit.report.blocks import Block, Gallery, Notes, Plot, Section, Table, plot
from kaggle_kit.report.gallery import Album
from kaggle_kit.report.subjects import Subject
from kaggle_kit.report.thumbnails import make_album, make_thumbnails
from kaggle_kit.runs.comparison import compare_runs
from kaggle_kit.runs.scored import Scored
from kaggle_kit.workspace import Workspace

_SHOWN = 12
_CLASSES = 20


def compare_sections(
    workspace: Workspace, subjects: Sequence[Subject], page: Path, progress: Progress | None = None
) -> tuple[list[Section], list[tuple[str, str]]]:
    """Return the sections of the page, and what is left out with the reason.

    Raises:
        DataError: they have no rows in common, or are judged by different metrics or classes.
    """
    common = on_common_rows(subjects)
    names = [subject.name for subject in subjects]
    rights = np.stack([one.sureness[0] for one in common])  # (S, N)
    made = [
        Section("scores", "Scores", _scores(subjects, common)),
        Section("differences", "Paired differences", _differences(names, common)),
        Section("agreement", "Who is right where", _agreement(names, rights)),
        Section("classes", "Classes", _classes(names, common)),
        Section("images", "Gained and lost", _gained(subjects, common, rights, page, progress)),
    ]
    left_out = []
    drawn: list[Block] = [
        plot(figures.plot_curves(one.histories, one.scored.metric.name), f"{one.name}: learning curves")
        for one in subjects
        if any(len(history) > 1 for history in one.histories.values())
    ]
    if drawn:
        made.append(Section("curves", "Learning curves", drawn))
    else:
        left_out.append(("Learning curves", "none of them has epochs"))
    if all(subject.run is not None for subject in subjects):
        compared = compare_runs(workspace, names)
        made.append(
            Section("settings", "What they differ in", [Table(compared.table()), Notes(compared.describe().split("\n"))])
        )
    else:
        left_out.append(("What they differ in", "a blend has no settings of its own"))
    return made, left_out


def on_common_rows(subjects: Sequence[Subject]) -> list[Scored]:
    """Return the rows that all subjects have, in the same order, their columns as those of the first."""
    first = subjects[0].scored
    for subject in subjects[1:]:
        first.classes.require_same(subject.scored.classes, here=subjects[0].name, there=subject.name)
        if subject.scored.metric.name != first.metric.name:
            raise DataError(
                f"{subjects[0].name} is judged by {first.metric.name}, {subject.name} by {subject.scored.metric.name}."
            )
    places = [{row_id: row for row, row_id in enumerate(subject.scored.ids)} for subject in subjects]
    ids = [row_id for row_id in first.ids if all(row_id in place for place in places)]
    if not ids:
        raise DataError(f"{', '.join(subject.name for subject in subjects)} have no out-of-fold rows in common.")
    rows = [np.array([place[row_id] for row_id in ids], dtype=np.int64) for place in places]
    return [subject.scored.take(own) for subject, own in zip(subjects, rows, strict=True)]


def _scores(subjects: Sequence[Subject], common: Sequence[Scored]) -> list[Block]:
    rows = []
    for subject, one in zip(subjects, common, strict=True):
        folds = [score for score in one.fold_scores.values() if not math.isnan(score)]
        spread = float(np.std(folds, ddof=1)) if len(folds) > 1 else math.nan
        mean = float(np.mean(folds)) if folds else math.nan
        rows.append([subject.name, subject.kind, one.score, str(one.interval or ""), mean, spread])
    name = common[0].metric.name
    table = pd.DataFrame(rows, columns=["name", "kind", name, "95 % interval", "mean of folds", "spread"])
    scores = {subject.name: one.fold_scores for subject, one in zip(subjects, common, strict=True)}
    drawn: list[Plot] = (
        [plot(figures.plot_scores(scores, name), "Scores of the folds.")] if len(common[0].fold_scores) > 1 else []
    )
    return [Table(table), *drawn, Notes([f"On the {len(common[0]):,} out-of-fold rows that all of them have."])]


def _differences(names: Sequence[str], common: Sequence[Scored]) -> list[Block]:
    first, rows = common[0], []
    for name, other in zip(names[1:], common[1:], strict=True):
        gap, low, high = diagnosis.paired_difference(first.metric, first.truth, first.probs, other.probs)
        better = sum(first.metric.better(other.fold_scores[fold], score) for fold, score in first.fold_scores.items())
        sure = "not clear" if math.isnan(low) or low <= 0 <= high else "clear"
        rows.append([f"{name} against {names[0]}", gap, low, high, f"{better} of {len(first.fold_scores)}", sure])
    columns = ["", f"difference of {first.metric.name}", "low", "high", "better on folds", "beyond chance"]
    words = (
        "95 % interval of the paired bootstrap: both are scored on the same drawn rows, so that what is hard for both cancels."
    )
    return [Table(pd.DataFrame(rows, columns=columns)), Notes([words])]


def _agreement(names: Sequence[str], rights: npt.NDArray[np.bool_]) -> list[Block]:
    rows = []
    for name, other in zip(names[1:], rights[1:], strict=True):
        cells = (rights[0] & other, rights[0] & ~other, ~rights[0] & other, ~rights[0] & ~other)
        rows.append([name, *(int(cell.sum()) for cell in cells)])
    columns = ["", "both right", f"only {names[0]}", "only the other", "both wrong"]
    return [Table(pd.DataFrame(rows, columns=columns)), Notes(["Where each is right on other rows, a blend gains."])]


def _classes(names: Sequence[str], common: Sequence[Scored]) -> list[Block]:
    tables = [one.class_table.set_index("class")["F1"] for one in common]
    frame = pd.DataFrame({"class": list(common[0].classes)})
    for name, table in zip(names, tables, strict=True):
        frame[f"F1 {name}"] = table.reindex(frame["class"]).to_numpy()
    frame["difference"] = frame.iloc[:, -1] - frame.iloc[:, 1]
    frame = frame.iloc[np.argsort(-frame["difference"].abs().fillna(-1).to_numpy(), kind="stable")]
    whole = [Table(frame, folded=f"All {len(frame)} classes")] if len(frame) > _CLASSES else []
    return [Table(frame.head(_CLASSES), caption=f"Where {names[-1]} and {names[0]} differ most"), *whole]


def _gained(
    subjects: Sequence[Subject],
    common: Sequence[Scored],
    rights: npt.NDArray[np.bool_],
    page: Path,
    progress: Progress | None,
) -> list[Block]:
    """Return images on which the last subject is right and the first wrong, and the other way round, the surest first."""
    first, last = common[0], common[-1]
    groups: list[tuple[str, Any, Scored]] = []
    for heading, chosen, shown in (
        (f"Right by {subjects[-1].name}, wrong by {subjects[0].name}", ~rights[0] & rights[-1], first),
        (f"Right by {subjects[0].name}, wrong by {subjects[-1].name}", rights[0] & ~rights[-1], last),
    ):
        rows = np.flatnonzero(chosen)
        groups.append((heading, rows[np.argsort(-shown.sureness[1][rows], kind="stable")][:_SHOWN], shown))
    wanted = [row for _, rows, _ in groups for row in rows.tolist() if first.ids[row] in subjects[0].paths]
    album: Album[int] = make_album(
        page, *make_thumbnails([(row, subjects[0].paths[first.ids[row]]) for row in wanted], progress=progress)
    )
    blocks: list[Block] = []
    for heading, rows, shown in groups:
        pictures = [
            album.picture(
                row,
                first.ids[row],
                label=first.names(row),
                predicted=shown.names(row, predicted=True),
                probability=float(shown.sureness[1][row]),
            )
            for row in rows.tolist()
        ]
        blocks.append(Gallery(pictures, heading, heading) if pictures else Notes([f"{heading}: none"]))
    return blocks
