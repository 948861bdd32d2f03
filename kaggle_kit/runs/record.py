"""``run.json`` and ``fold.json`` as values: what they hold, and the one reader and the one writer of each.

Records carry the version of their form. Those that kaggle_kit 0.1.0 wrote carry none and are read as version 1, which differs
in that facts may be missing. Entries that are not known here are ignored.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, TypeAdapter, ValidationError

from kaggle_kit import files
from kaggle_kit.config import RunConfig, build_run_config
from kaggle_kit.errors import DataError, KaggleKitError, MissingFileError
from kaggle_kit.runs.history import EpochRow
from kaggle_kit.stop import StopRequested
from kaggle_kit.tables import Classes, shown

RUN_RECORD, FOLD_RECORD = "run.json", "fold.json"
VERSION = 2
_LONGEST = 50_000_000  # bytes; a run of 100,000 classes has a tenth of it

State = Literal["empty", "running", "stopped", "failed", "finished"]
R = TypeVar("R", "RunRecord", "FoldRecord")


def _config(value: Any) -> RunConfig:
    if not isinstance(value, Mapping):
        raise ValueError("expected a table")
    return build_run_config(value, source="the configuration of a run")


def number_or_nan(value: Any) -> Any:
    """Return NaN for null: JSON has none, so that a number that is not defined is written as that."""
    return math.nan if value is None else value


@dataclass(frozen=True)
class RunRecord:
    """The content of ``run.json``: what a run is.

    Attributes:
        classes: in the order of the columns of its predictions.
        folds: name of the fold table.
        n_splits: its folds, over all repeats.
        config: all that the run was trained with.
        created: UTC, ISO 8601.
        review: fingerprint of the review of labels that it is trained with; None: with the labels as given.
        snapshot_of: the run whose cycle its models are from; None: it is trained by itself.
    """

    task: str
    metric: str
    classes: tuple[str, ...]
    folds_fingerprint: str
    n_splits: int
    config: Annotated[RunConfig, BeforeValidator(_config)]
    name: str = ""
    competition: str = ""
    competition_fingerprint: str | None = None
    classes_fingerprint: str | None = None
    folds: str = "folds"
    config_fingerprint: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    created: str | None = None
    review: str | None = None
    snapshot_of: str | None = None
    version: int = 1

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, without those that are unknown."""
        return _plain({**_shallow(self), "classes": list(self.classes), "config": self.config.model_dump(mode="json")})


