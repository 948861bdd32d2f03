"""In which folders the images of a table lie, and which images are the test images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from kaggle_kit.competition.columns import CsvTable
from kaggle_kit.competition.matching import ImageIndex
from kaggle_kit.competition.questions import Asker
from kaggle_kit.competition.records import TrainReading
from kaggle_kit.competition.sample import Sample
from kaggle_kit.competition.scan import Tree, common_folder, is_below, parent, role_folders
from kaggle_kit.config import TestDataConfig
from kaggle_kit.tables import shown

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
    return [*([ImageIndex(tree.images, own)] if own else []), ImageIndex(other), ImageIndex(tree.images)]


def infer_test(
    asker: Asker, tree: Tree, sample: Sample | None, tables: Sequence[CsvTable], train: TrainReading
) -> TestDataConfig | None:
    """Where the test images are, and which table lists them; None when there are none."""
    table = _test_table(asker, tables, train)
    column = _test_column(table, sample) if table else None
    cells = sample.ids if sample else list(table.frame[column]) if table and column else None
    roots = asker.given_folders("test_dirs", tree.folders) or role_folders(tree).get("test", [])
    if cells is None:
        if not roots:
            asker.find("there are no test images: no folder called test, no table of them and no sample submission.")
            return None
        asker.find(f"the test images are all files in {shown(roots)}; their ids are their paths there.")
        return TestDataConfig(dirs=roots)
    source = sample.file if sample else table.file if table else ""
    dirs, found = choose_dirs(asker, "test_dirs", cells, _test_places(tree, train, roots), source=source)
    if not dirs:
        options = {"none": "go on without test images; `kk train` works, `kk predict` does not"}
        asker.ask("test_images", f"none of the {len(cells):,} ids of {source} (such as {cells[0]!r}) names an image.", options)
        return None
    _note_found(asker, tree, dirs, cells, found, source)
    if sample and table and column:
        asker.find(f"{table.file} lists the test images, too; its ids are checked against those of {sample.file}.")
    return TestDataConfig(dirs=dirs, csv=table.file if table else None, image_column=column)


def _test_places(tree: Tree, train: TrainReading, roots: Sequence[str]) -> list[ImageIndex]:
    other = [path for path in tree.images if path not in train.images]
    # Never among the training images, whose names may well be those of the test images.
    return [*([ImageIndex(tree.images, roots)] if roots else []), ImageIndex(other)]


def _test_table(asker: Asker, tables: Sequence[CsvTable], train: TrainReading) -> CsvTable | None:
    """The table that lists the test images: called test, else the only one without labels that is not the training one."""
    used = {train.config.csv, train.config.val_csv}
    free = {table.file: table for table in tables if table.file not in used}
    named = [file for file, table in free.items() if table.role == "test"]
    plain = named or [file for file, table in free.items() if not table.rest(table.image_columns[0])]
    if not plain:
        asker.given("test_csv")
        return None
    options = {file: f"{len(free[file].frame):,} rows" for file in plain} | {"none": "no table lists the test images"}
    only = plain[0] if len(plain) == 1 else None
    settled = f"{only} lists the test images." if only else None
    choice = asker.ask("test_csv", "which table lists the test images?", options, default=only, settled=settled)
    return free.get(choice)


def _test_column(table: CsvTable, sample: Sample | None) -> str:
    if sample is not None and sample.id_column in table.image_columns:
        return sample.id_column
    return table.image_columns[0]


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
