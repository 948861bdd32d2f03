"""Files written whole or not at all, CSV read without surprises, and fingerprints.

Every artifact of kaggle_kit goes through :func:`atomic_path`: a temporary file in the same folder, fsync, rename. A reader
never sees half a file, and a full disk leaves the previous version in place.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import os
import platform
import re
import shutil
import stat
import tempfile
import uuid
import warnings
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib import metadata
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import ConfigError, DataError, KaggleKitError, LockedError, MissingFileError, StorageError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_REASONS = {
    errno.ENOSPC: "the disk is full; free space or choose another folder, then run the same command again",
    errno.EDQUOT: "the disk quota is used up; free space or choose another folder, then run the same command again",
    errno.EROFS: "the file system is read-only; choose a workspace on a writable one",
    errno.EACCES: "permission denied; choose a workspace that you may write to",
    errno.EPERM: "not permitted; choose a workspace that you may write to",
    errno.ENOTDIR: "a folder on the way there is a file; remove or rename that file",
    errno.EEXIST: "a folder on the way there is a file; remove or rename that file",
    errno.EISDIR: "it is a folder; remove or rename that folder",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.ELOOP: "a link on the way there leads back to itself; remove it",
    errno.EFBIG: "the file is larger than is allowed here (see `ulimit -f`)",
    errno.EIO: "the disk reports an error; look after it before anything else",
    errno.EMFILE: "too many files are open; raise the limit (`ulimit -n`) or use fewer loader workers",
    errno.ENOENT: "a folder on the way there does not exist or was just deleted",
}
_TEMPORARY = re.compile(r"\.[0-9a-f]{12}\.tmp(\..*)?")
_TRACKED = (
    "kaggle_kit",
    "torch",
    "timm",
    "albumentations",
    "ttach",
    "numpy",
    "pandas",
    "scikit-learn",
    "opencv-python-headless",
)


def storage_error(error: OSError, path: Path | str = "", *, detail: str = "") -> StorageError:
    """Return ``error`` as a StorageError that names the path, the reason and what to do."""
    reason = _REASONS.get(error.errno or 0) or f"{error.strerror or error or type(error).__name__} (error {error.errno})"
    return StorageError(f"cannot write {path}{detail}: {reason}." if path else f"{error.filename or 'a file'}: {reason}.")


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn what the operating system says when ``path`` cannot be written into a StorageError; other errors pass."""
    try:
        yield
    except OSError as error:
        if error.errno is None or isinstance(error, KaggleKitError):
            raise
        raise storage_error(error, error.filename or path) from error


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is synced and renamed to ``path``, else removed.

    Raises:
        StorageError: the folder or file cannot be written; names the path, the reason and, for a full disk, the bytes wanted.
    """
    path = Path(path)
    # Hidden, unique and with the final suffix last, since writers such as numpy and pyarrow look at the suffix.
    temporary, written = path.with_name(f".{uuid.uuid4().hex[:12]}.tmp{path.suffix}"), 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        if error.errno is None or isinstance(error, KaggleKitError):
            raise
        with contextlib.suppress(OSError):
            written = temporary.stat().st_size
        raise storage_error(error, path, detail=f" ({written:,} bytes so far)") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def folder_lock(folder: Path, *, name: str = ".lock", patience: float = 60.0, what: Path | None = None) -> Iterator[None]:
    """Hold a lock on ``folder`` while inside, for what takes several files to change; waits for whoever holds it.

    The operating system frees the lock of a process that dies.

    Args:
        name: of the file in the folder that is locked, where different things in it are changed by different processes.

    Raises:
        LockedError: somebody holds it for more than ``patience`` seconds.
        StorageError: the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / name)
        lock.acquire(timeout=patience)
    except Timeout:
        raise LockedError(f"another process is changing {what or folder} and did not end; wait for it, or stop it.") from None
    except OSError as error:
        raise storage_error(error, folder) from error
    try:
        yield
    finally:
        lock.release()


def lock_beside(path: Path, *, patience: float = 60.0) -> contextlib.AbstractContextManager[None]:
    """Return a :func:`folder_lock` for a file or folder that is written as a whole; the lock lies beside it."""
    return folder_lock(path.parent, name=f".{path.name}.lock", patience=patience, what=path)


@contextlib.contextmanager
def whole_folder(out: Path, *, mark: str, what: str, option: str) -> Iterator[Path]:
    """Yield an empty folder to fill, which takes the place of ``out`` in the end; after an error ``out`` is as it was.

    Nobody else makes ``out`` meanwhile, and what killed processes left is cleared away.

    Args:
        mark: a file that an earlier ``out``, which is replaced, holds.
        what: how such a folder is called, for messages: "kernel that was built before".
        option: that chooses another folder.

    Raises:
        ConfigError: ``out`` holds something else.
        LockedError: another process makes it.
        StorageError: it cannot be written.
    """
    require_replaceable(out, mark=mark, what=what, option=option)
    prefix = f".{out.name}-building-"
    with lock_beside(out), storage_errors(out):
        for left in out.parent.glob(f"{glob.escape(prefix)}*"):
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=prefix) as temporary:
            built = Path(temporary, "built")
            built.mkdir()
            yield built
            if out.exists():
                out.rename(Path(temporary, "replaced"))
            built.rename(out)


