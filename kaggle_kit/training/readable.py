"""Finding training images that cannot be read, before hours are spent; what was looked at once is remembered."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from kaggle_kit import files
from kaggle_kit.errors import ImageError
from kaggle_kit.images.decode import check_images
from kaggle_kit.workspace import Workspace

logger = logging.getLogger(__name__)

_SLOW = 2000  # images that take long enough for a word


def unreadable_images(
    workspace: Workspace, rows: Sequence[tuple[str, Path]], *, bad_images: Literal["stop", "skip"], workers: int | None = None
) -> tuple[str, ...]:
    """Ids of ``rows`` (id, path) whose images cannot be read and are to be left out.

    Each file is decoded once; its size and time of change are kept in the workspace's cache with the verdict.

    Raises:
        ImageError: there are such images and ``bad_images`` is "stop"; lists them with their ids.
    """
    record = workspace.cache_dir / "checked_images.json"
    known = _read(record)
    stamps = {row_id: _stamp(path) for row_id, path in rows}
    new = [(row_id, path) for row_id, path in rows if known.get(str(path), {}).get("stamp") != stamps[row_id]]
    if len(new) >= _SLOW:
        logger.info("reading %d images once, to find damaged ones", len(new))
    reasons = check_images(new, workers=workers or None)
    known |= {str(path): {"stamp": stamps[row_id], "reason": reasons.get(row_id)} for row_id, path in new}
    if new:
        with contextlib.suppress(OSError):  # a cache that cannot be written costs time, nothing else
            files.write_json(record, known)
    return leave_out({row_id: reason for row_id, path in rows if (reason := known[str(path)]["reason"])}, rows, bad_images)


def leave_out(bad: Mapping[str, str], rows: Sequence[tuple[str, Path]], bad_images: Literal["stop", "skip"]) -> tuple[str, ...]:
    """Ids of ``bad`` (id -> reason), the unreadable ones of ``rows``.

    Raises:
        ImageError: there are such images and ``bad_images`` is "stop".
    """
    if not bad:
        return ()
    listed = "\n  ".join(f"{row_id}: {reason}" for row_id, reason in bad.items())
    if bad_images == "stop":
        raise ImageError(
            f"{len(bad)} of {len(rows)} training images cannot be read. Replace them, or leave them out with "
            f"data.bad_images=skip:\n  {listed}"
        )
    logger.warning("%d of %d training images cannot be read and are left out:\n  %s", len(bad), len(rows), listed)
    return tuple(bad)


def _stamp(path: Path) -> list[int]:
    """What changes when a file is replaced; empty for a file that is not there."""
    try:
        status = path.stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


def _read(record: Path) -> dict[str, Mapping[str, Any]]:
    try:
        known = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
