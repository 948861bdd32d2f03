"""The test set that is there at scoring time: other images, other ids and another number than the visible ones.

Nothing here gives up over single rows. An id without an image is kept, without a file: the submission needs a row for it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from kaggle_kit.competition import ImageRow
from kaggle_kit.competition.containers import makes, needed, unpack
from kaggle_kit.competition.matching import ImageIndex
from kaggle_kit.competition.sample import beginning, without_index
from kaggle_kit.competition.scan import around, common_folder, is_below, parent, scan
from kaggle_kit.competition.tabular import read_frame
from kaggle_kit.config import CompetitionConfig
from kaggle_kit.errors import DataError, MissingFileError
from kaggle_kit.kernel.bundle import search, subfolders
from kaggle_kit.tables import shown

logger = logging.getLogger(__name__)
Say = Callable[[str], None]

_PATH_KEYS = ("sample", "csv", "val_csv", "dirs", "val_dirs", "train_only_dirs")
_ENOUGH = 0.5
"""A table that fewer of its ids find images for than this is of another test set."""

STYLES: dict[str, Callable[[str, str], str]] = {
    "folder path": lambda _path, inner: inner,
    "bare folder path": lambda _path, inner: _bare(inner),
    "name": lambda path, _inner: PurePosixPath(path).name,
    "stem": lambda path, _inner: _bare(PurePosixPath(path).name),
    "path": lambda path, _inner: path,
    "bare path": lambda path, _inner: _bare(path),
}
"""How an id is spelled: function of the image's path below the data folder, and below its test folder."""


@dataclass(frozen=True)
class TestSet:
    """What is to be predicted.

    Attributes:
        config: the competition, with ``data_dir`` and paths as they are here.
        rows: id and file, in the order of the submission; None where there is no image.
        sample: the sample submission, where the ids are its own.
        more: id -> its further images, where it has several.
    """

    __test__ = False

    config: CompetitionConfig
    rows: tuple[tuple[str, Path | None], ...]
    sample: Path | None
    more: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)

    def image_rows(self, elsewhere: Path | None = None) -> tuple[ImageRow, ...]:
        """The rows that have an image, with all their images; with ``elsewhere`` the others, too, as if they had that."""
        kept = [(row_id, path or elsewhere) for row_id, path in self.rows]
        return tuple(ImageRow(row_id, path, further=self.more.get(row_id, ())) for row_id, path in kept if path is not None)


def find_test_set(
    input_root: Path, config: CompetitionConfig, *, style: str = "", scratch: Path | None = None, say: Say = logger.info
) -> TestSet:
    """Find data and ids below ``input_root``.

    Ids come from the sample submission; from the test table where that fits the images better; else from the files.

    Args:
        config: as at home; ``data_dir`` is replaced.
        style: how ids that come from files are spelled, an entry of STYLES.
        scratch: where containers of images are unpacked; needed where kk.yaml names some.

    Raises:
        MissingFileError: the data is not there; says what is.
        DataError: there is neither an id nor an image.
    """
    config = locate(input_root, config)
    data_dir = Path(config.data_dir)
    if config.containers:
        config = config.model_copy(update={"containers": needed(config)})
        say(f"unpacking {shown(one.path for one in config.containers)}")
        data_dir = unpack(scratch or input_root, data_dir, config.containers)
    if config.test is None:
        raise DataError("kk.yaml names no test images (competition.test), so there is nothing to predict. Build again.")
    dirs = [folder for folder in config.test.dirs if (data_dir / folder).is_dir()]
    images = dict.fromkeys(path for folder in dirs for path in scan(data_dir, folder).images)
    index = ImageIndex(images, dirs or ["."])
    say(f"data in {data_dir}: {len(images):,} test images")
    tables = _tables(data_dir, config, say)
    listed = _listing(data_dir, config, say)
    source, found = _choose(tables, index, style, say) if listed is None else _by_listing(tables, listed, index, config)
    rows = tuple((row_id, data_dir / paths[0] if paths else None) for row_id, paths in found.items())
    more = {row_id: tuple(data_dir / path for path in paths[1:]) for row_id, paths in found.items() if len(paths) > 1}
    if not rows:
        raise DataError(f"no test ids and no test images in {data_dir}. Is the competition attached to the notebook?")
    lacking = [row_id for row_id, path in rows if path is None]
    if lacking:
        say(f"{len(lacking):,} ids have no image and get the classes' shares of the training data: {shown(lacking)}")
    sample = config.submission.sample if source == config.submission.sample else None
    if sample is None and config.submission.sample:
        say(f"ids are those of {source or 'the files'}, not of {config.submission.sample}")
        config = config.model_copy(update={"submission": config.submission.model_copy(update={"sample": None})})
    return TestSet(config, rows, None if sample is None else data_dir / sample, more)


