"""The official ``kaggle`` client in this package's terms: plain values go in and out, and every failure is a RemoteError.

Only :func:`kaggle_kit.kaggle_api.session.connect` imports this module, for importing ``kaggle`` has effects of its own.
"""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import requests
from kaggle.api.kaggle_api_extended import KaggleApi
from kaggle.models.kaggle_models_extended import ResumableUploadResult
from kagglesdk.competitions.types import competition_api_service as competitions
from kagglesdk.datasets.types import dataset_api_service as datasets
from kagglesdk.kernels.types import kernels_api_service as kernels

from kaggle_kit.errors import RemoteError, StorageError
from kaggle_kit.kaggle_api.archive import RESERVE
from kaggle_kit.kaggle_api.patience import Patience
from kaggle_kit.kaggle_api.transport import mount, time_limits, translate

log = logging.getLogger(__name__)

PUSH_RECORD = ".kk-push.json"
_SECRETS = ("key", "token")


@dataclass(frozen=True)
class RemoteArchive:
    """All files of a competition as Kaggle offers them.

    Attributes:
        name: the file's name at Kaggle.
        validator: its ETag, or else its date; empty when Kaggle gave neither.
        path: where it is downloaded to.
    """

    name: str
    size: int
    validator: str
    path: Path


class PatientApi(KaggleApi):
    """The client with time limits and careful retries, and unable to print headers."""

    def __init__(self, patience: Patience) -> None:
        super().__init__()
        self.config_values: dict[str, str] = {}  # else all instances share one dictionary
        self.args = [argument for argument in KaggleApi.args if argument != "--verbose"]  # that prints the Authorization header
        self.patience = patience
        self.archive: RemoteArchive | None = None
        self.is_current: Callable[[RemoteArchive], bool] = lambda _: False

    def build_kaggle_client(self) -> Any:
        client = super().build_kaggle_client()
        http = client.http_client().__enter__()
        mount(http._session, http._endpoint, self.patience)
        return client

    def get_response_processor(self) -> None:
        """Show no hint to upgrade."""

    def with_retry(self, func: Callable[..., Any], *_arguments: Any, **_options: Any) -> Callable[..., Any]:
        """Return ``func`` as it is: the client would repeat calls that create something when the connection breaks."""
        return func

    def download_needed(self, response: requests.Response, outfile: str, quiet: bool = True) -> bool:
        """Note what is offered, and return whether it has to be fetched; the client asks before each download."""
        headers = response.headers
        name = Path(unquote(urlsplit(response.url).path)).name.lstrip(".")
        validator, size = headers.get("ETag") or headers.get("Last-Modified") or "", int(headers.get("Content-Length") or 0)
        self.archive = RemoteArchive(name or Path(outfile).name, size, validator, Path(outfile))
        if self.is_current(self.archive):
            return False
        here = self.archive.path.stat().st_size if self.archive.path.exists() else 0
        free = shutil.disk_usage(Path(outfile).parent).free
        if size - here + RESERVE > free:
            raise StorageError(
                f"{self.archive.path.stem} has {size:,} bytes packed ({here:,} are here), and the disk has {free:,} free. "
                "Free space or choose another folder, then run the same command again."
            )
        return bool(super().download_needed(response, outfile, quiet))

    def _upload_file_or_folder(self, parent_path: str, file_or_folder_name: str, *rest: Any, **options: Any) -> Any:
        if file_or_folder_name == PUSH_RECORD:
            return None
        return super()._upload_file_or_folder(parent_path, file_or_folder_name, *rest, **options)


@dataclass(frozen=True)
class RemoteSubmission:
    """A submission as Kaggle lists it; scores are None while there are none."""

    ref: int
    status: str
    description: str
    file_name: str
    date: str
    public_score: float | None
    private_score: float | None
    error: str


