"""The sections of a page about one subject. Each is a function that returns its blocks, or why there is nothing to show."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import yaml

from kaggle_kit import diagnosis, figures, files
from kaggle_kit.check.report import record_path
from kaggle_kit.errors import KaggleKitError
from kaggle_kit.report.blocks import Block, Copy, Facts, Gallery, Notes, Section, Table, Text, Warnings, plot
from kaggle_kit.report.confusion import confusion_block
from kaggle_kit.report.maps import map_blocks
from kaggle_kit.report.models import filter_blocks, gradcam_blocks, model_blocks
from kaggle_kit.report.pictures import SHOWN, Pictures
from kaggle_kit.report.subjects import Subject, oof_with_views
from kaggle_kit.runs.submissions import submissions_table
from kaggle_kit.sparse import kept_columns
from kaggle_kit.workspace import Workspace

_FEW = 12


@dataclass(frozen=True)
class Page:
    """What the sections of a page are made from.

    Attributes:
        gradcam: which images to explain, see :func:`~kaggle_kit.report.models.gradcam_blocks`.
    """

    workspace: Workspace
    subject: Subject
    pictures: Pictures
    gradcam: str = ""


Blocks = list[Block] | str
"""What a section shows, or why it is left out."""


def headline(page: Page) -> Blocks:
    """The score with its spread."""
    scored, subject = page.subject.scored, page.subject
    folds = [score for score in scored.fold_scores.values() if not math.isnan(score)]
    name, interval = scored.metric.name, scored.interval
    right, _ = scored.sureness
    rows = "rows" if subject.kind == "evaluation" else "out-of-fold rows"
    facts = {name: f"{scored.score:.4f}", "rows": f"{len(scored):,}", "classes": f"{len(scored.classes):,}"}
    if interval is not None:
        facts["95 % interval"] = str(interval)
    if len(folds) > 1:
        facts["mean of folds"] = f"{np.mean(folds):.4f} ± {np.std(folds, ddof=1):.4f}"
    facts["wrong rows"] = f"{int((~right).sum()):,} ({np.mean(~right):.1%})".replace("%", "\u00a0%")
    lines = [f"{name} over {len(scored):,} {rows}"]
    if interval is not None:
        lines.append(f"The interval says where the score of equally large samples would lie ({interval.how}).")
    else:
        lines.append("There is no interval: it cannot be known from these rows.")
    if scored.groups.size and len(np.unique(scored.groups)) < len(scored):
        lines.append("Rows of one group, such as duplicates, count together in it.")
    return [Facts(facts), Notes(lines)]


def verdict(page: Page) -> Blocks:
    """What ``kk check`` says of the submissions that rest on it."""
    if page.subject.kind == "evaluation":
        return "it is no submission"
    rows, blocks = [], []
    for name in page.subject.submissions:
        path = page.workspace.submission_path(name)
        try:
            record = files.read_json(record_path(path), made_by="kk check")
            said = str(record.get("verdict", "PASSED" if record.get("passed") else "FAILED"))
            stale = not path.is_file() or record.get("sha256") != files.file_fingerprint(path)
            rows.append((name, said, "changed since, check it again" if stale else ""))
            checks = record.get("checks") or []
        except KaggleKitError:
            rows.append((name, "never checked", "run kk check"))
            continue
        if page.subject.kind == "blend" and checks:
            frame = pd.DataFrame(checks, columns=["name", "status", "evidence", "remedy"]).rename(columns={"name": "check"})
            blocks.append(Table(frame, folded=f"The {len(frame)} checks"))
    if not rows:
        return "no submission rests on it yet; kk blend makes and checks one"
    table = pd.DataFrame(rows, columns=["submission", "verdict", "note"])
    if not table["note"].any():
        table = table.drop(columns="note")
    bad = [f"{name}: {said}" for name, said, _ in rows if said != "PASSED"]
    return [Table(table), *([Warnings(bad)] if bad else []), *blocks]


def curves(page: Page) -> Blocks:
    """Losses and scores over the epochs."""
    histories = page.subject.histories
    if page.subject.run is None:
        return "epochs are of runs; see the pages of its runs"
    if not histories:
        return "no fold has a history"
    if max(len(history) for history in histories.values()) < 2:
        return "a linear probe is fitted in one step, there are no epochs to draw"
    caption = "Each fold has its colour. Dashed: training rows, augmented and in training mode; solid: validation rows."
    blocks: list[Block] = [plot(figures.plot_curves(histories, page.subject.scored.metric.name), caption)]
    if not any("train_accuracy" in history for history in histories.values()):
        blocks.append(Notes(["The training accuracy was not kept by kaggle_kit 0.1.0, which trained this run."]))
    return blocks


def schedule(page: Page) -> Blocks:
    """The learning rate."""
    if page.subject.run is None:
        return "epochs are of runs"
    histories = {
        fold: history for fold, history in page.subject.histories.items() if "lr" in history and history["lr"].notna().sum() > 1
    }
    if not histories:
        return "there are no epochs, and so no learning rates"
    return [plot(figures.plot_schedule(histories), "Learning rate in the last update of each epoch.")]


def folds_and_views(page: Page) -> Blocks:
    """Folds beside each other, with and without views."""
    scored, subject = page.subject.scored, page.subject
    if len(scored.fold_scores) < 2:
        return "there is one fold only"
    scores, lines = {f"views {subject.views}" if subject.run else subject.name: scored.fold_scores}, []
    other = oof_with_views(page.workspace, subject.run, scored.threshold) if subject.run is not None else None
    if other is not None:
        scores[f"views {other[0]}"] = other[1].fold_scores
        where = {row_id: row for row, row_id in enumerate(other[1].ids)}
        if all(row_id in where for row_id in scored.ids):
            order = np.array([where[row_id] for row_id in scored.ids])
            gap = diagnosis.paired_difference(scored.metric, scored.truth, scored.probs, other[1].probs[order])
            lines.append(f"views {other[0]} against none: {_gap_text(gap)}")
    table = pd.DataFrame(
        [[fold, *(found.get(fold, math.nan) for found in scores.values())] for fold in scored.fold_scores],
        columns=["fold", *scores],
    )
    return [plot(figures.plot_scores(scores, scored.metric.name), "Scores of the folds."), Table(table), Notes(lines)]


def _gap_text(gap: tuple[float, float, float]) -> str:
    middle, low, high = gap
    return f"{middle:+.4f}" if math.isnan(low) else f"{middle:+.4f}, 95 % interval {low:+.4f} to {high:+.4f} (paired bootstrap)"


def confusion(page: Page) -> Blocks:
    """Which classes are taken for which."""
    if page.subject.scored.multilabel:
        return "rows may have several labels; the table of classes counts missed labels and false alarms"
    if kept_columns(len(page.subject.scored.classes)):
        return "there are too many classes for a matrix; the table of classes says what each is mostly taken for"
    return [confusion_block(page.pictures)]


def classes(page: Page) -> Blocks:
    """How well each class is found, the worst first."""
    table = page.subject.scored.class_table
    drawn = plot(figures.plot_classes(table), "The worst classes by F1, with the number of their rows.")
    if len(table) <= _FEW:
        return [drawn, Table(table)]
    worst = Table(table.head(_FEW), caption="The worst classes")
    return [drawn, worst] if kept_columns(len(table)) else [drawn, worst, Table(table, folded=f"All {len(table)} classes")]


def mistakes(page: Page) -> Blocks:
    """Rows that are wrong although the model was sure."""
    right, sure = page.subject.scored.sureness
    rows = diagnosis.surest_mistakes(right, sure, SHOWN).tolist()
    if not rows:
        return "every row is right"
    words = "Wrong rows, the surest first: labels to look at (kk labels), or what the model cannot see."
    return [Text([words]), Gallery([page.pictures.picture(row) for row in rows], "surest mistakes")]


def doubts(page: Page) -> Blocks:
    """Rows that are right, but only just."""
    right, sure = page.subject.scored.sureness
    rows = diagnosis.least_sure_right(right, sure, _FEW).tolist()
    return [Gallery([page.pictures.picture(row) for row in rows], "least sure right answers")] if rows else "no row is right"


def calibration(page: Page) -> Blocks:
    """Whether probabilities mean what they say."""
    scored = page.subject.scored
    found = diagnosis.calibrate(scored.truth, scored.probs)
    what = (
        "each label of each row"
        if scored.multilabel
        else "the positive class"
        if len(scored.classes) == 2
        else "the predicted class"
    )
    return [plot(figures.plot_calibration(found), f"Of {what}: {found.describe()}.")]


def feature_map(page: Page) -> Blocks:
    """A map of the images."""
    return map_blocks(page.workspace, page.subject)


def models(page: Page) -> Blocks:
    """The models: size, time, score."""
    return "see the pages of the runs" if page.subject.kind == "evaluation" else model_blocks(page.workspace, page.subject)


def filters(page: Page) -> Blocks:
    """Filters of the first layer."""
    return filter_blocks(page.subject)


def gradcam(page: Page) -> Blocks:
    """What the models looked at."""
    return gradcam_blocks(page.subject, page.gradcam)


def blend_weights(page: Page) -> Blocks:
    """What a blend is made of."""
    record = page.subject.record
    if record is None or record.scores is None:
        return "it is no blend"
    rows = [[run.name, run.score, run.weight, run.views, run.oof_views] for run in record.runs]
    columns = ["run", "out-of-fold score", "weight", "views of the test rows", "views out of fold"]
    table = pd.DataFrame(rows, columns=columns)
    scores = record.scores
    lines = [
        f"method {record.method}; {scores.metric} {scores.in_sample:.5f} where its weights were fitted, "
        f"{scores.cross_fitted:.5f} cross-fitted, each row blended by weights found without its fold: trust the second"
    ]
    blocks: list[Block] = [Text(lines)]
    known = [(run.name, run.weight) for run in record.runs if run.weight is not None]
    if len(known) > 1:
        blocks.append(plot(figures.plot_weights(*map(list, zip(*known, strict=True))), "Weights of the runs."))
    return [*blocks, Table(table)]


def public_scores(page: Page) -> Blocks:
    """What Kaggle gave, against cross-validation."""
    if page.subject.kind == "evaluation":
        return "they are of submissions"
    try:
        table = submissions_table(page.workspace)
    except KaggleKitError as error:
        return str(error)
    both = table.dropna(subset=["cross_fitted", "public_score"])
    if not len(both):
        return "no submission has a public score yet; kk submit keeps them"
    marked = page.subject.name if page.subject.kind == "blend" else ""
    lines = [table.attrs["note"]] if "note" in table.attrs else []
    columns = ["submission", "method", "cross_fitted", "public_score", "private_score"]
    drawn = plot(figures.plot_public(both, marked=marked), "Public score against the out-of-fold score, a dot a submission.")
    return [drawn, Table(both[columns]), Notes(lines)]


def settings(page: Page) -> Blocks:
    """The configuration, to be copied."""
    if page.subject.run is None:
        return "they are of the runs"
    config: dict[str, Any] = page.subject.run.record.config.model_dump(mode="json", exclude_defaults=True)
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True) if config else "# the defaults\n"
    return [Text(["What differs from the defaults; kk train --config FILE takes it."]), Copy(text)]


SECTIONS: tuple[tuple[str, str, Callable[[Page], Blocks]], ...] = (
    ("score", "Score", headline),
    ("verdict", "Verdict", verdict),
    ("curves", "Learning curves", curves),
    ("schedule", "Schedule", schedule),
    ("folds", "Folds and views", folds_and_views),
    ("confusion", "Confusion", confusion),
    ("classes", "Classes", classes),
    ("mistakes", "Surest mistakes", mistakes),
    ("doubts", "Right by a hair", doubts),
    ("calibration", "Calibration", calibration),
    ("map", "Map", feature_map),
    ("weights", "Blend", blend_weights),
    ("models", "Models", models),
    ("filters", "First layer", filters),
    ("gradcam", "Grad-CAM", gradcam),
    ("public", "Public scores", public_scores),
    ("settings", "Settings", settings),
)
"""In the order of the page: anchor, heading, function."""


def make_sections(page: Page) -> tuple[list[Section], list[tuple[str, str]]]:
    """Return the sections of a page, and heading and reason of those that are left out."""
    made, left_out = [], []
    for anchor, heading, function in SECTIONS:
        found = function(page)
        if isinstance(found, str):
            left_out.append((heading, found))
        else:
            made.append(Section(anchor, heading, found))
    return made, left_out
