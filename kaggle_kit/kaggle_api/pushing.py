"""``kk kernel push``: a dataset and a notebook go to Kaggle, once for each content, and are watched until they are done."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaggle_kit import files
from kaggle_kit.check.report import VERDICT, require_copied_verdict
from kaggle_kit.errors import ConfigError, DataError, RemoteError
from kaggle_kit.kaggle_api.metadata import Metadata, read_dataset, read_kernel
from kaggle_kit.kaggle_api.patience import Patience
from kaggle_kit.kaggle_api.session import connect
from kaggle_kit.results import Result
from kaggle_kit.tables import shown

if TYPE_CHECKING:
    from kaggle_kit.kaggle_api.client import Kaggle

log = logging.getLogger(__name__)

RECORD = ".kk-push.json"
_RUN_ENDED = ("complete", "error", "cancel_acknowledged", "cancelled")
_READY, _DATASET_FAILED = "ready", ("failed", "deleted")


@dataclass(frozen=True, repr=False)
class PushResult(Result):
    """What became of a dataset or a notebook.

    Attributes:
        kind: "dataset" or "kernel".
        version: 0 where Kaggle did not say.
        status: as Kaggle says: "ready", "complete", "error", "running" …
        uploaded: False when Kaggle had this content already.
        failure: why a run failed.
    """

    kind: str
    ref: str
    version: int
    url: str
    status: str
    uploaded: bool
    failure: str = ""

    def describe(self) -> str:
        """Return what became of it and where it is."""
        how = "uploaded" if self.uploaded else "was there already"
        return f"{self.kind} {self.ref}: {how}, {self.status} {self.failure}".rstrip() + f"\n  {self.url}"


OnStatus = Callable[[PushResult], None]


@dataclass(frozen=True)
class _Watch:
    """How to wait: not at all, or until ``timeout`` seconds are over, telling ``on_status``."""

    wait: bool
    timeout: float
    on_status: OnStatus | None

    def tell(self, result: PushResult) -> PushResult:
        if self.on_status is not None:
            self.on_status(result)
        return result


def push(
    folder: Path,
    *,
    force: bool = False,
    wait: bool = True,
    timeout: float = 10 * 3600.0,
    on_status: OnStatus | None = None,
    patience: Patience | None = None,
) -> tuple[PushResult, PushResult]:
    """Push what ``kk kernel build`` wrote: ``folder/dataset``, and once that is ready ``folder/kernel``.

    The notebook runs again when the dataset changed, even if it did not change itself.

    Raises:
        SubmissionError: the blend that the kernel repeats failed its check or is not proven.
        LockedError: another process builds or pushes it.
        as :func:`push_dataset` and :func:`push_kernel`.
    """
    folder = Path(folder)
    options: dict[str, Any] = {"force": force, "timeout": timeout, "on_status": on_status, "patience": patience}
    with files.lock_beside(folder):  # what is built meanwhile must not go up in parts, nor anything twice
        require_copied_verdict(folder / VERDICT, force=force)
        dataset, _ = read_dataset(folder / "dataset"), read_kernel(folder / "kernel")  # both, before anything is uploaded
        first = push_dataset(folder / "dataset", wait=True, **options)
        second = push_kernel(folder / "kernel", wait=False, inputs=(dataset.fingerprint(),), **options)
    if wait and second.status not in _RUN_ENDED:
        second = _await_kernel(connect(patience or Patience()), second, _Watch(wait, timeout, on_status))
    return first, second


def push_dataset(
    folder: Path,
    *,
    notes: str = "",
    force: bool = False,
    wait: bool = True,
    timeout: float = 3600.0,
    on_status: OnStatus | None = None,
    patience: Patience | None = None,
) -> PushResult:
    """Make a private dataset of a folder with ``dataset-metadata.json``, or a new version of it.

    Nothing is uploaded when the content is that of the last push (``.kk-push.json`` in the folder), or when the notes of the
    current version at Kaggle carry this content's fingerprint.

    Args:
        force: upload whatever is there.
        timeout: seconds to wait until Kaggle has processed the files.

    Raises:
        MissingFileError, ConfigError, DependencyError: the folder, the credentials or the client.
        RemoteError: refused, not reachable, or Kaggle could not process the files.
    """
    metadata, watch, patience = read_dataset(folder), _Watch(wait, timeout, on_status), patience or Patience()
    kaggle = connect(patience)
    _require_owner(kaggle, metadata)
    tag = f"[kk {metadata.fingerprint()[:12]}]"
    address = f"https://www.kaggle.com/datasets/{metadata.ref}"
    number, known = kaggle.dataset_versions(metadata.ref)
    if not force and tag in known.get(number, ""):
        log.info("Kaggle has this content of %s already; it is not uploaded again", metadata.ref)
        return _await_dataset(kaggle, PushResult("dataset", metadata.ref, number, address, "", uploaded=False), watch)

    def create(exists: bool) -> tuple[str, int]:
        if exists:
            return kaggle.create_dataset_version(metadata.folder, f"{notes} {tag}".strip()), 0
        return kaggle.create_dataset(metadata.folder), 0

    upload = _Upload("dataset", metadata, metadata.fingerprint(), address, lambda: _dataset_mark(kaggle, metadata.ref), create)
    return _await_dataset(kaggle, _carry_out(upload, patience, force=force), watch)


def push_kernel(
    folder: Path,
    *,
    inputs: tuple[str, ...] = (),
    force: bool = False,
    wait: bool = True,
    timeout: float = 10 * 3600.0,
    on_status: OnStatus | None = None,
    patience: Patience | None = None,
) -> PushResult:
    """Save and run the notebook of a folder with ``kernel-metadata.json``, and watch the run.

    Args:
        inputs: fingerprints of what the notebook reads; a change makes it run again.
        force: run again though nothing changed, as after a failed run.
        timeout: seconds to watch; when they are over, the last status is returned and the same call watches on.

    Raises:
        as :func:`push_dataset`.
    """
    metadata, watch, patience = read_kernel(folder), _Watch(wait, timeout, on_status), patience or Patience()
    kaggle = connect(patience)
    _require_owner(kaggle, metadata)

    def create(_exists: bool) -> tuple[str, int]:
        url, version, unknown = kaggle.save_kernel(metadata.folder)
        if unknown:
            lacking = "; ".join(f"{kind}: {shown(names)}" for kind, names in unknown.items())
            raise RemoteError(
                f"Kaggle saved {metadata.ref} as version {version} without sources that it does not know or that you may not "
                f"use ({lacking}). Correct kernel-metadata.json, or join the competition, and push again."
            )
        return url, version

    address = f"https://www.kaggle.com/code/{metadata.ref}"
    manifest = metadata.fingerprint(*inputs)
    upload = _Upload("kernel", metadata, manifest, address, lambda: kaggle.kernel_version(metadata.ref), create)
    return _await_kernel(kaggle, _carry_out(upload, patience, force=force), watch)


@dataclass(frozen=True)
class _Upload:
    """Something that is to be made at Kaggle once.

    Attributes:
        mark: a number at Kaggle that grows when it was made; 0 when there is nothing of the name.
        create: makes it, given whether there is something of the name; returns address and version, "" and 0 if not told.
    """

    kind: str
    metadata: Metadata
    manifest: str
    address: str
    mark: Callable[[], int]
    create: Callable[[bool], tuple[str, int]]

    def result(self, version: int, *, uploaded: bool, url: str = "") -> PushResult:
        return PushResult(self.kind, self.metadata.ref, version, url or self.address, "", uploaded)


def _carry_out(upload: _Upload, patience: Patience, *, force: bool) -> PushResult:
    """Make it unless it was made; when an answer is lost, look for it before trying again.

    The record is written before and after, so that a call that was killed in between does not lead to a second upload either.
    """
    record = {} if force else _read_record(upload)
    if record.get("state") == "pushed":
        return upload.result(int(record["version"]), uploaded=False, url=str(record["url"]))
    now = upload.mark()
    before = int(record["version"]) - 1 if record else now
    if now <= before:
        _write_record(upload, upload.result(before + 1, uploaded=True), state="pushing")
        try:
            url, version = patience.once(
                lambda: upload.create(before > 0), lambda: ("", 0) if upload.mark() > before else None, what=upload.metadata.ref
            )
        except RemoteError as error:
            if not error.maybe_done:  # refused: the next call begins anew
                (upload.metadata.folder / RECORD).unlink(missing_ok=True)
            raise
        result = upload.result(version or before + 1, uploaded=True, url=url)
    else:
        log.info("%s arrived at Kaggle before the last call ended; it is not uploaded again", upload.metadata.ref)
        result = upload.result(now, uploaded=False)
    _write_record(upload, result, state="pushed")
    return result


def _require_owner(kaggle: Kaggle, metadata: Metadata) -> None:
    if metadata.owner.lower() != kaggle.username.lower():
        raise ConfigError(
            f"{metadata.folder}: id belongs to {metadata.owner!r}, and the credentials are those of {kaggle.username!r}. "
            f"Build it again for {kaggle.username!r}."
        )


def _dataset_mark(kaggle: Kaggle, ref: str) -> int:
    """The current version, and one more while Kaggle works on the next."""
    status = kaggle.dataset_status(ref)
    if status is None:
        return 0
    return max(kaggle.dataset_versions(ref)[0], 1) + (status not in (_READY, *_DATASET_FAILED))


def _await_dataset(kaggle: Kaggle, result: PushResult, watch: _Watch) -> PushResult:
    """Wait until the dataset can be mounted: Kaggle says "ready" of the old version, too, so the number must have moved."""
    for _ in kaggle.patience.rounds(watch.timeout if watch.wait else 0.0):
        status = kaggle.dataset_status(result.ref) or "not there yet"
        result = watch.tell(replace(result, status=status))
        if status in _DATASET_FAILED:
            raise RemoteError(f"Kaggle could not process the dataset {result.ref}: {status}. Look at {result.url}.")
        number = kaggle.dataset_versions(result.ref)[0] if status == _READY else 0
        if status == _READY and (number >= result.version or not number):
            return result
    if watch.wait:
        raise RemoteError(
            f"the dataset {result.ref} is not ready after {watch.timeout:.0f} s (status {result.status!r}). "
            "Run the same command again to wait on; nothing is uploaded again."
        )
    return result


def _await_kernel(kaggle: Kaggle, result: PushResult, watch: _Watch) -> PushResult:
    for _ in kaggle.patience.rounds(watch.timeout if watch.wait else 0.0):
        status, failure = kaggle.kernel_status(result.ref)
        result = watch.tell(replace(result, status=status, failure=failure))
        if status in _RUN_ENDED:
            return result
    if watch.wait:
        log.warning(
            "%s is still %s after %.0f s; run the same command again to watch on", result.ref, result.status, watch.timeout
        )
    return result


def _read_record(upload: _Upload) -> dict[str, Any]:
    """The record of the last push, if it was of this very content."""
    path = upload.metadata.folder / RECORD
    if not path.exists():
        return {}
    try:
        record = files.read_json(path, made_by="kk kernel push")
    except DataError:
        return {}
    same = record.get("id") == upload.metadata.ref and record.get("manifest") == upload.manifest
    return record if same and isinstance(record.get("version"), int) and {"state", "url"} <= record.keys() else {}


def _write_record(upload: _Upload, result: PushResult, *, state: str) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    content = {
        "id": result.ref,
        "manifest": upload.manifest,
        "state": state,
        "version": result.version,
        "url": result.url,
        "date": now,
    }
    files.write_json(upload.metadata.folder / RECORD, content)
