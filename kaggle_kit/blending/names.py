"""What a blend is called: a name of its own, since nothing that was made or sent is overwritten."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from kaggle_kit import files
from kaggle_kit.check.report import record_path as verdict_path
from kaggle_kit.errors import DataError, SubmissionError
from kaggle_kit.runs import BlendRecord, blend_record_path, read_blend_record
from kaggle_kit.workspace import LATEST, Workspace

_NUMBERED = re.compile(r"blend-(\d{4,})\.(csv|json)")


@contextlib.contextmanager
def claimed_path(workspace: Workspace, name: str | None, *, force: bool, latest: bool = True) -> Iterator[Path]:
    """Yield where a blend is to be written, which no other process writes meanwhile; then ``submissions/latest`` names it.

    Args:
        name: None for the next of ``blend-0001``, ``blend-0002`` …
        force: write over a submission of that name, unless it was sent to Kaggle.
        latest: whether it is a submission; one that is only scored is not what `kk check` and `kk submit` take.

    Raises:
        SubmissionError: the name is taken.
    """
    with files.folder_lock(workspace.submissions_dir):
        path = workspace.submission_path(name or _next_name(workspace.submissions_dir))
        require_free(path, force=force)
        yield path
        if latest:
            files.write_text(workspace.submissions_dir / LATEST, f"{path.stem}\n")


def require_free(path: Path, *, force: bool) -> None:
    """Refuse to write over a submission, but for what a ``kk blend`` left that was killed before it ended.

    Raises:
        SubmissionError: it was sent to Kaggle, or it is there and ``force`` is not given.
    """
    record = _record(path)
    if record is not None and record.sent:
        raise SubmissionError(
            f"{path} was sent to Kaggle ({record.sent}) and is kept with its score. Give another name with --name NAME, or "
            "none."
        )
    taken = path.exists() or blend_record_path(path).exists()
    if taken and not force and not _is_unfinished(path, record):
        raise SubmissionError(
            f"{path} is there already. Give another name with --name NAME or none, or --force to write over it."
        )


def _is_unfinished(path: Path, record: BlendRecord | None) -> bool:
    """Whether all that is there was written by a ``kk blend`` that did not come to its verdict, which is written last."""
    if record is None or not record.runs or record.sha256 is None or verdict_path(path).exists():
        return False
    return not path.exists() or files.file_fingerprint(path) == record.sha256


def _next_name(folder: Path) -> str:
    found = (_NUMBERED.fullmatch(path.name) for path in folder.glob("blend-*"))
    return f"blend-{max((int(match[1]) for match in found if match), default=0) + 1:04}"


def _record(path: Path) -> BlendRecord | None:
    """The record of a submission; None without a sound one."""
    try:
        return read_blend_record(path)
    except DataError:
        return None
