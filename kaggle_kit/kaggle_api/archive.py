"""Unpacking archives that somebody else made: nothing leaves the folder, replaces a stranger's file or fills the disk."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import uuid
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from kaggle_kit import files
from kaggle_kit.errors import DataError, StorageError
from kaggle_kit.tables import shown

Written = dict[str, list[int]]
"""Path below the folder -> [bytes, time of change in nanoseconds] of the files that a download wrote."""
RESERVE = 256 * 1024**2
"""Bytes of the disk that unpacking leaves free."""

_BLOCK = 1 << 20
_DRIVE = ":"
_OWN = ".kk-download"
_LONGEST_NAME, _LONGEST_PATH = 255, 4000  # bytes; what file systems take


def unpack(archive: Path, folder: Path, *, own: Written | None = None) -> Written:
    """Unpack a zip file into ``folder``; archives inside it are unpacked, too, into a folder of their name.

    All names are looked at before the first byte is written. Each file is written under a temporary name and then renamed.

    Args:
        own: what an earlier call wrote. Those files are replaced unless they were changed since; of others that are in the way
            only those with the very same bytes are accepted.

    Returns:
        The files that the archive consists of.

    Raises:
        DataError: the archive is damaged or encrypted, a member would leave the folder, is a link or a device, has a name that
            cannot be written, two members have the same path, or a file that is not ours is in the way.
        StorageError: it holds more than the disk has room for.
    """
    written = _unpack_one(archive, folder, root=folder, own=own or {})
    for name in [name for name in written if name.lower().endswith(".zip") and zipfile.is_zipfile(folder / name)]:
        inner = folder / name
        written |= _unpack_one(inner, _folder_for(inner), root=folder, own=own or {})
        inner.unlink()
        del written[name]
    return written


def move(path: Path, name: str, folder: Path, *, own: Written) -> Written:
    """Move a file that is no archive to ``folder / name``, under the rules of :func:`unpack`."""
    target = folder / name
    if os.path.lexists(target) and not _is_own(target, folder, own):
        raise DataError(f"{target} is in the way and is not of an earlier download. Move it away, then run the command again.")
    os.replace(path, target)
    return {name: _mark(target)}


def _unpack_one(archive: Path, folder: Path, *, root: Path, own: Written) -> Written:
    folder.mkdir(parents=True, exist_ok=True)
    with _readable(archive) as source:
        members = [member for member in source.infolist() if not member.filename or not member.is_dir()]
        targets = _targets(archive, members, folder)
        missing = _missing(archive, members, targets, root=root, own=own)
        _require_room(archive, folder, sum(member.file_size for member, _ in missing))
        for member, target in missing:
            _write(source, member, target, archive)
    return {target.relative_to(root.resolve()).as_posix(): _mark(target) for target in targets}


def _mark(path: Path) -> list[int]:
    about = path.stat()
    return [about.st_size, about.st_mtime_ns]


def _is_own(path: Path, root: Path, own: Written) -> bool:
    return path.is_file() and own.get(path.relative_to(root).as_posix()) == _mark(path)


def _missing(
    archive: Path, members: Sequence[zipfile.ZipInfo], targets: Sequence[Path], *, root: Path, own: Written
) -> list[tuple[zipfile.ZipInfo, Path]]:
    """Return the members that are to be written: all but those that lie there already, byte for byte."""
    missing, strange = [], []
    for member, target in zip(members, targets, strict=True):
        if not target.exists() or _is_own(target, root.resolve(), own):
            missing.append((member, target))
        elif target.stat().st_size != member.file_size or _crc(target) != member.CRC:
            strange.append(str(target))
    if strange:
        raise DataError(
            f"{archive.name} would replace what no earlier download wrote, or what was changed since: {shown(strange)}. "
            "Nothing was replaced. Move these away or choose an empty folder, then run the command again."
        )
    return missing


def _crc(path: Path) -> int:
    value = 0
    with files.open_regular(path) as handle:
        while block := handle.read(_BLOCK):
            value = zlib.crc32(block, value)
    return value


@contextlib.contextmanager
def _readable(archive: Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive; whatever says that it is damaged becomes a DataError."""
    try:
        with zipfile.ZipFile(archive) as source:
            yield source
    except DataError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{archive} is damaged or not a zip file ({error}). Delete it and run the command again.") from error
    except RuntimeError as error:  # what zipfile raises for encrypted members
        raise DataError(f"{archive} cannot be unpacked: {error}.") from error


