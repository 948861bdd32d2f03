"""What a look at a competition's images finds out, in bounded time and memory: of very many images a sample is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from kaggle_kit.competition import Competition, ImageRow
from kaggle_kit.config import Config, FoldsConfig
from kaggle_kit.errors import KaggleKitError
from kaggle_kit.folds import folds_for, make_folds
from kaggle_kit.folds.duplicates import Duplicates, Key, images_by_key, of_ids
from kaggle_kit.images.decode import ImageFacts, Progress, image_facts, read_images
from kaggle_kit.images.duplicates import find_duplicates
from kaggle_kit.seeds import generator
from kaggle_kit.tables import Classes, FoldTable, Labels
from kaggle_kit.workspace import Workspace

MOST_HEADERS = 10_000
"""Images whose headers are read."""
MOST_COMPARED = 10_000
"""Images among which duplicates are looked for, where no fold table says which there are."""
T = TypeVar("T")


def sample_rows(rows: Sequence[T], most: int, purpose: str, seed: int = 0) -> list[T]:
    """Return ``rows``, or ``most`` of them drawn without replacement, in their order."""
    if len(rows) <= most:
        return list(rows)
    chosen = generator(seed, purpose).choice(len(rows), size=most, replace=False)
    return [rows[position] for position in np.sort(chosen).tolist()]


@dataclass(frozen=True)
class Headers:
    """What the headers of training and test images say.

    Attributes:
        frame: a row an image: part, format, mode, bits, height, width, turned, frames, n_bytes, suffix.
        unreadable: image -> why its header cannot be read.
        total: images that there are; ``frame`` and ``unreadable`` may be of a sample.
    """

    frame: pd.DataFrame
    unreadable: dict[Key, str]
    total: int

    @property
    def read(self) -> int:
        """Images that were looked at."""
        return len(self.frame) + len(self.unreadable)

    def kinds(self) -> pd.DataFrame:
        """Return a row for each kind of file: format, suffix, mode, bits, and how many of training and test images."""
        keys = ["format", "suffix", "mode", "bits"]
        if self.frame.empty:
            return pd.DataFrame(columns=[*keys, "train", "test"])
        counts = self.frame.groupby([*keys, "part"], observed=True).size().unstack("part", fill_value=0)
        counts = counts.reindex(columns=["train", "test"], fill_value=0)
        order = counts.sum(axis=1).sort_values(ascending=False, kind="stable").index
        return counts.loc[order].reset_index().rename_axis(columns=None)

    def sizes(self) -> pd.DataFrame:
        """Return pandas' ``describe`` of height, width, aspect and file size, for training and test images."""
        parts = []
        for part, rows in self.frame.groupby("part", sort=False):
            values = pd.DataFrame(
                {
                    f"{part} height": rows["height"],
                    f"{part} width": rows["width"],
                    f"{part} width / height": rows["width"] / rows["height"],
                    f"{part} kB": rows["n_bytes"] / 1000,
                }
            )
            parts.append(values.describe())
        return pd.concat(parts, axis=1).round(2).reset_index(names="") if parts else pd.DataFrame()

    def remarks(self) -> list[str]:
        """Return what about the files wants a look, in sentences."""
        frame, said = self.frame, []
        counted = (
            (frame["turned"], "are turned or mirrored by EXIF; they are brought upright"),
            (frame["frames"] > 1, "have several frames or pages; the first is taken"),
            (frame["bits"] == 16, "have 16 bits a channel; they are scaled by 1/257, whatever range they use"),
            (frame["mode"].isin(["RGBA", "LA", "PA", "P"]), "may be transparent; they are laid over white"),
            (frame["mode"] == "CMYK", "are CMYK; they are converted without a colour profile"),
            (frame[["height", "width"]].min(axis=1) < 32, "have a side below 32 pixels"),
        )
        for which, words in counted:
            if which.any():
                said.append(f"{int(which.sum()):,} of {len(frame):,} images {words}.")
        modes = {part: rows["mode"].mode().iloc[0] for part, rows in frame.groupby("part")}
        if len(modes) == 2 and modes["train"] != modes["test"]:
            said.append(f"Most training images are {modes['train']}, most test images {modes['test']}.")
        return said


def read_headers(competition: Competition, *, most: int = MOST_HEADERS) -> Headers:
    """Read the headers of training and test images, or of ``most`` of them."""
    rows = [(key, path) for key, (_, path) in images_by_key(competition).items()]
    chosen = sample_rows(rows, most, "headers")
    facts, unreadable = read_images(image_facts, chosen)
    found = [(key[0], *facts[key], path.suffix.lower() or "none") for key, path in chosen if key in facts]
    frame = pd.DataFrame(found, columns=["part", *ImageFacts._fields, "suffix"])
    return Headers(frame, unreadable, len(rows))


def class_table(competition: Competition) -> pd.DataFrame:
    """Return a row a class, the most frequent first: class, images, and percent of all training images."""
    counts = Counter(label for row in competition.train for label in row.labels)
    total = max(len(competition.train), 1)
    table = pd.DataFrame({"class": list(competition.classes), "images": [counts[name] for name in competition.classes]})
    table["percent"] = (100 * table["images"] / total).round(2)
    return table.sort_values("images", ascending=False, kind="stable").reset_index(drop=True)


