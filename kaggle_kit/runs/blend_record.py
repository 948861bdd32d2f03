"""``submissions/<name>.json`` as a value: how a submission was made and what Kaggle said of it; its one reader and one writer.

Records carry the version of their form. Those that kaggle_kit 0.1.0 wrote carry none and are read as version 1, in which facts
may be missing. What is not known here is kept when a record is written again.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, TypeAdapter, ValidationError

from kaggle_kit import files
from kaggle_kit.errors import DataError, MissingFileError
from kaggle_kit.runs.record import explain, number_or_nan
from kaggle_kit.tables import shown

VERSION = 2
_ALWAYS = ("thresholds", "control")
"""Entries that are written although there are none, since that says something."""

Score = Annotated[float, BeforeValidator(number_or_nan)]


@dataclass(frozen=True)
class BlendedRun:
    """What a record says of one run.

    Attributes:
        weight: its share of the blend; None for methods that have no such thing.
        score: of its out-of-fold rows; NaN where it is not defined.
        folds: those that took part; None where the record does not say.
        views, oof_views: of its test and out-of-fold rows.
        models: fold -> sha256 of its model, None where nobody knows.
    """

    name: str
    weight: float | None = None
    score: Score = math.nan
    folds: tuple[int, ...] | None = None
    n_splits: int | None = None
    views: str | None = None
    oof_views: str | None = None
    folds_fingerprint: str | None = None
    config_fingerprint: str | None = None
    models: dict[int, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class BlendScores:
    """Scores of the blend on ``n`` out-of-fold rows: where its weights were fitted on them, and where they were not."""

    metric: str
    in_sample: Score = math.nan
    cross_fitted: Score = math.nan
    n: int = 0


@dataclass(frozen=True)
class ControlFile:
    """The control submission beside it: its rows and the sha256 of its bytes."""

    n: int
    sha256: str


def _named(entries: Any) -> Any:
    """A run of which nothing but the name is known may stand there as that."""
    return [{"name": entry} if isinstance(entry, str) else entry for entry in entries] if isinstance(entries, list) else entries


@dataclass(frozen=True)
class BlendRecord:
    """The content of ``submissions/<name>.json``. What is None is not known, as of files that were made elsewhere.

    Attributes:
        form: of the submission, as kk.yaml stated it then.
        folds: name of the fold table.
        method, blend: an entry of BLENDERS, and what it learnt, from which the same blend is made again.
        thresholds: tuned ones of a multi-label blend, one a class.
        views: of all test rows, or "mixed".
        notes: what a reader should know.
        sha256: of the submission's bytes.
        tables: suffix of a prediction file beside it -> sha256 of its bytes.
        kaggle: what Kaggle said of it; ``kaggle_earlier`` of other bytes that were sent under the same name.
        build: of the kernel that wrote it.
        others: entries that are not known here.
    """

    name: str = ""
    competition: str | None = None
    competition_fingerprint: str | None = None
    test_fingerprint: str | None = None
    task: str | None = None
    form: dict[str, Any] = field(default_factory=dict)
    folds: str | None = None
    folds_fingerprint: str | None = None
    runs: Annotated[tuple[BlendedRun, ...], BeforeValidator(_named)] = ()
    method: str | None = None
    blend: dict[str, Any] = field(default_factory=dict)
    thresholds: tuple[float, ...] | None = None
    scores: BlendScores | None = None
    views: str | None = None
    seed: int | None = None
    notes: tuple[str, ...] = ()
    classes: tuple[str, ...] | None = None
    classes_fingerprint: str | None = None
    n_test: int | None = None
    sha256: str | None = None
    control: ControlFile | None = None
    tables: dict[str, str] = field(default_factory=dict)
    kaggle: dict[str, Any] = field(default_factory=dict)
    kaggle_earlier: tuple[dict[str, Any], ...] = ()
    build: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    created: str | None = None
    version: int = 1
    others: dict[str, Any] = field(default_factory=dict)

    def of_run(self, name: str) -> BlendedRun:
        """Return what is said of a run, as little as that may be."""
        return next((run for run in self.runs if run.name == name), BlendedRun(name))

    @property
    def sent(self) -> str:
        """Say in a few words when it was sent to Kaggle and what it scored; empty when it was not."""
        if not self.kaggle:
            return ""
        score = self.kaggle.get("public_score")
        return f"{self.kaggle.get('date') or 'date unknown'}, " + ("no score yet" if score is None else f"public score {score}")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, without those that are unknown; a score that is not defined is null."""
        values = {key: value for key, value in _plain(asdict(self)).items() if key != "others"}
        return {**self.others, **{key: value for key, value in values.items() if key in _ALWAYS or value not in (None, {}, [])}}


def blend_record_path(submission: Path) -> Path:
    """Return where the record of a submission lies."""
    return submission.with_suffix(".json")


def read_blend_record(submission: Path) -> BlendRecord:
    """Read the record beside a submission.

    Raises:
        MissingFileError: there is none.
        DataError: it cannot be used; names the file, what was expected and what to do.
    """
    path = blend_record_path(submission)
    content = files.read_json(path, made_by="kk blend")
    known = {entry.name for entry in fields(BlendRecord)} - {"others"}
    try:
        values = {key: value for key, value in content.items() if key in known}
        record: BlendRecord = TypeAdapter(BlendRecord).validate_python(values)
    except ValidationError as error:
        raise DataError(f"{path}: {explain(error)}. Run `kk blend` again.") from error
    if record.version > VERSION:
        raise DataError(f"{path} has version {record.version}; this kaggle_kit reads up to {VERSION}. Install a newer one.")
    others = {key: value for key, value in content.items() if key not in known}
    return BlendRecord(**{**vars(record), "others": others})


def write_blend_record(submission: Path, record: BlendRecord) -> None:
    """Write the record beside a submission."""
    files.write_json(blend_record_path(submission), {**record.to_dict(), "version": VERSION})


def blend_records(folder: Path) -> Iterator[tuple[Path, BlendRecord]]:
    """Yield each submission in ``folder`` that has a sound record, and the record; the submission itself may be gone."""
    for path in sorted(folder.glob("[!.]*.json")):
        if path.suffixes[-2:] == [".check", ".json"]:
            continue
        with contextlib.suppress(DataError, MissingFileError):
            yield path.with_suffix(".csv"), read_blend_record(path)


def of_runs(record: BlendRecord) -> str:
    """Return the names of the runs, for messages."""
    return shown(run.name for run in record.runs)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and math.isnan(value) else value
