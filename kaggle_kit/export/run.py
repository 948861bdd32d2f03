"""One folder with all that it takes to use a run or a blend elsewhere, written once its models say what ``kk predict`` says."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kaggle_kit import files
from kaggle_kit.choices import EXPORTS
from kaggle_kit.competition import Setup
from kaggle_kit.errors import DependencyError, ExportError
from kaggle_kit.export.card import write_card
from kaggle_kit.export.formats import Format, write_graph
from kaggle_kit.export.graph import FusedModels
from kaggle_kit.export.members import Member, find_members
from kaggle_kit.images.loaders import eval_batches
from kaggle_kit.inference.control import sample_control
from kaggle_kit.inference.predict import Compute, Probs, Rows, predict_rows
from kaggle_kit.metrics import predicted_labels
from kaggle_kit.report.subjects import Subject
from kaggle_kit.results import Result, plain
from kaggle_kit.runs import Run
from kaggle_kit.tables import read_folds, shown

RECORD, CLASSES, HOW, CARD, SUMS, SCRIPT = (
    *("export.json", "classes.json", "preprocessing.json"),
    *("README.md", "SHA256SUMS", "predict.py"),
)
TOLERANCE = 1e-4
"""The furthest that a probability of an export may be from that of ``kk predict``."""
_CONTROL, _BATCH = 32, 9  # of 32 rows the last batch then has another length
_REPLACED = {"mark": RECORD, "what": "export that was written before", "option": "--to"}
_NEEDS = {"onnx": (("onnx", "onnxruntime"), "export"), "openvino": (("openvino",), "cpu")}
"""Format -> packages that it cannot do without, and the extra that installs them."""


@dataclass(frozen=True)
class ExportOptions:
    """What is written, and where.

    Attributes:
        to: the folder.
        format: an entry of EXPORTS.
        inside: whether the models normalise their images.
        teacher: the run that the exported one learnt from, of which the model of all data alone is written then.
    """

    to: Path
    format: str = "onnx"
    inside: bool = True
    teacher: str | None = None


@dataclass(frozen=True)
class Agreement:
    """How near an export is to ``kk predict`` on ``rows`` training images.

    Attributes:
        furthest: the largest difference of a probability, by the same pixels.
        script_furthest: the same for ``predict.py``, which reads and resizes files by itself; None where there is none.
        script_same: of how many rows it names the same class.
    """

    rows: int
    furthest: float
    script_furthest: float | None = None
    script_same: int | None = None


@dataclass(frozen=True)
class Distilled:
    """What one model learnt from, and how well both do out of fold, on the same rows.

    Attributes:
        teacher: the run.
        models: of it, whose mean the one model stands for.
        licence: of the pretrained weights that those began with.
        fold_scores: fold -> score of the folds of the new run and of the teacher.
    """

    teacher: str
    models: int
    licence: str
    metric: str
    score: float
    teacher_score: float
    fold_scores: Mapping[int, tuple[float, float]]

    @property
    def text(self) -> str:
        """Both scores in words."""
        return (
            f"{self.metric} {self.score:.4f} out of fold by one model; "
            f"{self.teacher_score:.4f} by the {self.models} models of run {self.teacher} that it learnt from"
        )


@dataclass(frozen=True, repr=False)
class ExportResult(Result):
    """What was written.

    Attributes:
        path: the folder.
        name: of the run or blend.
        models: a row a model file: file, MB, run, model, folds, weight, licence.
        agreement: with ``kk predict``.
        notes: what a reader should know.
        distilled: where the one model learnt from those of another run; else None.
    """

    path: Path
    name: str
    format: str
    models: pd.DataFrame
    agreement: Agreement
    notes: tuple[str, ...] = ()
    distilled: Distilled | None = None

    def table(self) -> pd.DataFrame:
        """Return a row a model file."""
        return self.models

    def describe(self) -> str:
        """Return where it is, and how near it is to ``kk predict``."""
        said = self.agreement
        lines = [
            f"wrote {self.path}",
            f"{said.rows} control images: probabilities within {said.furthest:.1g} of kk predict's by the same pixels",
        ]
        if said.script_furthest is not None:
            lines.append(
                f"predict.py, which reads and resizes by itself: within {said.script_furthest:.1g}, "
                f"the same class for {said.script_same} of {said.rows}"
            )
        if self.distilled is not None:
            lines.append(self.distilled.text)
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def export_models(setup: Setup, name: str | None, options: ExportOptions) -> ExportResult:
    """Write the models of a run or a blend to ``options.to``.

    Folds of a run are fused into one graph, the mean of their probabilities; of a blend, each run is a file with its weight.

    Raises:
        MissingFileError, DataError: there is no such run or blend, or its models have changed.
        ConfigError: the blend is no weighted mean, or the folder holds something else.
        DependencyError: the format needs a package.
        ExportError: the models cannot be written in the format, or say something else there; nothing is left behind.
    """
    require_writable(options)
    found, form = find_members(setup, name, full=options.teacher is not None), EXPORTS[options.format]
    single = len(found.members) == 1
    parts = {f"model{'' if single else f'-{number}'}{form.suffix}": one for number, one in enumerate(found.members, 1)}
    rows = _control_rows(setup, found.members[0].run)
    expected = _expected(found.members, rows)  # before a tracer has looked at the models
    with files.whole_folder(options.to, **_REPLACED) as folder:
        facts = _facts(setup, found.thresholds)
        graphs = {file: FusedModels(member.models, inside=options.inside) for file, member in parts.items()}
        for file, graph in graphs.items():
            write_graph(form, graph, folder / file, {key: json.dumps(value) for key, value in facts.items()})
        agreement = _verify(folder, parts, graphs, form, rows, expected)
        table = _table(folder, parts)
        files.write_json(folder / CLASSES, facts)
        files.write_json(folder / HOW, {"models": [_how(file, one, inside=options.inside) for file, one in parts.items()]})
        if options.format == "onnx" and setup.competition.channels is None:
            agreement = _add_script(folder, rows, expected, agreement)
        distilled = None if options.teacher is None else _distilled(setup, found.subject, options.teacher)
        result = ExportResult(options.to, found.subject.name, options.format, table, agreement, found.notes, distilled)
        files.write_json(folder / RECORD, _record(setup, parts, result))
        write_card(folder / CARD, setup, found.subject, result)
        sums = [f"{files.file_fingerprint(path)}  {path.name}\n" for path in sorted(folder.iterdir())]
        files.write_text(folder / SUMS, "".join(sums))
    return result


def require_writable(options: ExportOptions) -> None:
    """Raise what keeps an export from being written, whatever it holds: a missing package, or a folder with something else."""
    packages, extra = _NEEDS.get(options.format, ((), ""))
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise DependencyError(f"format {options.format} needs {shown(missing)}: pip install 'kaggle-kit[{extra}]'.")
    files.require_replaceable(options.to, **_REPLACED)


def _distilled(setup: Setup, subject: Subject, teacher: str) -> Distilled:
    """Return how a run compares with the run that it learnt from."""
    found = find_members(setup, teacher)
    (member,), before, after = found.members, found.subject.scored, subject.scored
    both = {fold: (after.fold_scores[fold], score) for fold, score in before.fold_scores.items() if fold in after.fold_scores}
    facts = teacher, len(member.run.finished_folds()), member.licence, after.metric.name
    return Distilled(*facts, score=after.score, teacher_score=before.score, fold_scores=both)


def _control_rows(setup: Setup, run: Run) -> Rows:
    """Return training images, spread over classes and folds, that the export is to agree on with ``kk predict``."""
    left_out = {row_id for fold in run.finished_models() for row_id in fold.record.left_out}
    folds = read_folds(setup.workspace.folds_path(run.record.folds))
    chosen = set(sample_control(folds, _CONTROL, left_out=left_out))
    return [(row.id, path) for row in setup.competition.train if row.id in chosen for path in row.paths[:1]]


def _facts(setup: Setup, thresholds: Sequence[float] | None) -> dict[str, Any]:
    """Return what the numbers that come out of the model stand for."""
    classes = setup.competition.classes
    named = {"classes": list(classes), "fingerprint": classes.fingerprint}
    return {**named, "task": setup.competition.task, "thresholds": thresholds}


def _how(file: str, member: Member, *, inside: bool) -> dict[str, Any]:
    """Return how images become the input of a model file, and what its output weighs."""
    spec = member.spec
    return {
        "file": file,
        "weight": member.weight,
        "inside": inside,
        "size": spec.size,
        "prepare": spec.prepare_size,
        "resize": spec.resize_size,
        "fit": spec.fit,
        "crop_pct": spec.crop_pct,
        "interpolation": spec.interpolation,
        "channels": spec.channels,
        "mean": spec.mean,
        "std": spec.std,
        "fill": spec.fill,
    }


def _verify(
    folder: Path, parts: Mapping[str, Member], graphs: Mapping[str, FusedModels], form: Format, rows: Rows, expected: Probs
) -> Agreement:
    """Load the model files afresh and compare what they say of ``rows`` with what is ``expected``, (N, C).

    Raises:
        ExportError: a probability is further away than :data:`TOLERANCE`.
    """
    found = np.zeros(())
    for file, member in parts.items():
        compute = form.read(folder / file)
        batches = eval_batches(rows, member.spec, batch_size=_BATCH, workers=0)
        said = np.concatenate([compute(graphs[file].from_loader(batch.images).numpy()) for batch in batches])
        found = found + member.weight * said
    furthest = float(np.abs(found - expected).max())
    if not furthest <= TOLERANCE:  # NaN is none
        raise ExportError(
            f"the exported model says something else than `kk predict`: on {len(rows)} control images a probability differs "
            f"by {furthest:.2g}, expected at most {TOLERANCE:g}. Nothing was kept; try another --format."
        )
    return Agreement(len(rows), furthest)


def _expected(members: Sequence[Member], rows: Rows) -> Probs:
    """Return what ``kk predict`` says of ``rows``, (N, C)."""
    compute, total = Compute(engine="torch", device="cpu", workers=0), np.zeros(())
    for member in members:
        total = total + member.weight * predict_rows(member.models, rows, compute=compute).mean(axis=0, dtype=np.float64)
    return np.asarray(total, dtype=np.float32)


def _add_script(folder: Path, rows: Rows, expected: Probs, agreement: Agreement) -> Agreement:
    """Write ``predict.py``, and compare what it says of image files."""
    from kaggle_kit.export import standalone

    files.write_bytes(folder / SCRIPT, files.read_bytes(Path(standalone.__file__)))
    predict = standalone.load(folder)
    found = np.stack([predict(path) for _, path in rows])
    same = int(np.equal(*(predicted_labels(said, multilabel=False) for said in (found, expected))).sum())
    return replace(agreement, script_furthest=float(np.abs(found - expected).max()), script_same=same)


def _table(folder: Path, parts: Mapping[str, Member]) -> pd.DataFrame:
    rows = [
        {
            "file": file,
            "MB": _megabytes(folder, file),
            "run": member.run.name,
            "model": member.models[0].name,
            "folds": ", ".join(member.fingerprints),
            "weight": round(member.weight, 4),
            "licence": member.licence,
        }
        for file, member in parts.items()
    ]
    return pd.DataFrame(rows)


def _megabytes(folder: Path, file: str) -> float:
    """Return the size of a model file; OpenVINO's are two."""
    return round(sum(path.stat().st_size for path in folder.glob(f"{Path(file).stem}.*")) / 1e6, 1)


def _record(setup: Setup, parts: Mapping[str, Member], result: ExportResult) -> dict[str, Any]:
    """Return the content of ``export.json``: what was exported, from what, and how it was verified."""
    competition = setup.competition
    return {
        "version": 1,
        "name": result.name,
        "format": result.format,
        "competition": competition.name,
        "competition_fingerprint": competition.fingerprint,
        "classes_fingerprint": competition.classes.fingerprint,
        "models": [{**row, "folds": one.fingerprints} for row, one in zip(plain(result.models), parts.values(), strict=True)],
        "distilled": plain(result.distilled),
        "agreement": {**plain(result.agreement), "tolerance": TOLERANCE},
        "notes": list(result.notes),
        "versions": files.versions(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
