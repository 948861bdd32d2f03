"""Archives that Kaggle ships inside a download: .zip, .7z, .tar and its compressed kinds. Members stay below their folder."""

from __future__ import annotations

import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from kaggle_kit.competition.containers.base import MOST, Container, Item, Options, needs, opened
from kaggle_kit.competition.matching import leaves_folder
from kaggle_kit.errors import DataError

SUFFIXES = (".zip", ".7z", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


def _recognise(path: Path) -> Options | None:
    names = member_names(path)
    return {"count": len(names)} if names else None


def member_names(path: Path) -> list[str]:
    """Return the names of the regular files in an archive; none when it is damaged or none.

    Raises:
        DataError: a member would be written outside its folder, or the archive grows beyond every bound.
    """
    try:
        sizes = _sizes(path)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError):
        return []
    outside = [name for name in sizes if leaves_folder(name)]
    if outside:
        raise DataError(f"{path} holds names that leave its folder, such as {outside[0]!r}; it is not unpacked.")
    if sum(sizes.values()) > MOST:
        raise DataError(f"{path} would unpack to {sum(sizes.values()):,} bytes, more than {MOST:,}; it is not unpacked.")
    return [name for name in sizes if not name.startswith("__MACOSX/") and not name.rpartition("/")[2].startswith(".")]


def _sizes(path: Path) -> dict[str, int]:
    """Name -> bytes of each regular file."""
    name = path.name.lower()
    with opened(path) as handle:
        if name.endswith(".zip"):
            with zipfile.ZipFile(handle) as archive:
                return {one.filename: one.file_size for one in archive.infolist() if _is_regular(one)}
        if name.endswith(".7z"):
            py7zr = needs("py7zr", "py7zr")
            try:
                with py7zr.SevenZipFile(handle) as archive:
                    return {one.filename: one.uncompressed or 0 for one in archive.list() if not one.is_directory}
            except py7zr.exceptions.ArchiveError as error:
                raise EOFError(str(error)) from None
        with tarfile.open(fileobj=handle) as tar:
            return {one.name.removeprefix("./"): one.size for one in tar if one.isfile()}


def _is_regular(one: zipfile.ZipInfo) -> bool:
    mode = one.external_attr >> 16
    return not one.is_dir() and (not stat.S_IFMT(mode) or stat.S_ISREG(mode))


def extract(path: Path, target: Path) -> Iterator[str]:
    """Write the members of an archive below ``target``, skipping those that are there whole; yields their names."""
    wanted = set(member_names(path))
    sizes = _sizes(path)
    missing = {name for name in wanted if not _is_there(target / name, sizes[name])}
    yield from sorted(wanted - missing)
    if not missing:
        return
    name = path.name.lower()
    with opened(path) as handle:
        if name.endswith(".zip"):
            with zipfile.ZipFile(handle) as archive:
                for one in archive.infolist():
                    if one.filename in missing:
                        with archive.open(one) as content:
                            yield _write(target, one.filename, content)
        elif name.endswith(".7z"):
            py7zr = needs("py7zr", "py7zr")
            with py7zr.SevenZipFile(handle) as archive:
                archive.extract(path=target, targets=sorted(missing))
            yield from sorted(missing)
        else:
            with tarfile.open(fileobj=handle) as tar:
                for entry in tar:
                    inner = tar.extractfile(entry) if entry.isfile() else None
                    if inner is not None and entry.name.removeprefix("./") in missing:
                        yield _write(target, entry.name.removeprefix("./"), inner)


def _is_there(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _write(target: Path, name: str, content: IO[bytes]) -> str:
    path = target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as handle:
        shutil.copyfileobj(content, handle, 1 << 20)
    return name


def _read(path: Path, options: Options) -> Iterator[Item]:  # noqa: ARG001
    """The names of its members; :func:`extract` writes them."""
    yield from (Item(name, None) for name in member_names(path))


ARCHIVE = Container(SUFFIXES, _recognise, _read, archive=True)