@dataclass(frozen=True)
class Combinations:
    """Which labels stand together in a multi-label competition.

    Attributes:
        table: labels, images; the most frequent first.
        per_image: how many labels an image has -> images.
        together: (C, C) images that have both labels, for the classes named in ``classes``.
    """

    table: pd.DataFrame
    per_image: dict[int, int]
    classes: list[str]
    together: np.ndarray[tuple[int, int], np.dtype[np.int64]]


def _in_order(classes: Classes, labels: Labels) -> list[str]:
    return classes.decode(np.sort(classes.encode(labels)))


def label_combinations(competition: Competition, *, most_classes: int = 40) -> Combinations:
    """Count the combinations of labels; ``together`` is of the ``most_classes`` most frequent classes."""
    sets = Counter(" + ".join(_in_order(competition.classes, row.labels)) or "no label" for row in competition.train)
    names = class_table(competition)["class"].head(most_classes).tolist()
    place = {name: position for position, name in enumerate(names)}
    together = np.zeros((len(names), len(names)), dtype=np.int64)
    for row in competition.train:
        found = [place[label] for label in row.labels if label in place]
        together[np.ix_(found, found)] += 1
    table = pd.DataFrame(sets.most_common(), columns=["labels", "images"])
    per_image = dict(sorted(Counter(len(row.labels) for row in competition.train).items()))
    return Combinations(table, per_image, names, together)


@dataclass(frozen=True)
class Splits:
    """How the training images are, or would be, divided.

    Attributes:
        folds: the table; None where none can be made.
        made: whether it lies in ``folds/`` already.
        problem: why there is none.
        duplicates: what it was made with.
        searched: images among which duplicates were looked for; None: all.
    """

    folds: FoldTable | None
    made: bool
    duplicates: Duplicates | None
    searched: int | None = None
    problem: str = ""
    warnings: tuple[str, ...] = field(default=())


def find_splits(
    workspace: Workspace,
    config: Config,
    competition: Competition,
    *,
    progress: Progress | None = None,
    most: int = MOST_COMPARED,
) -> Splits:
    """Return the fold table that is there, or one as `kk folds` would make it; nothing is written.

    Duplicates come from the table that is there; else they are looked for, among ``most`` images at most.
    """
    try:
        table = folds_for(workspace, competition, config.run.folds)
    except KaggleKitError:
        return _would_be(competition, config.folds, progress, most)
    found = table.meta.get("duplicates", {})
    if found.get("search", "off") == "off":
        duplicates, searched = _search(competition, config.folds, progress, most)
        return Splits(table, True, duplicates, searched)
    return Splits(table, True, _recorded(found))


def _would_be(competition: Competition, config: FoldsConfig, progress: Progress | None, most: int) -> Splits:
    duplicates, searched = _search(competition, config, progress, most)
    try:
        table = make_folds(competition, config, duplicates=duplicates if config.duplicates != "off" else None)
    except KaggleKitError as error:
        return Splits(None, False, duplicates, searched, str(error))
    return Splits(table, False, duplicates, searched)


def _search(
    competition: Competition, config: FoldsConfig, progress: Progress | None, most: int
) -> tuple[Duplicates, int | None]:
    images = images_by_key(competition)
    rows = [(key, path) for key, (_, path) in images.items()]
    chosen = sample_rows(rows, most, "duplicates")
    distance = None if config.duplicates == "exact" else config.near_distance
    found = find_duplicates(chosen, near_distance=distance, progress=progress)
    own = {key: of_id for key, (of_id, _) in images.items()}
    return of_ids(found, own), None if len(chosen) == len(rows) else len(chosen)


def _recorded(found: Mapping[str, Any]) -> Duplicates:
    """Return the duplicates that a fold table names: those within the training images, and those in the test images, too."""
    in_test: dict[str, list[str]] = {}
    for train, test in found.get("in_test", ()):
        in_test.update(dict.fromkeys(train, test))
    groups: list[tuple[Key, ...]] = []
    named: set[str] = set()
    for ids in [*found.get("groups", ()), *([row_id] for row_id in in_test)]:
        if named.isdisjoint(ids):
            tests = dict.fromkeys(test for row_id in ids for test in in_test.get(row_id, ()))
            groups.append((*(("train", row_id) for row_id in ids), *(("test", row_id) for row_id in tests)))
            named.update(ids)
    unreadable: dict[Key, str] = {}
    for part, row_id in found.get("unreadable", ()):
        unreadable["test" if part == "test" else "train", row_id] = "`kk folds` could not read it"
    return Duplicates("exact" if found.get("search") == "exact" else "near", tuple(groups), unreadable=unreadable)


def group_sizes(rows: Sequence[ImageRow]) -> Counter[str]:
    """Return how many training images each group of the data has; none where the data has no groups."""
    return Counter(row.group for row in rows if row.group is not None)