def _targets(archive: Path, members: Sequence[zipfile.ZipInfo], folder: Path) -> list[Path]:
    """Return where each member goes, having refused those that must not be written."""
    bad = [f"{member.filename[:100]!r} ({why})" for member in members if (why := _objection(member, folder))]
    root = folder.resolve()
    targets = [root.joinpath(*PurePosixPath(member.filename).parts) for member in members]
    if not bad:  # a link that lies in the folder already could lead out of it, too
        parents = {target.parent for target in targets}
        outside = {parent for parent in parents if not parent.resolve().is_relative_to(root)}
        outside |= {target for target in targets if target.is_symlink()}
        bad = [f"{path} (leads through a link)" for path in sorted(outside)]
    if not bad:
        above = {parent for target in targets for parent in target.parents}
        bad = [f"{path} (twice)" for path, count in Counter(targets).items() if count > 1]
        bad += [f"{path} (file and folder)" for path in targets if path in above or path.is_dir()]
        bad += [f"{path} (a file where a folder should be)" for path in sorted(above) if path.is_file()]
    if bad:
        raise DataError(f"{archive} holds members that must not be unpacked: {shown(bad)}. Nothing of it was written.")
    return targets


def _objection(member: zipfile.ZipInfo, folder: Path) -> str:
    """Return why a member must not be written; empty when it may."""
    name, kind = member.orig_filename, stat.S_IFMT(member.external_attr >> 16)
    parts = name.replace("\\", "/").split("/")
    objections = (
        ("\0" in name, "NUL in its name"),
        (name.startswith(("/", "\\")) or _DRIVE in parts[0], "absolute path"),
        (".." in parts, "leaves the folder"),
        ("\\" in name, "backslash in its name"),
        (not PurePosixPath(name).parts, "no name"),
        (parts[0].startswith(_OWN), "a name that kk keeps for itself"),
        (any(len(os.fsencode(part)) > _LONGEST_NAME for part in parts), "name too long"),
        (len(os.fsencode(folder.resolve() / name)) > _LONGEST_PATH, "path too long"),
        (kind == stat.S_IFLNK, "symbolic link"),
        (kind not in (0, stat.S_IFREG), "neither file nor folder"),
        (bool(member.flag_bits & 0x1), "encrypted"),
    )
    return next((why for found, why in objections if found), "")


def _require_room(archive: Path, folder: Path, wanted: int) -> None:
    free = shutil.disk_usage(folder).free
    if wanted + RESERVE > free:
        raise StorageError(
            f"{archive.name} unpacks to {wanted:,} bytes, and {folder} has {free:,} free, of which {RESERVE:,} are kept. "
            "Free space or choose another folder, then run the same command again."
        )


def _write(source: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, archive: Path) -> None:
    """Write one member. zipfile compares the checksum at the end of the member."""
    temporary = target.with_name(f".{uuid.uuid4().hex[:12]}.kk-part")
    count = 0
    with files.storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with source.open(member) as incoming, open(temporary, "wb") as outgoing:
                while block := incoming.read(_BLOCK):
                    count += len(block)
                    if count > member.file_size:  # what it says of itself is what room was looked for
                        raise DataError(f"{archive}: {member.filename!r} is larger than it says.")
                    outgoing.write(block)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)


def _folder_for(inner: Path) -> Path:
    """Return where ``train.zip`` goes: to ``train/``, and stays beside it when it brings a folder ``train/`` itself."""
    with _readable(inner) as source:
        tops = {PurePosixPath(name.replace("\\", "/")).parts[0] for name in source.namelist() if name.strip("/")}
    return inner.parent if tops == {inner.stem} else inner.parent / inner.stem
