"""What the page about the data shows: the values of its template, made of what a look has found."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kaggle_kit.competition import Competition, Inference
from kaggle_kit.config import Config
from kaggle_kit.folds import balance_table, summary
from kaggle_kit.folds.duplicates import Key
from kaggle_kit.images.decode import Pixels
from kaggle_kit.report import data_figures as draw
from kaggle_kit.report.figures import svg_of
from kaggle_kit.report.gallery import Album, Picture
from kaggle_kit.report.shift import Shift
from kaggle_kit.report.survey import Headers, Splits, class_table, group_sizes, label_combinations, sample_rows
from kaggle_kit.report.thumbnails import data_uri, make_thumbnail
from kaggle_kit.workspace import Workspace

if TYPE_CHECKING:
    from markupsafe import Markup

_SAMPLES, _SAMPLES_A_CLASS = 600, 6
_GROUPS_SHOWN, _OF_A_GROUP = 30, 8
_KINDS = ("Different labels", "In the test set, too", "Within one part")
_DRAWN_SIDE = 160
_LISTED = 20


@dataclass(frozen=True)
class Wishes:
    """What the page is to show beyond the data itself.

    Attributes:
        augment: draw one image by the configured augmentation.
        batch: a training batch after mixing.
        imagenet: the pretrained model's own labels.
        network: compare training and test images by a network, where weights are here; False: by pixel statistics.
    """

    augment: bool = False
    batch: bool = False
    imagenet: bool = False
    network: bool = True

    @property
    def any_drawn(self) -> bool:
        """Whether something is drawn by the training code."""
        return self.augment or self.batch


@dataclass
class Look:
    """What is collected on the way to the page."""

    workspace: Workspace
    config: Config
    competition: Competition
    wishes: Wishes
    headers: Headers
    splits: Splits
    inference: Inference | None
    shift: Shift | None = None
    size_shift: Shift | None = None
    extremes: tuple[list[tuple[Key, float]], list[tuple[Key, float]]] = ((), ())  # type: ignore[assignment]
    remarks: list[str] = field(default_factory=list)

    @property
    def unreadable(self) -> dict[Key, str]:
        """Return why images that were looked at cannot be read, by their keys."""
        decoded = {} if self.splits.duplicates is None else self.splits.duplicates.unreadable
        return {**decoded, **self.headers.unreadable}

    @property
    def paths(self) -> dict[Key, Path]:
        """Return the file of every image, by its key."""
        found: dict[Key, Path] = {("train", row.id): row.path for row in self.competition.train}
        found.update({("test", row.id): row.path for row in self.competition.test})
        return found


def class_samples(competition: Competition) -> dict[str, list[Key]]:
    """Return ids of a few images of each class, drawn, the most frequent class first; of very many classes some have none."""
    each = max(1, min(_SAMPLES_A_CLASS, _SAMPLES // max(len(competition.classes), 1)))
    by_class: dict[str, list[str]] = {name: [] for name in class_table(competition)["class"].head(_SAMPLES)}
    for row in sample_rows(competition.train, len(competition.train), "samples"):
        for label in row.labels:
            if label in by_class:
                by_class[label].append(row.id)
    return {name: [("train", row_id) for row_id in sample_rows(ids, each, name)] for name, ids in by_class.items()}


def shown_groups(look: Look) -> list[tuple[Key, ...]]:
    """Return duplicates to show: across labels first, then those with a test image, then the others."""
    found = look.splits.duplicates
    if found is None:
        return []
    labels = {("train", row.id): frozenset(row.labels) for row in look.competition.train}

    def urgency(group: tuple[Key, ...]) -> int:
        if len({labels[key] for key in group if key in labels}) > 1:
            return 0
        return 1 if len({part for part, _ in group}) > 1 else 2

    kinds: dict[int, list[tuple[Key, ...]]] = {0: [], 1: [], 2: []}
    for group in found.groups:
        kinds[urgency(group)].append(group[:_OF_A_GROUP])
    return [group for kind in kinds.values() for group in kind[:_GROUPS_SHOWN]]


def values_of(look: Look, album: Album[Key]) -> dict[str, Any]:
    """Return what the template names."""
    competition, headers = look.competition, look.headers
    table = class_table(competition)
    pictures = {name: [album.picture(key, key[1]) for key in keys] for name, keys in class_samples(competition).items()}
    many_labels = label_combinations(competition) if competition.multilabel else None
    groups = group_sizes(competition.train)
    shown_kinds = headers.kinds()
    return {
        "title": f"{competition.name}: the data",
        "facts": _facts(look),
        "remarks": look.remarks,
        "inference": look.inference,
        "classes": table,
        "class_figure": svg_of(draw.plot_classes(table), f"images of each of {len(table)} classes"),
        "counts": table["images"].describe().round(2).rename("images a class").rename_axis("").reset_index(),
        "headers": headers,
        "kinds": shown_kinds.head(_LISTED),
        "sizes": headers.sizes(),
        "size_figure": _figure_of_sizes(headers),
        "unreadable": _listed_unreadable(look, album),
        "samples": pictures,
        "per_class": dict(zip(table["class"], table["images"], strict=True)),
        **_duplicate_values(look, album),
        "combinations": many_labels and many_labels.table.head(_LISTED),
        "n_combinations": len(many_labels.table) if many_labels else 0,
        "combination_figure": many_labels and svg_of(draw.plot_combinations(many_labels), "labels that stand together"),
        "groups": groups,
        "group_figure": svg_of(draw.plot_groups(groups), "sizes of groups") if groups else None,
        **_fold_values(look),
        **_shift_values(look, album),
    }


def _facts(look: Look) -> list[tuple[str, str]]:
    competition, frame = look.competition, look.headers.frame
    form = competition.submission.form
    megabytes = frame["n_bytes"].sum() / 1e6 * look.headers.total / max(len(frame), 1)
    return [
        ("training images", f"{len(competition.train):,}"),
        ("test images", f"{len(competition.test):,}"),
        ("classes", f"{len(competition.classes):,}"),
        ("task", competition.task),
        ("metric", competition.metric),
        ("form", form),
        ("on disk", f"{megabytes:,.0f} MB" if look.headers.read == look.headers.total else f"about {megabytes:,.0f} MB"),
    ]


def _figure_of_sizes(headers: Headers) -> Markup | None:
    return None if headers.frame.empty else svg_of(draw.plot_sizes(headers.frame), "sizes and aspects of images")


def _listed_unreadable(look: Look, album: Album[Key]) -> pd.DataFrame:
    """Return part, id and reason of images that cannot be read, those among the thumbnails included."""
    found = {**look.unreadable, **album.unreadable}
    rows = [(part, row_id, reason) for (part, row_id), reason in found.items()]
    return pd.DataFrame(rows, columns=["part", "id", "why"])


def _duplicate_values(look: Look, album: Album[Key]) -> dict[str, Any]:
    """Return the duplicates by kind, each a heading and groups of pictures."""
    found = look.splits.duplicates
    if found is None:
        return {"duplicates": None, "duplicate_groups": [], "searched": None}
    labels = {row.id: row.labels for row in look.competition.train}
    across = {ids[0] for ids in found.different_labels(labels)}
    kinds: dict[str, list[list[Picture]]] = {name: [] for name in _KINDS}
    for group in shown_groups(look):
        first = next((row_id for part, row_id in group if part == "train"), None)
        both = len({part for part, _ in group}) > 1
        kind = _KINDS[0 if first in across else 1 if both else 2]
        pictures = [
            album.picture(key, key[1], label=", ".join(labels.get(key[1], ())) if key[0] == "train" else None, note=key[0])
            for key in group
        ]
        kinds[kind].append(pictures)
    n_test_only = sum(all(part == "test" for part, _ in group) for group in found.groups)
    return {
        "duplicates": found,
        "duplicate_groups": [(kind, groups) for kind, groups in kinds.items() if groups],
        "searched": look.splits.searched,
        "n_test_only": n_test_only,
    }


def _fold_values(look: Look) -> dict[str, Any]:
    table = look.splits.folds
    if table is None:
        return {"fold_problem": look.splits.problem}
    rows = []
    for split in range(table.n_splits):
        train, valid = table.split(split)
        rows.append((f"fold {split}", len(train), len(valid), len(np.unique(table.groups[valid]))))
    return {
        "fold_lines": [summary(table)[0], *table.meta.get("warnings", ())],
        "fold_problem": "",
        "fold_figure": svg_of(draw.plot_folds(table), "share of each class in each fold"),
        "fold_table": pd.DataFrame(rows, columns=["fold", "trained on", "validated on", "groups validated on"]),
        "folds_made": look.splits.made,
        "balance": balance_table(table).reset_index(),
    }


def _shift_values(look: Look, album: Album[Key]) -> dict[str, Any]:
    labels = {row.id: ", ".join(row.labels) for row in look.competition.train}
    sides = [
        [
            album.picture(key, key[1], label=labels.get(key[1]) if key[0] == "train" else None, probability=score)
            for key, score in side
        ]
        for side in look.extremes
    ]
    return {
        "shift": look.shift,
        "size_shift": look.size_shift,
        "shift_figure": None if look.shift is None else svg_of(draw.plot_shift(look.shift), "training against test images"),
        "most_train": sides[0],
        "most_test": sides[1],
    }


def extras_of(config: Config, competition: Competition, wishes: Wishes, root: Path) -> dict[str, Any]:
    """Return what was wished for: draws of an image, a batch, the pretrained model's own labels."""
    values: dict[str, Any] = {"draws": None, "batch": None, "opinions": None}
    if not (wishes.any_drawn or wishes.imagenet):
        return values
    from kaggle_kit.report import network

    if wishes.any_drawn:
        spec = network.spec_of(config.run, root, competition.channels)
        values["spec"] = f"{spec.height} x {spec.width}, {spec.fit}"
    if wishes.augment:
        row = sample_rows(competition.train, 1, "drawn", config.run.seed)[0]
        drawn = network.draw_augmented(config.run, spec, row)
        pictures = [_picture(pixels, row.id, note=f"draw {number}") for number, pixels in enumerate(drawn.images, 1)]
        first = _picture(drawn.original, row.id, label=", ".join(row.labels), note="as evaluated")
        values["draws"] = {"preset": config.run.augment.preset, "pictures": [first, *pictures], "steps": drawn.steps}
    if wishes.batch:
        mixed = network.draw_batch(config.run, spec, competition)
        pictures = [
            _picture(pixels, row_id, note=" + ".join(f"{share:.2f} {name}" for name, share in labels) or "no label")
            for row_id, pixels, labels in zip(mixed.ids, mixed.images, mixed.labels, strict=True)
        ]
        values["batch"] = {"pictures": pictures, "note": mixed.note}
    if wishes.imagenet:
        name, opinions = network.ask_pretrained(config.run, competition)
        values["opinions"] = {"name": name, "pairs": [_pair(one) for one in opinions]}
    return values


def _pair(one: Any) -> list[Picture]:
    said = ("; ".join(f"{name} {share:.2f}" for name, share in labels) for labels in (one.said_raw, one.said_prepared))
    return [
        _picture(pixels, one.row_id, label=one.label, note=f"{when}: {labels}")
        for pixels, when, labels in zip((one.raw, one.prepared), ("before", "after"), said, strict=True)
    ]


def _picture(pixels: Pixels, row_id: str, **said: Any) -> Picture:
    made = make_thumbnail(pixels, side=_DRAWN_SIDE, quality=75)
    return Picture(row_id, data_uri(made), made.width, made.height, **said)