class Kaggle:
    """What the rest of this package needs of Kaggle. Methods raise RemoteError."""

    def __init__(self, api: PatientApi) -> None:
        self.api = api
        self.patience = api.patience

    @property
    def username(self) -> str:
        return str(self.api.config_values.get("username") or "")

    def submissions(self, slug: str) -> list[RemoteSubmission]:
        """The newest hundred submissions to a competition."""
        with self._doing(f"reading the submissions to {slug}", forbidden=_join(slug)):
            found = self.api.competition_submissions(slug, page_size=100)
        return [_submission(entry) for entry in found or [] if entry is not None]

    def submissions_left(self, slug: str) -> int | None:
        """How many submissions are allowed for the rest of the day; None where the client or Kaggle does not say."""
        request_type = getattr(competitions, "ApiGetSubmissionLimitsRequest", None)
        if request_type is None:  # clients before 2.1
            return None
        request = request_type()
        request.competition_name = slug
        try:
            with self._doing(f"reading the limits of {slug}"), self.api.build_kaggle_client() as client:
                limits = client.competitions.competition_api_client.get_submission_limits(request)
        except RemoteError:
            return None  # a courtesy only: the submission itself will be refused with Kaggle's own words
        counted = limits.num_today + limits.num_total + limits.num_allowed_now
        return int(limits.num_allowed_now) if counted else None  # all zero: not on a team yet

    def upload_submission(self, slug: str, path: Path) -> str:
        """Upload a file and return the token by which :meth:`create_submission` hands it in."""
        request = competitions.ApiStartSubmissionUploadRequest()
        request.competition_name, request.file_name = slug, path.name
        request.content_length, request.last_modified_epoch_seconds = path.stat().st_size, int(path.stat().st_mtime)
        with self._doing(f"uploading {path.name} to {slug}", forbidden=_join(slug)):
            with self.api.build_kaggle_client() as client:
                begun = client.competitions.competition_api_client.start_submission_upload(request)
            for attempt in range(self.patience.attempts):
                result = self.api.upload_complete(str(path), begun.create_url, True, resume=attempt > 0)
                if result == ResumableUploadResult.COMPLETE:
                    return str(begun.token)
                self.patience.sleep(self.patience.pause(attempt + 1))
        raise RemoteError(
            f"uploading {path.name}: the transfer broke off each time. Nothing was handed in; run the command again."
        )

    def create_submission(self, slug: str, token: str, description: str) -> int | None:
        """Hand an uploaded file in; returns its reference, or None when the answer does not hold one."""
        request = competitions.ApiCreateSubmissionRequest()
        request.competition_name, request.blob_file_tokens, request.submission_description = slug, token, description
        with self._doing(f"submitting to {slug}", forbidden=_join(slug)), self.api.build_kaggle_client() as client:
            response = client.competitions.competition_api_client.create_submission(request)
        return int(getattr(response, "ref", 0) or 0) or None

    def download(
        self, slug: str, folder: Path, *, is_current: Callable[[RemoteArchive], bool], show_bar: bool
    ) -> RemoteArchive | None:
        """Bring all files of a competition into ``folder`` as one archive; the client goes on where it was cut off.

        Args:
            is_current: whether what Kaggle offers is here already, so that None is returned.
            show_bar: show the client's own bar on standard error.
        """
        self.api.archive, self.api.is_current = None, is_current
        with self._doing(f"downloading {slug}", forbidden=_join(slug)):
            self.api.competition_download_files(slug, path=str(folder), quiet=not show_bar)
        archive = self.api.archive
        return None if archive is None or is_current(archive) else archive

    def dataset_status(self, ref: str) -> str | None:
        """ "ready", "failed" or a stage in between; None when there is no such dataset."""
        with self._doing(f"asking for the dataset {ref}"):
            status = _unless_absent(lambda: self.api.dataset_status(ref))
        return None if status is None else str(status).lower()

    def dataset_versions(self, ref: str) -> tuple[int, dict[int, str]]:
        """The current version's number, 0 when there is none or Kaggle does not say; and number -> notes of those listed."""
        request = datasets.ApiGetDatasetRequest()
        request.owner_slug, request.dataset_slug = ref.split("/")
        with self._doing(f"asking for the dataset {ref}"), self.api.build_kaggle_client() as client:
            found = _unless_absent(lambda: client.datasets.dataset_api_client.get_dataset(request))
        if found is None:
            return 0, {}
        notes = {int(version.version_number or 0): version.version_notes or "" for version in found.versions or []}
        return int(found.current_version_number or 0), notes

    def create_dataset(self, folder: Path) -> str:
        """Upload a folder as a new private dataset, sub-folders as archives that Kaggle unpacks; returns its address."""
        with self._doing(f"creating the dataset in {folder}"):
            answer = self.api.dataset_create_new(str(folder.resolve()), public=False, quiet=True, dir_mode="zip")
        return _dataset_answer(answer)

    def create_dataset_version(self, folder: Path, notes: str) -> str:
        """Upload a folder as a new version of its dataset; returns its address."""
        with self._doing(f"updating the dataset in {folder}"):
            answer = self.api.dataset_create_version(str(folder.resolve()), notes, quiet=True, dir_mode="zip")
        return _dataset_answer(answer)

    def kernel_version(self, ref: str) -> int:
        """The number of the current version of a notebook; 0 when there is none."""
        request = kernels.ApiGetKernelRequest()
        request.user_name, request.kernel_slug = ref.split("/")
        with self._doing(f"asking for the notebook {ref}"), self.api.build_kaggle_client() as client:
            found = _unless_absent(lambda: client.kernels.kernels_api_client.get_kernel(request))
        return 0 if found is None else int(found.metadata.current_version_number or 0)

    def save_kernel(self, folder: Path) -> tuple[str, int, dict[str, list[str]]]:
        """Save and run the notebook of a folder; returns address, version and the sources that Kaggle does not know."""
        with self._doing(f"pushing the notebook in {folder}"):
            answer = self.api.kernels_push(str(folder.resolve()))
        if answer.error:
            raise RemoteError(f"Kaggle did not take the notebook in {folder}: {answer.error}")
        kinds = ("dataset", "competition", "kernel", "model")
        unknown = {kind: list(getattr(answer, f"invalid_{kind}_sources", None) or []) for kind in kinds}
        return str(answer.url or ""), int(answer.version_number or 0), {kind: names for kind, names in unknown.items() if names}

    def kernel_status(self, ref: str) -> tuple[str, str]:
        """The state of a notebook's last run ("queued", "running", "complete", "error" …) and its failure message."""
        with self._doing(f"asking how the notebook {ref} gets on"):
            answer = self.api.kernels_status(ref)
        return str(getattr(answer.status, "name", answer.status)).lower(), str(answer.failure_message or "")

    @contextlib.contextmanager
    def _doing(self, what: str, *, forbidden: str = "") -> Iterator[None]:
        """Turn whatever the client raises into a RemoteError without secrets in it, and what it prints into a log."""
        printed = io.StringIO()
        try:
            with time_limits(self.patience), contextlib.redirect_stdout(printed):
                yield
        except RemoteError as error:
            raise RemoteError(self.scrub(str(error)), status=error.status, maybe_done=error.maybe_done) from None
        except requests.exceptions.RequestException as error:
            failure = translate(error, what, forbidden=forbidden)
            raise RemoteError(self.scrub(str(failure)), status=failure.status, maybe_done=failure.maybe_done) from None
        except (ValueError, KeyError, TypeError) as error:  # the client's words for answers and metadata that it does not like
            raise RemoteError(f"{what}: {self.scrub(str(error))}") from None
        finally:
            for line in printed.getvalue().splitlines():
                log.debug("kaggle: %s", self.scrub(line))

    def scrub(self, text: str) -> str:
        """``text`` with the credentials blotted out, should a server or proxy have echoed them."""
        for name in _SECRETS:
            secret = str(self.api.config_values.get(name) or "")
            if secret:
                text = text.replace(secret, "***")
        return text


def _submission(entry: Any) -> RemoteSubmission:
    return RemoteSubmission(
        ref=int(entry.ref or 0),
        status=str(getattr(entry.status, "name", entry.status)).lower(),
        description=entry.description or "",
        file_name=entry.file_name or "",
        date=entry.date.isoformat(timespec="seconds") if entry.date else "",
        public_score=_score(entry.public_score),
        private_score=_score(entry.private_score),
        error=entry.error_description or "",
    )


def _score(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _unless_absent(ask: Callable[[], Any]) -> Any:
    """The answer, or None for 404 and for the 403 that Kaggle gives for what does not exist."""
    try:
        return ask()
    except requests.exceptions.HTTPError as error:
        if error.response is not None and error.response.status_code in (403, 404):
            return None
        raise


def _dataset_answer(answer: Any) -> str:
    if str(answer.status or "").lower() == "error" or answer.error:
        raise RemoteError(f"Kaggle did not take the dataset: {answer.error or 'no reason given'}")
    return str(answer.url or "")


def _join(slug: str) -> str:
    return (
        f"you have not joined this competition. Accept its rules at https://www.kaggle.com/competitions/{slug}/rules "
        "(Kaggle may want your phone verified, too), then run the command again."
    )
