"""What a blend is called: a name of its own, since nothing that was made or sent is overwritten."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from kaggle_kit import files
from kaggle_kit.errors import DataError, SubmissionError
from kaggle_kit.workspace import LATEST, Workspace

_NUMBERED = re.compile(r"blend-(\d{4,})\.(csv|json)")


@contextlib.contextmanager
def claimed_path(workspace: Workspace, name: str | None, *, force: bool) -> Iterator[Path]:
    """Yield where a blend is to be written, which no other process writes meanwhile; then ``submissions/latest`` names it.

    Args:
        name: None for the next of ``blend-0001``, ``blend-0002`` …
        force: write over a submission of that name, unless it was sent to Kaggle.

    Raises:
        SubmissionError: the name is taken.
    """
    with files.folder_lock(workspace.submissions_dir):
        path = workspace.submission_path(name or _next_name(workspace.submissions_dir))
        require_free(path, force=force)
        yield path
        files.write_text(workspace.submissions_dir / LATEST, f"{path.stem}\n")


def require_free(path: Path, *, force: bool) -> None:
    """Refuse to write over a submission.

    Raises:
        SubmissionError: it was sent to Kaggle, or it is there and ``force`` is not given.
    """
    sent = _sent(path.with_suffix(".json"))
    if sent:
        raise SubmissionError(
            f"{path} was sent to Kaggle ({sent}) and is kept with its score. Give another name with --name NAME, or none."
        )
    if not force and (path.exists() or path.with_suffix(".json").exists()):
        raise SubmissionError(
            f"{path} is there already. Give another name with --name NAME or none, or --force to write over it."
        )


def _next_name(folder: Path) -> str:
    found = (_NUMBERED.fullmatch(path.name) for path in folder.glob("blend-*"))
    return f"blend-{max((int(match[1]) for match in found if match), default=0) + 1:04}"


def _sent(record: Path) -> str:
    """What the record says of Kaggle, in a few words; empty when the submission was not sent."""
    try:
        entry = files.read_json(record, made_by="kk blend").get("kaggle")
    except DataError:
        return ""
    if not isinstance(entry, dict):
        return ""
    score = entry.get("public_score")
    return f"{entry.get('date') or 'date unknown'}, " + ("no score yet" if score is None else f"public score {score}")
