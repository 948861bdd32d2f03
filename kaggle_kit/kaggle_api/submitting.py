"""``kk submit``: a checked file goes to Kaggle once, and its score comes back into its record."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaggle_kit import files
from kaggle_kit.check import require_passed
from kaggle_kit.errors import MissingFileError, RemoteError, SubmissionError
from kaggle_kit.kaggle_api.patience import Patience
from kaggle_kit.kaggle_api.records import begin_entry, read_entry, write_entry
from kaggle_kit.kaggle_api.session import connect
from kaggle_kit.results import Result
from kaggle_kit.workspace import Workspace

if TYPE_CHECKING:
    from kaggle_kit.kaggle_api.client import Kaggle, RemoteSubmission

log = logging.getLogger(__name__)

LARGEST = 2 * 1024**3
"""Bytes. Kaggle publishes no limit; image classification stays far below, so that more means a wrong file."""


@dataclass(frozen=True, repr=False)
class SubmissionStatus(Result):
    """How a submission stands.

    Attributes:
        ref: Kaggle's number of it.
        status: "pending", "complete" or "error".
        public_score, private_score: None while there is none.
        error: why Kaggle could not score it.
        uploaded: False when it was found at Kaggle already, so that nothing was sent.
    """

    ref: int
    status: str
    public_score: float | None = None
    private_score: float | None = None
    date: str = ""
    message: str = ""
    error: str = ""
    uploaded: bool = True

    @property
    def finished(self) -> bool:
        return self.status != "pending"

    def describe(self) -> str:
        """Return Kaggle's verdict."""
        how = "submitted" if self.uploaded else "these bytes were submitted before"
        score = "" if self.public_score is None else f", public score {self.public_score}"
        return f"{how}: {self.status}{score} {self.error}".rstrip()


OnStatus = Callable[[SubmissionStatus], None]


@dataclass(frozen=True)
class _Order:
    """What is to be handed in. ``tag`` ends the description, so that the bytes can be recognised in Kaggle's list."""

    slug: str
    path: Path
    sha256: str
    message: str

    @property
    def tag(self) -> str:
        return f"[kk {self.sha256[:12]}]"

    @property
    def description(self) -> str:
        return f"{self.message} {self.tag}".strip()


def submit(
    workspace: Workspace,
    competition_slug: str,
    path: Path,
    *,
    message: str,
    force: bool = False,
    on_status: OnStatus | None = None,
    patience: Patience | None = None,
) -> SubmissionStatus:
    """Hand in a submission, wait for its score, and write both to its record ``<name>.json`` under "kaggle".

    The description at Kaggle ends in ``[kk <first 12 digits of the file's sha256>]``: the same bytes are recognised whatever
    happened to the connection or to the record, and are not handed in twice. A call that was cut off is continued by the next.

    Args:
        competition_slug: as in the competition's address.
        force: submit though the check did not pass, or though these bytes were handed in before.
        on_status: called whenever the status was read.
        patience: its ``score`` is how long to wait; then the status "pending" is returned, and the same call waits on.

    Raises:
        ConfigError, DependencyError: no credentials, no client.
        MissingFileError, SubmissionError: no such file, not checked, too large, handed in already, or no submission left today.
        RemoteError: rules not accepted, refused, or not reachable.
    """
    patience = patience or Patience()
    order = _order(competition_slug, path, message)
    # A second process that hands in the same file waits, and then finds it handed in.
    with files.folder_lock(order.path.parent, name=f".{order.path.stem}.submit.lock"):
        entry = _known(order)
        if entry.get("ref") and entry.get("status") != "pending" and not force:
            raise _twice(order, entry)
        if force or not entry.get("ref"):
            require_passed(order.path, force=force, root=workspace.root)
        kaggle = connect(patience)
        status = _earlier(kaggle, order, entry) if not force else None
        status = status or _hand_in(kaggle, order, patience)
        _record(order, status)
    _tell(on_status, status)
    if patience.score and not status.finished:
        status = _wait(kaggle, order, status, on_status=on_status)
    return status


def _order(slug: str, path: Path, message: str) -> _Order:
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"{path} does not exist. Run `kk blend` first.")
    size = path.stat().st_size
    if not 0 < size <= LARGEST:
        raise SubmissionError(f"{path} has {size:,} bytes, expected 1 to {LARGEST:,}. Is it the right file?")
    if not slug or "/" in slug:
        raise SubmissionError(f"expected the competition's name as in its address, like digit-recognizer, got {slug!r}.")
    return _Order(slug, path, files.file_fingerprint(path), message.strip())


def _known(order: _Order) -> dict[str, Any]:
    """Return the record's entry, if it is about these bytes and this competition."""
    entry = read_entry(order.path)
    same = entry.get("sha256") == order.sha256 and entry.get("competition") == order.slug
    return entry if same else {}