@dataclass(frozen=True)
class FoldRecord:
    """The content of ``fold.json``: how far a fold is, and how well it does.

    Every finished fold, however it was trained, records all but ``reason`` and what only a probe has.

    Attributes:
        state: "empty" where training has not begun.
        inputs_fingerprint: of all that the fold depends on.
        seconds: spent on it, earlier attempts included.
        epoch: the last one that was validated; of a finished fold, the one whose weights are kept.
        score: the metric on the validation rows at that epoch, or on the out-of-fold rows; NaN where it is not defined.
        epochs: those that were trained; 1 for a probe.
        image_size: height and width that the model was trained at.
        left_out: ids of images that could not be read.
        contents: fingerprint of what the training images hold; None where it was not taken.
        weights: which pretrained weights it began with, in words.
        average: which epochs' weights the kept ones are the mean of, in words; None: they are of one epoch.
        fitted: whether that was chosen by the very rows that the fold is validated on, so that its score flatters.
        reason: why it was stopped or has failed.
        strength, strengths_tried: of a probe's regularisation.
        several: how predictions of an id's several images become one, mean or max; None where each has one image.
        updated: when the record was written; UTC, ISO 8601.
    """

    fold: int = -1
    state: State = "empty"
    inputs_fingerprint: str | None = None
    seconds: float = 0.0
    epoch: int | None = None
    metric: str | None = None
    score: Annotated[float, BeforeValidator(number_or_nan)] = math.nan
    model_fingerprint: str | None = None
    model: str | None = None
    parameters: int | None = None
    epochs: int | None = None
    image_size: tuple[int, int] | None = None
    images_per_second: float | None = None
    n_train: int | None = None
    n_valid: int | None = None
    left_out: tuple[str, ...] = ()
    device: str | None = None
    precision: str | None = None
    weights: str | None = None
    contents: str | None = None
    average: str | None = None
    fitted: bool | None = None
    reason: str | None = None
    several: str | None = None
    strength: float | None = None
    strengths_tried: list[dict[str, Annotated[float, BeforeValidator(number_or_nan)]]] | None = None
    versions: dict[str, str] = field(default_factory=dict)
    updated: str | None = None
    version: int = 1

    @property
    def finished(self) -> bool:
        """Whether the fold is done."""
        return self.state == "finished"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, without those that are unknown; a score that is not defined is null."""
        score = None if math.isnan(self.score) else self.score
        tried: Any = self.strengths_tried and [
            {key: None if math.isnan(value) else value for key, value in one.items()} for one in self.strengths_tried
        ]
        return {**_plain({**asdict(self), "strengths_tried": tried}), "left_out": list(self.left_out), "score": score}


def read_run_record(folder: Path) -> RunRecord:
    """Read the record of the run in ``folder``.

    Raises:
        MissingFileError: there is none.
        DataError: it cannot be used; names the file, what was expected and what to do.
    """
    path = folder / RUN_RECORD
    record = _read(RunRecord, path)
    try:
        Classes(record.classes)
    except KaggleKitError as error:
        raise DataError(f"{path}: {error} {_again(path)}") from error
    if record.n_splits < 1:
        raise DataError(f"{path}: n_splits must be at least 1, found {record.n_splits}. {_again(path)}")
    return record if record.name else replace(record, name=folder.name)


def read_fold_record(folder: Path, fold: int) -> FoldRecord:
    """Read the record of the fold in ``folder``; where there is none, the fold is empty. Raises DataError."""
    try:
        return replace(_read(FoldRecord, folder / FOLD_RECORD), fold=fold)
    except MissingFileError:
        return FoldRecord(fold)


def fold_record_from(values: Mapping[str, Any]) -> FoldRecord:
    """Return the record that :meth:`FoldRecord.to_dict` gave, as it passes between processes."""
    record: FoldRecord = _reader(FoldRecord).validate_python(values)
    return record


def write_run_record(folder: Path, record: RunRecord) -> None:
    """Write ``run.json``."""
    files.write_json(folder / RUN_RECORD, {**record.to_dict(), "version": VERSION})


def write_fold_record(folder: Path, record: FoldRecord) -> None:
    """Write ``fold.json``."""
    updated = datetime.now(UTC).isoformat(timespec="seconds")
    files.write_json(folder / FOLD_RECORD, {**record.to_dict(), "updated": updated, "version": VERSION})


@cache
def _reader(kind: Any) -> TypeAdapter[Any]:
    """Return what reads records of a kind; made once, which takes longer than to read one."""
    return TypeAdapter(kind)


def _read(kind: type[R], path: Path) -> R:
    try:
        if not path.is_file() and path.exists():
            raise OSError("it is no regular file")
        if path.stat().st_size > _LONGEST:
            raise OSError(f"it has more than {_LONGEST:,} bytes")
        reader = _reader(kind)  # type: ignore[arg-type]  # mypy asks whether records can be hashed, not their class
        record: R = reader.validate_json(path.read_bytes(), strict=True)
    except FileNotFoundError:
        raise MissingFileError(f"{path} does not exist. Run `kk train` first.") from None
    except ValidationError as error:
        raise DataError(f"{path}: {explain(error)}. {_again(path)}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}). {_again(path)}") from error
    if record.version > VERSION:
        raise DataError(f"{path} has version {record.version}; this kaggle_kit reads up to {VERSION}. Install a newer one.")
    return record


def explain(error: ValidationError) -> str:
    """Say what a record lacks, or what else is wrong with it first."""
    problems = error.errors(include_url=False)
    lacking = [str(problem["loc"][0]) for problem in problems if problem["type"] == "missing" and len(problem["loc"]) == 1]
    if lacking:
        return f"it lacks {shown(lacking)}"
    problem = problems[0]
    place = ".".join(map(str, problem["loc"]))
    message = problem["msg"].removeprefix("Value error, ")
    if not place or problem["type"] == "json_invalid":
        return f"it is no record of kaggle_kit ({message})"
    found = repr(problem["input"])
    return f"{place}: {message}, found {found if len(found) < 80 else found[:77] + '...'}"


def _again(path: Path) -> str:
    if path.name == RUN_RECORD:
        return "Train the run again, with --restart."
    return f"Delete {path.parent} and run `kk train` again."


def _shallow(record: RunRecord) -> dict[str, Any]:
    return {entry.name: getattr(record, entry.name) for entry in fields(record)}


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


class FoldRecorder:
    """Keeps ``fold.json`` while a fold is trained: running, stopped, failed or finished, how far and how well.

    Args:
        contents: fingerprint of what the training images hold; None where it was not taken.
        inputs: fingerprint of all that the fold depends on. The time of an earlier, unfinished attempt with the same one is
            counted on.
        writes: False in all processes but the first.
    """

    def __init__(self, folder: Path, fold: int, inputs: str, *, contents: str | None = None, writes: bool = True) -> None:
        self._folder = folder
        self.writes = writes
        self._started = time.monotonic()
        before = read_fold_record(folder, fold)
        self._before = before.seconds if before.inputs_fingerprint == inputs else 0.0
        self.record = FoldRecord(fold, "running", inputs, contents=contents)

    def update(self, **values: Any) -> None:
        """Change entries and write the file."""
        self.record = replace(self.record, **values, seconds=round(self._before + time.monotonic() - self._started, 3))
        if self.writes:
            write_fold_record(self._folder, self.record)

    @property
    def text(self) -> str:
        """Metric and score in words."""
        return f"{self.record.metric} {self.record.score:.4f}"

    def take(self, row: EpochRow) -> None:
        """Note a validated epoch."""
        self.update(epoch=row.epoch, score=row.score)

    @contextlib.contextmanager
    def follow(self) -> Iterator[FoldRecorder]:
        """Write that the fold is running, and how it ended if it does not finish."""
        self.update()
        try:
            yield self
        except StopRequested as stop:
            self.update(state="stopped", reason=str(stop))
            raise
        except KaggleKitError as error:
            with contextlib.suppress(KaggleKitError):  # a full disk must not hide itself behind this file
                self.update(state="failed", reason=str(error))
            raise