def require_replaceable(out: Path, *, mark: str, what: str, option: str) -> None:
    """Raise ConfigError for an ``out`` that :func:`whole_folder` would not replace."""
    if out.exists() and not (out / mark).is_file() and (not out.is_dir() or any(out.iterdir())):
        inside = ", ".join(sorted(path.name for path in out.iterdir())[:5]) if out.is_dir() else "a file"
        raise ConfigError(f"{out} is no {what}, it holds {inside}; choose another folder with {option}.")


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files that killed processes left in ``folder``, where nobody else may be writing now."""
    for path in folder.glob(".*"):
        if _TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable. Not every file system lets a folder be opened, and then there is nothing to do."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically, as UTF-8 with ``\\n`` line ends."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write ``value`` as indented JSON, atomically; keys keep their order."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=True) + "\n")


DAMAGE: tuple[type[Exception], ...] = (
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    MemoryError,
    NotImplementedError,
)
"""What parsers raise for files that are damaged, nested too deep, or hold other types than expected."""
LARGEST_RECORD = 256 * 1024**2
"""Bytes of a JSON or YAML file."""
LARGEST = 64 * 1024**3
"""Bytes of any file that is read."""
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def open_regular(path: Path, *, most: int = LARGEST) -> BufferedReader:
    """Open a file to read its bytes, if it is a regular one of at most ``most`` bytes: the one way to open what others made.

    A pipe would wait for ever and a device never ends; neither is opened.

    Raises:
        MissingFileError: there is no such file.
        DataError: it is no regular file, too large, or cannot be opened; says why.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError:
        raise MissingFileError(f"{path} does not exist.") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise DataError(f"{path!s} cannot be opened: {reason}.") from None
    about = os.fstat(descriptor)
    if not stat.S_ISREG(about.st_mode) or about.st_size > most:
        os.close(descriptor)
        kind = next((words for test, words in _KINDS if test(about.st_mode)), f"a file of {about.st_size:,} bytes")
        raise DataError(f"{path} is {kind}, expected a regular file of at most {most:,} bytes.")
    return open(descriptor, "rb")


def open_for_arrow(path: Path, *, most: int = LARGEST) -> pa.NativeFile:
    """Open a file for pyarrow; raises what :func:`open_regular` does.

    To read a file of Python's its threads need the interpreter's lock. If one still waits for it when the interpreter ends, the
    process aborts, or never ends (https://github.com/apache/arrow/issues/34314 and 50482).
    """
    import pyarrow as pa

    open_regular(path, most=most).close()
    return pa.OSFile(str(path))


def read_bytes(path: Path, *, most: int = LARGEST) -> bytes:
    """Read a regular file; raises what :func:`open_regular` does."""
    with open_regular(path, most=most) as handle:
        return handle.read()


@contextlib.contextmanager
def parsing(
    path: Path, *, fault: str, remedy: str, error: type[DataError] = DataError, also: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Turn whatever goes wrong while a file is read and parsed into one error that says what it should be.

    Args:
        fault: what is then wrong with the file, as in "is not valid JSON".
        remedy: what to do, a sentence.
        also: further kinds of error that the parser raises.

    Raises:
        MissingFileError: there is no such file; says the remedy.
        DataError: of the kind ``error``.
    """
    try:
        yield
    except MissingFileError as missing:
        raise MissingFileError(f"{missing} {remedy}") from None
    except DataError:
        raise
    except DAMAGE + also as damage:
        reason = " ".join(str(damage).split())[:200] or type(damage).__name__
        raise error(f"{path} {fault}, or it is damaged ({reason}). {remedy}") from damage


def read_json(path: Path, *, made_by: str) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        made_by: the command that writes this file, for the error message.

    Raises:
        MissingFileError: there is no such file.
        DataError: the file is not a JSON object.
    """
    with parsing(path, fault="is not valid JSON", remedy=f"Run `{made_by}` first; delete a damaged file before."):
        value = json.loads(read_bytes(path, most=LARGEST_RECORD))
    if not isinstance(value, dict):
        raise DataError(f"{path} should hold a JSON object, found {type(value).__name__}. Run `{made_by}` again.")
    return value


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV with every cell as the text that stands there: "0001", "NA" and "" survive.

    Raises:
        MissingFileError: there is no such file.
        DataError: the file is empty, is not UTF-8 or is not a CSV.
    """
    import pandas as pd

    try:
        with warnings.catch_warnings(), open_regular(path) as handle:
            # Of a row with too many cells pandas would make the first an index, so that all others slide by one column.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(handle, dtype=str, keep_default_na=False, encoding="utf-8-sig", index_col=False)
    except DataError:
        raise
    except pd.errors.EmptyDataError:
        raise DataError(f"{path} is empty; expected a CSV with a header line.") from None
    except pd.errors.ParserWarning:
        raise DataError(f"{path} has rows with more cells than its header has names; quote cells that hold commas.") from None
    except DAMAGE as error:
        raise DataError(f"{path} cannot be read as a UTF-8 CSV: {str(error).strip()}.") from error


def write_table(path: Path, frame: pd.DataFrame) -> None:
    """Write a CSV atomically, with ``\\n`` line ends and without the index."""
    with atomic_path(path) as temporary:
        frame.to_csv(temporary, index=False, lineterminator="\n")


def fingerprint(value: Any) -> str:
    """sha256 of ``value`` as canonical JSON: independent of key order, dependent on list order."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def file_fingerprint(path: Path) -> str:
    """sha256 of a file's bytes, read in blocks."""
    with open_regular(path) as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that shape a result; packages that are not installed are left out."""
    found = {"python": platform.python_version()}
    for name in _TRACKED:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
