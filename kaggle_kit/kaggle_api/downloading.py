"""``kk download``: the official client fetches all files of a competition, and they are unpacked over nothing else."""

from __future__ import annotations

import logging
import shutil
import zipfile
from pathlib import Path
from typing import Any

from kaggle_kit import files
from kaggle_kit.errors import ConfigError, DataError
from kaggle_kit.kaggle_api.archive import Written, move, unpack
from kaggle_kit.kaggle_api.patience import Patience
from kaggle_kit.kaggle_api.session import connect

log = logging.getLogger(__name__)

RECORD = ".kk-download.json"
_INCOMING, _LOCK = ".kk-download", ".kk-download.lock"
_PATIENCE = 10.0
"""Seconds to wait for another process that downloads into the same folder."""


def download(slug: str, folder: Path, *, resume: bool = True, show_bar: bool = False, patience: Patience | None = None) -> Path:
    """Fetch and unpack all files of a competition into ``folder``, a folder of their own; return ``folder``.

    What an earlier call fetched is not fetched again, and nothing is done when Kaggle's archive is the one that was unpacked.
    A file in the folder is replaced only if an earlier call wrote it and nobody has changed it since.

    Args:
        slug: as in the competition's address.
        resume: False fetches everything anew.
        show_bar: show the client's own bar on standard error.

    Raises:
        ConfigError, DependencyError: no credentials, no client, no such name, or the folder is a workspace.
        RemoteError: rules not accepted, refused, or not reachable.
        StorageError: not enough room.
        DataError: the archive is damaged, would leave the folder or replace a file that is not Kaggle's.
        LockedError: another process downloads into the folder.
    """
    if not slug or "/" in slug or slug.startswith("."):
        raise ConfigError(f"expected the competition's name as in its address, like digit-recognizer, got {slug!r}.")
    folder = Path(folder)
    if (folder / "kk.yaml").exists():
        raise ConfigError(f"{folder} is a workspace; give the data a folder of its own, like {slug}.")
    incoming = folder / _INCOMING
    kaggle = connect(patience)
    with files.folder_lock(folder, name=_LOCK, patience=_PATIENCE), files.storage_errors(incoming):
        if not resume:
            shutil.rmtree(incoming, ignore_errors=True)
        incoming.mkdir(parents=True, exist_ok=True)
        record = _read_record(folder, slug)
        known = record.get("archive") if resume else None
        archive = kaggle.download(
            slug,
            incoming,
            is_current=lambda found: bool(found.validator) and known == [found.size, found.validator],
            show_bar=show_bar,
        )
        if archive is not None:
            written = _unpack(archive.path, archive.name, folder, record["files"])
            content = {"slug": slug, "archive": [archive.size, archive.validator], "files": record["files"] | written}
            files.write_json(folder / RECORD, content)
            log.info("%s: %d files in %s", slug, len(written), folder)
        shutil.rmtree(incoming, ignore_errors=True)
    return folder


def _unpack(path: Path, name: str, folder: Path, own: Written) -> Written:
    """Unpack what was fetched; a competition with a single file keeps it under its name at Kaggle."""
    if not zipfile.is_zipfile(path) and not name.lower().endswith(".zip"):
        return move(path, name, folder, own=own)
    try:
        return unpack(path, folder, own=own)
    except DataError as error:
        if not error.__cause__:  # of a sound archive, whose members must not be written
            raise
        path.unlink(missing_ok=True)
        raise


def _read_record(folder: Path, slug: str) -> dict[str, Any]:
    """Return what the last call of this competition left; without a readable record nothing here is ours."""
    nothing: dict[str, Any] = {"files": {}}
    if not (folder / RECORD).exists():
        return nothing
    try:
        record = files.read_json(folder / RECORD, made_by="kk download")
    except DataError:
        return nothing
    sound = record.get("slug") == slug and isinstance(record.get("files"), dict)
    return record if sound else nothing
