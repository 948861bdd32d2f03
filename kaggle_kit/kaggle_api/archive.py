"""Unpacking archives that somebody else made: nothing leaves the folder, nothing fills the disk."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import uuid
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from kaggle_kit.errors import DataError, StorageError
from kaggle_kit.tables import shown

Progress = Callable[[int, int], None]
RESERVE = 256 * 1024**2
"""Bytes of the disk that unpacking leaves free."""

_BLOCK = 1 << 20
_DRIVE = ":"


def unpack(archive: Path, folder: Path, *, progress: Progress | None = None) -> int:
    """Unpack a zip file into ``folder``; archives inside it are unpacked, too, into a folder of their name.

    All names are looked at before the first byte is written. Each file is written under a temporary name and then renamed.

    Args:
        progress: called with the bytes written and the bytes that the archive says it holds.

    Returns:
        The number of files written.

    Raises:
        DataError: the archive is damaged or encrypted, a member would leave the folder, is a link or a device, or two members
            have the same path.
        StorageError: it holds more than the disk has room for.
    """
    written = _unpack_one(archive, folder, progress)
    count = len(written)
    for inner in [path for path in written if path.suffix.lower() == ".zip" and zipfile.is_zipfile(path)]:
        count += len(_unpack_one(inner, _folder_for(inner), progress)) - 1
        inner.unlink()
    return count


def _unpack_one(archive: Path, folder: Path, progress: Progress | None) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    with _readable(archive) as source:
        members = [member for member in source.infolist() if not member.is_dir()]
        targets = _targets(archive, members, folder)
        total, done = sum(member.file_size for member in members), 0
        _require_room(archive, folder, total)
        for member, target in zip(members, targets, strict=True):
            done += _write(source, member, target, archive)
            if progress:
                progress(done, total)
    return targets


@contextlib.contextmanager
def _readable(archive: Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive; whatever says that it is damaged becomes a DataError."""
    try:
        with zipfile.ZipFile(archive) as source:
            yield source
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise DataError(f"{archive} is damaged or not a zip file ({error}). Delete it and run the command again.") from error
    except RuntimeError as error:  # what zipfile raises for encrypted members
        raise DataError(f"{archive} cannot be unpacked: {error}.") from error


def _targets(archive: Path, members: Sequence[zipfile.ZipInfo], folder: Path) -> list[Path]:
    """Where each member goes, having refused those that must not be written."""
    bad = [f"{member.filename!r} ({why})" for member in members if (why := _objection(member))]
    root = folder.resolve()
    targets = [root.joinpath(*PurePosixPath(member.filename).parts) for member in members]
    if not bad:  # a link that lies in the folder already could lead out of it, too
        outside = {parent for parent in {target.parent for target in targets} if not parent.resolve().is_relative_to(root)}
        outside |= {target for target in targets if target.is_symlink()}
        bad = [f"{path} (leads through a link)" for path in sorted(outside)]
    if not bad:
        above = {parent for target in targets for parent in target.parents}
        bad = [f"{path} (twice)" for path, count in Counter(targets).items() if count > 1]
        bad += [f"{path} (file and folder)" for path in targets if path in above or path.is_dir()]
    if bad:
        raise DataError(f"{archive} holds members that must not be unpacked: {shown(bad)}. Nothing of it was written.")
    return targets


def _objection(member: zipfile.ZipInfo) -> str:
    """Why a member must not be written; empty when it may."""
    name, kind = member.orig_filename, stat.S_IFMT(member.external_attr >> 16)
    parts = name.replace("\\", "/").split("/")
    if "\0" in name:
        return "NUL in its name"
    if name.startswith(("/", "\\")) or _DRIVE in parts[0]:
        return "absolute path"
    if ".." in parts:
        return "leaves the folder"
    if "\\" in name:
        return "backslash in its name"
    if kind == stat.S_IFLNK:
        return "symbolic link"
    if kind not in (0, stat.S_IFREG):
        return "neither file nor folder"
    if member.flag_bits & 0x1:
        return "encrypted"
    return ""


def _require_room(archive: Path, folder: Path, wanted: int) -> None:
    free = shutil.disk_usage(folder).free
    if wanted + RESERVE > free:
        raise StorageError(
            f"{archive.name} unpacks to {wanted:,} bytes, and {folder} has {free:,} free, of which {RESERVE:,} are kept. "
            "Free space or choose another folder, then run the same command again."
        )


def _write(source: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, archive: Path) -> int:
    """Write one member; returns its size. zipfile compares the checksum at the end of the member."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{uuid.uuid4().hex[:12]}.kk-part")
    count = 0
    try:
        with source.open(member) as incoming, open(temporary, "wb") as outgoing:
            while block := incoming.read(_BLOCK):
                count += len(block)
                if count > member.file_size:  # what it says of itself is what room was looked for
                    raise DataError(f"{archive}: {member.filename!r} is larger than it says.")
                outgoing.write(block)
        os.replace(temporary, target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(
                f"cannot write {target}: the disk is full. Free space, then run the same command again."
            ) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)
    return count


def _folder_for(inner: Path) -> Path:
    """``train.zip`` goes to ``train/``, and stays beside it when it brings a folder ``train/`` itself."""
    with _readable(inner) as source:
        tops = {PurePosixPath(name.replace("\\", "/")).parts[0] for name in source.namelist() if name.strip("/")}
    return inner.parent if tops == {inner.stem} else inner.parent / inner.stem