Images = Mapping[str, tuple[str, ...]]
"""Id -> its images, relative to the data folder; none where there are none."""


def _listing(data_dir: Path, config: CompetitionConfig, say: Say) -> dict[str, list[str]] | None:
    """Id -> names of its images, where a table says so; None where ids are names of images."""
    test = config.test
    if test is None or not test.csv or not test.id_column or not test.image_column:
        return None
    frame = read_frame(data_dir / test.csv)
    found: dict[str, list[str]] = {}
    for row_id, name in zip(frame[test.id_column], frame[test.image_column], strict=True):
        found.setdefault(row_id, []).append(name)
    say(f"{test.csv} says which images {len(found):,} ids have")
    return found


def _by_listing(
    tables: Mapping[str, Sequence[str]], listed: Mapping[str, Sequence[str]], index: ImageIndex, config: CompetitionConfig
) -> tuple[str, Images]:
    """The ids of the sample submission where it is of this test set, else those of the table; with their images."""
    sample = config.submission.sample
    wanted = tables.get(sample or "", ())
    fits = bool(wanted) and sum(row_id in listed for row_id in wanted) >= _ENOUGH * len(wanted)
    ids = dict.fromkeys(wanted if fits else listed)
    one = {row_id: tuple(index.find(name) for name in listed.get(row_id, ())) for row_id in ids}
    found = {row_id: tuple(paths[0] for paths in some if len(paths) == 1) for row_id, some in one.items()}
    return (sample if fits and sample else ""), found


def _choose(tables: Mapping[str, Sequence[str]], index: ImageIndex, style: str, say: Say) -> tuple[str, Images]:
    """The table whose ids find most images, else the files; its name, and id -> image."""
    found = {name: _match(index, ids) for name, ids in tables.items()}
    source = max(found, key=lambda name: _share(found[name]), default="")
    if source and (_share(found[source]) >= _ENOUGH or not index.images):
        return source, found[source]
    if source:
        say(f"{source} is of another test set: few of its {len(found[source]):,} ids have an image")
    return "", _spelled(index, style)


def locate(input_root: Path, config: CompetitionConfig, *, training: bool = False) -> CompetitionConfig:
    """``config`` with the data folder below ``input_root`` that holds its files, wherever Kaggle mounted it.

    Paths that begin with the same folder at home may lie without it at Kaggle, where the data was unpacked one level up.

    Args:
        training: whether the training data must be there, too.

    Raises:
        MissingFileError: no folder holds them.
    """
    wanted = paths_of(config, training=training)
    for strip, _ in enumerate(around(common_folder(map(parent, wanted)))):
        here = {path: "/".join(PurePosixPath(path).parts[strip:]) or "." for path in wanted}
        for anchor in here.values():
            found = [_root(path, anchor) for path in search(input_root, anchor, accept=_complete(anchor, here.values()))]
            if found and anchor != ".":
                return _moved(config, found[0], strip)
    mounted = [path.name for path in subfolders(input_root)]
    raise MissingFileError(
        f"no folder below {input_root} holds {shown(wanted)}; mounted are: {shown(mounted) or 'none'}. Attach the competition "
        "to the notebook (Add Input), and keep its files as Kaggle has them."
    )


def style_of(rows: Iterable[tuple[str, Path]], data_dir: Path, dirs: Sequence[str]) -> str:
    """How ids are spelled after their files; "" when no style fits all of them."""
    left = dict(STYLES)
    for row_id, file in rows:
        path = file.relative_to(data_dir).as_posix()
        left = {name: spell for name, spell in left.items() if spell(path, _inner(path, dirs)) == row_id}
    return next(iter(left), "")


