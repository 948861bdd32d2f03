"""In which folders the images of a table lie, and which images are the test images."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from kaggle_kit.competition.layouts.base import Material
from kaggle_kit.competition.layouts.columns import CsvTable
from kaggle_kit.competition.matching import ImageIndex
from kaggle_kit.competition.questions import Asker
from kaggle_kit.competition.records import TrainReading
from kaggle_kit.competition.sample import PROBE, Sample, naming_share
from kaggle_kit.competition.scan import Tree, common_folder, is_below, parent, role_folders, without_suffix
from kaggle_kit.config import TestDataConfig
from kaggle_kit.tables import shown

_MOST = 0.5
_FEW = 6
Found = list[tuple[str, ...]]


def choose_dirs(
    asker: Asker, key: str, cells: Sequence[str], places: Iterable[ImageIndex], *, source: str
) -> tuple[list[str], Found]:
    """The folders to look for ``cells`` in, and what each cell means there.

    Args:
        key: of the question, should several folders hold the same images.
        places: where to look, best first; the first that finds every cell once is taken, else the one that finds most.

    Raises:
        DataError: several images fit the same cell, and no single folder holds all of them.
    """
    best: ImageIndex | None = None
    found: Found = [()] * len(cells)
    score = -1
    for place in places:
        here = [place.find(cell) for cell in cells]
        once = sum(len(paths) == 1 for paths in here)
        hits = sum(bool(paths) for paths in here)
        if hits > score:
            best, found, score = place, here, hits
        if once == len(cells):
            best, found = place, here
            break
    if best is None or not any(found):
        return [], found
    if any(len(paths) > 1 for paths in found):
        best = _choose_one(asker, key, cells, found, best, source)
        found = [best.find(cell) for cell in cells]
    else:
        asker.given(key)
    return _narrow(best, cells, found), found


def _choose_one(asker: Asker, key: str, cells: Sequence[str], found: Found, place: ImageIndex, source: str) -> ImageIndex:
    """Ask which of several folders with the same names is meant."""
    wanted = sum(map(bool, found))
    folders = sorted({parent(path) for paths in found for path in paths})
    single = {folder: ImageIndex(place.images, [folder]) for folder in folders}
    complete = {
        folder: index
        for folder, index in single.items()
        if sum(len(index.find(cell.rpartition("/")[2])) == 1 for cell in cells) == wanted
    }
    if not complete:
        place.require([cell for cell, paths in zip(cells, found, strict=True) if len(paths) > 1], source=source)
    options = {folder: f"the images in {folder}" for folder in complete}
    default = next(iter(complete)) if len(complete) == 1 else None
    return complete[asker.ask(key, f"images of {source} lie in several folders. Which are meant?", options, default=default)]


def _narrow(place: ImageIndex, cells: Sequence[str], found: Found) -> list[str]:
    """The fewest folders in which ``cells`` mean the same."""
    parents = sorted({parent(path) for paths in found for path in paths})
    for dirs in ([*parents] if len(parents) <= _FEW else [], [common_folder(parents)]):
        index = ImageIndex(place.images, dirs) if dirs else None
        if index and all(index.find(cell) == paths for cell, paths in zip(cells, found, strict=True)):
            return dirs
    return list(place.dirs)


def train_places(tree: Tree) -> list[ImageIndex]:
    """Where training images may lie: folders called train, then everything but test folders, then everything."""
    roles = role_folders(tree)
    other = [path for path in tree.images if not any(is_below(path, folder) for folder in roles.get("test", []))]
    own = [*roles.get("train", []), *roles.get("val", [])]
    dirs = candidate_dirs(tree)
    return [*([ImageIndex(tree.images, own)] if own else []), ImageIndex(other, dirs), ImageIndex(tree.images, dirs)]


def candidate_dirs(tree: Tree) -> list[str]:
    """The folders that names in tables may be relative to, besides the data folder: of parts, of tables, and the first."""
    roles = [folder for folders in role_folders(tree).values() for folder in folders]
    tops = [folder for folder in tree.folders if folder.count("/") == 0]
    return list(dict.fromkeys([".", *roles, *map(parent, (*tree.tables, *tree.documents)), *tops]))


def infer_test(material: Material, sample: Sample | None, train: TrainReading) -> TestDataConfig | None:
    """Where the test images are, and which table lists them; None when there are none.

    Args:
        sample: the sample submission with the ids of test images.
    """
    asker, tree = material.asker, material.tree
    listing = _test_listing(material, sample, train)
    cells = sample.ids if sample else list(listing.names) if listing else None
    roots = asker.given_folders("test_dirs", tree.folders) or role_folders(tree).get("test", [])
    if cells is None:
        if not roots:
            asker.find("there are no test images: no folder called test, no table of them and no sample submission.")
            return None
        asker.find(f"the test images are all files in {shown(roots)}; their ids are their paths there.")
        return TestDataConfig(dirs=roots)
    source = sample.file if sample else listing.table.file if listing else ""
    places = _test_places(tree, train, roots)
    if sample and listing and listing.id_column:
        wanted = set(cells)
        cells = [name for row_id, name in zip(listing.ids, listing.names, strict=True) if row_id in wanted]
        source = listing.table.file
    dirs, found = choose_dirs(asker, "test_dirs", cells, places, source=source)
    if not dirs:
        options = {"none": "go on without test images; `kk train` works, `kk predict` does not"}
        asker.ask("test_images", f"none of the {len(cells):,} ids of {source} (such as {cells[0]!r}) names an image.", options)
        return None
    _note_found(asker, tree, dirs, cells, found, source)
    if listing is None:
        return TestDataConfig(dirs=dirs)
    if listing.id_column:
        several = len(cells) - len(set(listing.ids))
        images = f"; {several:,} are further images of an id, whose predictions become one (data.several)" if several else ""
        asker.find(f"{listing.table.file} says which images an id has ({listing.id_column}, {listing.image_column}){images}.")
    elif sample:
        asker.find(f"{listing.table.file} lists the test images, too; its ids are checked against those of {sample.file}.")
    return TestDataConfig(
        dirs=dirs, csv=listing.table.file, image_column=listing.image_column, id_column=listing.id_column or None
    )


@dataclass(frozen=True)
class Listing:
    """A table that lists the test images.

    Attributes:
        id_column: of ids that are not the names of images; "" where the names are the ids.
    """

    table: CsvTable
    image_column: str
    id_column: str = ""

    @property
    def names(self) -> list[str]:
        return list(self.table.frame[self.image_column])

    @property
    def ids(self) -> list[str]:
        return list(self.table.frame[self.id_column or self.image_column])


def listing_of(table: CsvTable, sample: Sample | None, train_images: Collection[str], index: ImageIndex) -> Listing | None:
    """How a table lists the test images; None when it does not.

    Its ids are those of the sample submission; without one, it names images that are not trained on. Most of them are enough
    for a table that is called test, whose rest is a mistake to be told; of others all ids must be the same.
    """
    frame = table.frame
    least = _MOST if table.role == "test" else 1.0
    names = table.image_columns[0]
    if sample is None:
        found = [paths[0] for cell in frame[names].head(PROBE) if (paths := index.find(cell))]
        others = sum(path not in train_images for path in found)
        fits = table.role == "test" or (bool(found) and others == len(found) and not table.rest(names))
        return Listing(table, names) if fits and others * 2 > len(found) else None
    wanted = {without_suffix(row_id) for row_id in sample.ids}
    for column in (sample.id_column, *table.image_columns, *map(str, frame.columns)):
        if column not in frame:
            continue
        held = {without_suffix(cell) for cell in frame[column]}
        same = len(wanted & held) >= least * max(len(wanted), len(held) if least == 1.0 else 0)
        if same and column in table.image_columns:
            return Listing(table, column)
        if same:
            unique = [name for name in table.image_columns if frame[name].is_unique]
            return Listing(table, unique[0], column) if unique else None
    return Listing(table, names) if table.role == "test" and naming_share(sample.ids, index) >= _MOST else None


def _test_listing(material: Material, sample: Sample | None, train: TrainReading) -> Listing | None:
    """The table that lists the test images; of several the one that is called test, or that is chosen."""
    used = {train.config.csv, train.config.val_csv}
    free = [table for table in material.tables if table.file not in used and not table.annotated]
    found = {
        one.table.file: one for table in free if (one := listing_of(table, sample, train.images, material.index)) is not None
    }
    if not found:
        material.asker.given("test_csv")
        return None
    named = [file for file, one in found.items() if one.table.role == "test"] or list(found)
    options = {file: f"{len(found[file].table.frame):,} rows" for file in found} | {"none": "no table lists the test images"}
    only = named[0] if len(named) == 1 else None
    settled = f"{only} lists the test images." if only else None
    choice = material.asker.ask("test_csv", "which table lists the test images?", options, default=only, settled=settled)
    return found.get(choice)


def id_columns(material: Material, table: CsvTable, image_column: str) -> list[str]:
    """The columns of a training table whose cells, joined by ``_``, are its ids, where an id has several images.

    That is so where the test table has ids that are no names of images: a column of the training table holds them, too, or two
    of its columns joined make those of the test table.
    """
    sample = material.sample
    if sample is None:
        return []
    for other in material.tables:
        listing = listing_of(other, sample, (), material.index) if other is not table else None
        if listing is None or not listing.id_column or len(set(listing.ids)) == len(listing.ids):
            continue
        if listing.id_column in table.frame:
            return [listing.id_column]
        shared = [str(name) for name in other.frame.columns if name in table.frame and name != image_column]
        for one, two in itertools.permutations(shared, 2):
            joined = other.frame[one] + "_" + other.frame[two]
            if (joined == other.frame[listing.id_column]).all():
                return [one, two]
    return []


def _test_places(tree: Tree, train: TrainReading, roots: Sequence[str]) -> list[ImageIndex]:
    other = [path for path in tree.images if path not in train.images]
    # Never among the training images, whose names may well be those of the test images.
    return [*([ImageIndex(tree.images, roots)] if roots else []), ImageIndex(other, candidate_dirs(tree))]


def _note_found(asker: Asker, tree: Tree, dirs: Sequence[str], cells: Sequence[str], found: Found, source: str) -> None:
    missing = [cell for cell, paths in zip(cells, found, strict=True) if not paths]
    asker.find(f"{len(cells) - len(missing):,} of the {len(cells):,} ids of {source} name images in {shown(dirs)}.")
    if missing:
        asker.find(
            f"{source} may be stale: {len(missing):,} of its ids have no image ({shown(map(repr, missing))}). Complete the "
            "test images or correct the file; until then the competition does not load."
        )
    used = Counter(path for paths in found for path in paths)
    extra = [path for path in tree.images if path not in used and any(parent(path) == folder for folder in dirs)]
    twice = [path for path, count in used.items() if count > 1]
    if twice:
        asker.find(f"{len(twice):,} test images are named more than once by {source}: {shown(twice)}.")
    roles = role_folders(tree).get("test", [])
    extra = [path for path in extra if any(is_below(path, folder) for folder in roles)]
    if extra:
        asker.find(f"{source} may be stale: {len(extra):,} images in {shown(dirs)} are not in it ({shown(extra)}).")
