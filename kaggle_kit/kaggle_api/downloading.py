"""``kk download``: all files of a competition, resumed where an earlier try stopped, and unpacked."""

from __future__ import annotations

import errno
import logging
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from kaggle_kit import files
from kaggle_kit.errors import ConfigError, DataError, RemoteError, StorageError
from kaggle_kit.kaggle_api.archive import RESERVE, unpack
from kaggle_kit.kaggle_api.patience import Patience
from kaggle_kit.kaggle_api.session import connect

if TYPE_CHECKING:
    import requests

    from kaggle_kit.kaggle_api.official import Kaggle

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
RECORD = ".kk-download.json"
_BLOCK = 1 << 16  # when the connection breaks, the block that was being read is lost


@dataclass(frozen=True)
class _Remote:
    """What identifies the archive at Kaggle, so that bytes of two versions are never joined.

    ``validator`` is the ETag or the date; without either, nothing is resumed.
    """

    slug: str
    name: str
    size: int
    validator: str

    def to_dict(self) -> dict[str, Any]:
        return {"slug": self.slug, "name": self.name, "size": self.size, "validator": self.validator}


def download(
    slug: str,
    folder: Path,
    *,
    resume: bool = True,
    progress: Progress | None = None,
    patience: Patience | None = None,
) -> Path:
    """Fetch and unpack all files of a competition into ``folder``; returns ``folder``.

    What was fetched by an earlier call is not fetched again: half an archive is continued (HTTP range, if it is still the same
    archive), and nothing at all is done when Kaggle's archive is the one that was unpacked.

    Args:
        slug: as in the competition's address.
        resume: False fetches everything anew.
        progress: called with the bytes fetched and the size of the archive.

    Raises:
        ConfigError, DependencyError: no credentials, no client, or no such name.
        RemoteError: rules not accepted, refused, or not reachable.
        StorageError: not enough room.
        DataError: the archive is damaged or would leave the folder.
    """
    if not slug or "/" in slug or slug.startswith("."):
        raise ConfigError(f"expected the competition's name as in its address, like digit-recognizer, got {slug!r}.")
    folder, patience = Path(folder), patience or Patience()
    kaggle = connect(patience)
    folder.mkdir(parents=True, exist_ok=True)
    record_path = folder / RECORD
    if not resume:
        record_path.unlink(missing_ok=True)
        _part(folder, slug).unlink(missing_ok=True)
    remote, complete = _fetch(kaggle, slug, folder, patience, progress)
    if not complete:
        log.info("%s is unpacked in %s already and has not changed at Kaggle", slug, folder)
        return folder
    _unpack(folder, remote)
    files.write_json(record_path, {"state": "unpacked", **remote.to_dict()})
    _part(folder, slug).unlink(missing_ok=True)
    return folder


def _unpack(folder: Path, remote: _Remote) -> None:
    archive = _part(folder, remote.slug)
    if not zipfile.is_zipfile(archive):
        if remote.name.lower().endswith(".zip"):
            archive.unlink()
            raise DataError(f"{remote.slug}: the archive is damaged. It was deleted; run the same command again.")
        target = folder / remote.name  # a competition with a single file
        archive.replace(target)
        return
    try:
        count = unpack(archive, folder)
    except DataError:
        archive.unlink(missing_ok=True)
        (folder / RECORD).unlink(missing_ok=True)
        raise
    log.info("%s: %d files in %s", remote.slug, count, folder)


def _fetch(kaggle: Kaggle, slug: str, folder: Path, patience: Patience, progress: Progress | None) -> tuple[_Remote, bool]:
    """Bring the archive here; returns what it is and whether there is one to unpack.

    Every try asks Kaggle for a new link, since links expire. Failures count in a row: bytes that arrived start the count anew.
    """
    import requests

    part, failures = _part(folder, slug), 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        answer = kaggle.open_archive(slug)
        try:
            remote = _remote(slug, answer)
            state = _state(folder, remote)
            if state == "unpacked":
                return remote, False
            if state != "same":
                before = 0
                part.unlink(missing_ok=True)
                files.write_json(folder / RECORD, {"state": "downloading", **remote.to_dict()})
            _require_room(folder, remote, before)
            _append(answer, part, remote, patience, progress)
            return remote, True
        except (requests.exceptions.RequestException, _Short) as error:
            got_on = part.exists() and part.stat().st_size > before
            failures = 1 if got_on else failures + 1
            if failures >= patience.attempts:
                size = part.stat().st_size if part.exists() else 0
                raise RemoteError(
                    f"downloading {slug}: the connection broke {failures} times in a row, {size:,} bytes are here. "
                    "Run the same command again to go on from there."
                ) from None
            log.info("downloading %s: %s; going on in %.0f s", slug, type(error).__name__, patience.pause(failures))
            patience.sleep(patience.pause(failures))
        finally:
            answer.close()