def _tables(data_dir: Path, config: CompetitionConfig, say: Say) -> dict[str, list[str]]:
    """Ids of the sample submission and of the test table, where they can be read."""
    test = config.test
    named = {
        config.submission.sample: config.submission.id_column,
        test.csv if test else None: test.image_column if test else "",
    }
    found = {}
    for name, column in named.items():
        if not name:
            continue
        try:
            frame = without_index(read_frame(data_dir / name))
        except DataError as error:
            say(f"{name} is passed over: {error}")
            continue
        if column in frame.columns:
            found[name] = [cell for cell in frame[column] if cell]
            if name == config.submission.sample and config.submission.form == "long":
                found[name] = list(dict.fromkeys(beginning(cell, config.submission) for cell in found[name]))
        else:
            say(f"{name} is passed over: it has no column {column!r}")
    return found


def _match(index: ImageIndex, ids: Sequence[str]) -> Images:
    """Id -> its one image; ids that occur twice are there once, since a submission may hold each once."""
    found = {row_id: index.find(row_id) for row_id in ids}
    return {row_id: paths if len(paths) == 1 else () for row_id, paths in found.items()}


def _share(rows: Images) -> float:
    return sum(bool(paths) for paths in rows.values()) / len(rows) if rows else 0.0


def _spelled(index: ImageIndex, style: str) -> Images:
    spell = STYLES.get(style, STYLES["folder path"])
    return dict(sorted((spell(path, _inner(path, index.dirs)), (path,)) for path in index.images))


def _inner(path: str, dirs: Sequence[str]) -> str:
    """A path below its test folder, as the loading of a competition spells ids; with several folders the whole path."""
    folder = next((folder for folder in dirs if is_below(path, folder)), ".")
    return path if folder == "." or len(dirs) > 1 else path[len(folder) + 1 :]


def _bare(path: str) -> str:
    stem, dot, suffix = path.rpartition(".")
    return stem if dot and "/" not in suffix else path


def paths_of(config: CompetitionConfig, *, training: bool = False) -> list[str]:
    """Files and folders that a kernel needs, relative to the data folder; containers as they are."""
    train, test = config.train, config.test
    stated = [config.submission.sample, test.csv if test else None, *(test.dirs if test else ())]
    if training:
        stated += [train.csv, train.val_csv, *train.dirs, *train.train_only_dirs]
    containers = config.containers if training else needed(config)
    made = {path for path in stated if path and any(makes(one, path) for one in containers)}
    sources = [one.path for one in containers if not any(makes(other, one.path) for other in containers if other is not one)]
    return [*dict.fromkeys([*(path for path in stated if path and path not in made), *sources])]


def _complete(anchor: str, everything: Iterable[str]) -> Callable[[Path], bool]:
    """Whether all the other paths lie beside ``anchor``."""
    return lambda path: all((_root(path, anchor) / other).exists() for other in everything)


def _root(path: Path, anchor: str) -> Path:
    return path.parents[len(PurePosixPath(anchor).parts) - 1] if anchor != "." else path


def _moved(config: CompetitionConfig, data_dir: Path, strip: int) -> CompetitionConfig:
    """The same competition with its paths as they are below ``data_dir``: without their first ``strip`` folders."""
    content = config.model_dump(mode="json")
    if not strip:
        return CompetitionConfig.model_validate({**content, "data_dir": str(data_dir)})

    def shorter(path: str) -> str:
        return "/".join(PurePosixPath(path).parts[strip:]) or "."

    for one in content["containers"]:
        one |= {"path": shorter(one["path"]), "to": shorter(one["to"])}
    for section in ("train", "test", "submission"):
        for key in _PATH_KEYS:
            value = (content[section] or {}).get(key)
            if isinstance(value, list):
                content[section][key] = [shorter(path) for path in value]
            elif value is not None:
                content[section][key] = shorter(value)
    return CompetitionConfig.model_validate({**content, "data_dir": str(data_dir)})
