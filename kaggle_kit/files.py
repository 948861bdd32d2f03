"""Files written whole or not at all, CSV read without surprises, and fingerprints.

Every artifact of kaggle_kit goes through :func:`atomic_path`: a temporary file in the same folder, fsync, rename. A reader
never sees half a file, and a full disk leaves the previous version in place.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import platform
import re
import uuid
import warnings
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaggle_kit.errors import DataError, KaggleKitError, LockedError, MissingFileError, StorageError

if TYPE_CHECKING:
    import pandas as pd

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


def storage_error(error: OSError, path: Path | str, *, detail: str = "") -> StorageError:
    """Return ``error`` as a StorageError that names the path, the reason and what to do."""
    reason = _REASONS.get(error.errno or 0) or f"{error.strerror or type(error).__name__} (error {error.errno})"
    return StorageError(f"cannot write {path}{detail}: {reason}.")


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
def folder_lock(folder: Path, *, patience: float = 60.0) -> Iterator[None]:
    """Hold a lock on ``folder`` while inside, for what takes several files to change; waits for whoever holds it.

    The operating system frees the lock of a process that dies.

    Raises:
        LockedError: somebody holds it for more than ``patience`` seconds.
        StorageError: the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        lock.acquire(timeout=patience)
    except Timeout:
        raise LockedError(f"another process is changing {folder} and did not end; wait for it, or stop it.") from None
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, str(error))
        raise StorageError(f"cannot write in {folder}: {reason}.") from error
    try:
        yield
    finally:
        lock.release()


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


def read_json(path: Path, *, made_by: str) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        made_by: the command that writes this file, for the error message.

    Raises:
        MissingFileError: there is no such file.
        DataError: the file is not a JSON object.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingFileError(f"{path} does not exist. Run `{made_by}` first.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not valid JSON ({error}). Delete it and run `{made_by}` again.") from error
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
        with warnings.catch_warnings():
            # Of a row with too many cells pandas would make the first an index, so that all others slide by one column.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", index_col=False)
    except FileNotFoundError:
        raise MissingFileError(f"{path} does not exist.") from None
    except pd.errors.EmptyDataError:
        raise DataError(f"{path} is empty; expected a CSV with a header line.") from None
    except pd.errors.ParserWarning:
        raise DataError(f"{path} has rows with more cells than its header has names; quote cells that hold commas.") from None
    except (pd.errors.ParserError, UnicodeDecodeError, OSError) as error:
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
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that shape a result; packages that are not installed are left out."""
    found = {"python": platform.python_version()}
    for name in _TRACKED:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