class _Short(Exception):
    """Fewer bytes came than were announced, or an answer that cannot be appended."""


def _part(folder: Path, slug: str) -> Path:
    return folder / f".{slug}.kk-part"


def _remote(slug: str, answer: requests.Response) -> _Remote:
    name = Path(unquote(urlsplit(answer.url).path)).name or slug
    if name.startswith("."):
        name = slug
    validator = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
    packed = answer.headers.get("Content-Encoding", "identity") != "identity"  # then the length is not that of what is written
    return _Remote(slug, name, 0 if packed else int(answer.headers.get("Content-Length") or 0), validator)


def _state(folder: Path, remote: _Remote) -> str:
    """ "unpacked": nothing to do. "same": the part that is here belongs to this archive. "": begin anew."""
    path = folder / RECORD
    if not path.exists() or not remote.validator:
        return ""
    try:
        record = files.read_json(path, made_by="kk download")
    except DataError:
        return ""
    if any(record.get(key) != value for key, value in remote.to_dict().items() if key != "name"):
        return ""
    if record.get("state") != "unpacked":
        return "same"
    return "unpacked" if any(not path.name.startswith(".") for path in folder.iterdir()) else ""


def _require_room(folder: Path, remote: _Remote, here: int) -> None:
    free = shutil.disk_usage(folder).free
    if remote.size - here + RESERVE > free:
        raise StorageError(
            f"{remote.slug} has {remote.size:,} bytes packed ({here:,} are here), and {folder} has {free:,} free. "
            "Free space or choose another folder, then run the same command again."
        )


def _append(answer: requests.Response, part: Path, remote: _Remote, patience: Patience, progress: Progress | None) -> None:
    """Write the body, or what of it is lacking, to ``part``.

    Raises:
        _Short: fewer bytes came than were announced.
        requests.exceptions.RequestException: the connection broke.
    """
    start = part.stat().st_size if part.exists() else 0
    if remote.size and start == remote.size:
        return
    if start:
        answer = _rest(answer, part, remote, patience)
    try:
        with open(part, "ab") as handle:
            if answer.status_code != 206:
                start = 0
                handle.truncate(0)
            for block in answer.iter_content(_BLOCK):
                handle.write(block)
                start += len(block)
                if progress:
                    progress(start, max(remote.size, start))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(
                f"cannot write {part}: the disk is full. Free space, then run the same command again."
            ) from error
        raise
    finally:
        answer.close()
    if remote.size and start != remote.size:
        if start > remote.size:
            part.unlink()
        raise _Short


def _rest(answer: requests.Response, part: Path, remote: _Remote, patience: Patience) -> requests.Response:
    """Ask for the bytes that ``part`` lacks, at the address that the first answer came from.

    If-Range makes the server send everything (200) when the archive has changed since.
    """
    from kaggle_kit.kaggle_api.transport import plain_session

    start = part.stat().st_size
    request = answer.request
    answer.close()
    headers = {name: value for name, value in request.headers.items() if name.lower() not in ("content-length", "host")}
    headers |= {"Range": f"bytes={start}-", "If-Range": remote.validator}
    rest = plain_session(patience).request(
        request.method or "GET", str(request.url), headers=headers, data=request.body, stream=True
    )
    joins = rest.headers.get("Content-Range", f"bytes {start}-").startswith(f"bytes {start}-")
    if rest.status_code == 200 or (rest.status_code == 206 and joins):
        return rest
    rest.close()
    if rest.status_code == 416:  # more bytes are here than there are
        part.unlink()
    raise _Short