def _earlier(kaggle: Kaggle, order: _Order, entry: dict[str, Any]) -> SubmissionStatus | None:
    """Return the submission of the same bytes that Kaggle has already.

    Raises:
        SubmissionError: it is scored, and this record does not wait for it.
    """
    found = _find(kaggle, order, ref=entry.get("ref"))
    if found is None:
        # A number that is known and not listed: there are more than a hundred newer ones, or the list lags behind.
        return replace(_unlisted(order, int(entry["ref"])), uploaded=False) if entry.get("ref") else None
    status = replace(_status(found), uploaded=False)
    if status.finished and not entry:
        _record(order, status)
        raise _twice(order, asdict(status))
    log.info("%s is at Kaggle already (submission %d); it is not uploaded again", order.path.name, status.ref)
    return status


def _twice(order: _Order, entry: dict[str, Any]) -> SubmissionError:
    score = f" with public score {entry['public_score']}" if entry.get("public_score") is not None else ""
    return SubmissionError(
        f"the very bytes of {order.path} were handed in to {order.slug} already: submission {entry['ref']} of "
        f"{entry.get('date')}, {entry.get('status')}{score}. It would cost one of the day's submissions for the same score; "
        "--force does it anyway."
    )


def _hand_in(kaggle: Kaggle, order: _Order, patience: Patience) -> SubmissionStatus:
    """Upload once, create once. A lost answer is looked up in Kaggle's list before anything is repeated."""
    left = kaggle.submissions_left(order.slug)
    if left == 0:
        raise SubmissionError(
            f"no submission to {order.slug} is left for today (Kaggle counts days in UTC). Try again tomorrow."
        )
    before = {entry.ref for entry in kaggle.submissions(order.slug)}
    started = {"competition": order.slug, "sha256": order.sha256, "message": order.message, "ref": None, "status": "uploading"}
    begin_entry(order.path, {**started, "date": datetime.now(UTC).isoformat(timespec="seconds")})
    token = kaggle.upload_submission(order.slug, order.path)

    def listed(ref: int | None = None) -> SubmissionStatus | None:
        found = _find_after_sending(kaggle, order, ref=ref, not_in=before)
        return None if found is None else _status(found)

    def create() -> SubmissionStatus:
        ref = kaggle.create_submission(order.slug, token, order.description)
        return patience.look(lambda: listed(ref)) or _unlisted(order, ref)

    return patience.once(create, listed, what=order.path.name)


def _unlisted(order: _Order, ref: int | None) -> SubmissionStatus:
    """Taken by Kaggle and not in its list yet. Clients before 1.8 do not even learn its number."""
    if ref is None:
        raise RemoteError(f"Kaggle took {order.path.name} and does not list it yet. Run the same command again to wait for it.")
    return SubmissionStatus(ref, "pending", message=order.message)


def _find_after_sending(kaggle: Kaggle, order: _Order, *, ref: int | None, not_in: set[int]) -> RemoteSubmission | None:
    """Look for the new submission, saying what a failure to look means."""
    try:
        return _find(kaggle, order, ref=ref, not_in=not_in)
    except RemoteError as error:
        raise RemoteError(
            f"{order.path.name} may have reached Kaggle, and its list of submissions cannot be read: {error} "
            "Run the same command again: it looks first and uploads nothing twice."
        ) from None


def _find(
    kaggle: Kaggle, order: _Order, *, ref: int | None = None, not_in: set[int] | frozenset[int] = frozenset()
) -> RemoteSubmission | None:
    entries = [entry for entry in kaggle.submissions(order.slug) if entry.ref not in not_in]
    if ref is not None:
        return next((entry for entry in entries if entry.ref == ref), None)
    same = [entry for entry in entries if entry.description.endswith(order.tag)]
    return max(same, key=lambda entry: entry.ref, default=None)


def _status(entry: RemoteSubmission) -> SubmissionStatus:
    message = entry.description.rpartition(" [kk ")[0] or entry.description
    return SubmissionStatus(
        entry.ref, entry.status, entry.public_score, entry.private_score, entry.date, message=message, error=entry.error
    )


def _wait(kaggle: Kaggle, order: _Order, status: SubmissionStatus, *, on_status: OnStatus | None) -> SubmissionStatus:
    """Read the status until it is final or the time is over."""
    timeout = kaggle.patience.score
    for gone in kaggle.patience.rounds(timeout):
        try:
            found = _find(kaggle, order, ref=status.ref)
        except RemoteError as error:
            raise RemoteError(
                f"{order.path.name} is submitted (number {status.ref}), and its score cannot be read: {error} "
                "Run the same command again to wait on; nothing is uploaded again.",
                status=error.status,
            ) from None
        if found is not None:
            status = replace(_status(found), uploaded=status.uploaded)
            _record(order, status)
            _tell(on_status, status)
        if status.finished:
            return status
        log.debug("submission %d: %s after %.0f s", status.ref, status.status, gone)
    log.warning(
        "submission %d is still %s after %.0f s; run the same command again to wait on", status.ref, status.status, timeout
    )
    return status


def _tell(on_status: OnStatus | None, status: SubmissionStatus) -> None:
    if on_status is not None:
        on_status(status)


def _record(order: _Order, status: SubmissionStatus) -> None:
    told = {key: value for key, value in asdict(status).items() if key != "uploaded"}
    write_entry(order.path, {"competition": order.slug, "sha256": order.sha256, **told})
