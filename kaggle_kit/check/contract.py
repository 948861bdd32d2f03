"""Do all files along the chain speak of the same classes, folds and competition?

Sample submission -> submission record -> blend -> test and out-of-fold predictions -> checkpoints -> fold table -> kk.yaml.
Each link is compared with kk.yaml or with the link that it was made from; a break names the file, the two lists and what
differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kaggle_kit import files, runs
from kaggle_kit.check.case import Case, Unavailable
from kaggle_kit.check.report import FAILED, INCONCLUSIVE, PASSED, Check
from kaggle_kit.choices import COLUMN_FORMS
from kaggle_kit.errors import KaggleKitError
from kaggle_kit.fold_names import FULL, fold_name, fold_text
from kaggle_kit.machine.ahead import ahead
from kaggle_kit.runs import BlendedRun, BlendRecord, FoldRun, Run
from kaggle_kit.runs.model_header import read_model_record
from kaggle_kit.runs.provenance import require_unseen, seen_by_fold, unknown_start
from kaggle_kit.tables import Classes, Predictions, shown

COMPARED = ("competition", "folds_fingerprint", "run", "fold", "model_fingerprint")
PREDICT_AGAIN = "Run `kk predict` and `kk blend` again."


def check_contract(case: Case) -> Iterator[Check]:
    """Record, kk.yaml against the data, fold table, runs with their checkpoints and predictions."""
    links = {
        "contract: kk.yaml": _config,
        "contract: record": _record,
        "contract: fold table": _folds,
        "contract: runs": _runs,
        "contract: predictions": _predictions,
    }
    for name, link in links.items():
        try:
            yield link(case, name)
        except Unavailable as error:
            yield Check(name, INCONCLUSIVE, str(error))
        except KaggleKitError as error:
            yield Check(name, FAILED, str(error), "Make the file that is named again, with the command that wrote it.")


def _config(case: Case, name: str) -> Check:
    """kk.yaml against the data: every label has a class, and the submission's form names each class once."""
    form, classes = case.config.competition.submission, case.classes
    classes.require_same(case.competition.classes, here="kk.yaml", there="the competition")
    used = {label for row in case.competition.train for label in row.labels}
    unknown = sorted(label for label in used if label not in classes)
    if unknown:
        return Check(name, FAILED, f"labels that are no class of kk.yaml: {shown(unknown)}", "Run `kk init --force`.")
    if form.form == "index":
        if set(form.indices) != set(classes) or len(set(form.indices.values())) != len(classes):
            return Check(name, FAILED, "submission.indices does not give each class an integer of its own", "Correct kk.yaml.")
        other = [
            f"{label!r} -> {number}" for label, number in form.indices.items() if label.isdecimal() and int(label) != number
        ]
        if other and all(label.isdecimal() for label in classes):
            text = f"the classes are integers, yet they would be written as others: {shown(other)}"
            return Check(name, FAILED, text, "Set competition.submission.indices in kk.yaml to the integers themselves.")
    if form.form in COLUMN_FORMS and form.columns and sorted(form.columns.values()) != sorted(classes):
        return Check(name, FAILED, "submission.columns does not map one column to each class", "Correct kk.yaml.")
    if not case.competition.train:  # as in a kernel, which predicts without them
        return Check(name, PASSED, f"{len(classes)} classes, each once in the form wanted; no labelled images are here")
    empty = [label for label in classes if label not in used]
    text = f"{len(classes)} classes, {len(case.competition.train):,} labelled images"
    return Check(name, PASSED, text + (f"; no image is labelled {shown(map(repr, empty))}" if empty else ""))


def _record(case: Case, name: str) -> Check:
    """The submission's record against kk.yaml, the file beside it and the runs that it names."""
    record, where = case.record, runs.blend_record_path(case.path).name
    if record.sha256 not in (None, files.file_fingerprint(case.path)):
        text = f"{case.path.name} is not the file that {where} describes: it was changed or replaced"
        return Check(name, FAILED, text, "Run `kk blend` again.")
    for suffix, sha256 in record.tables.items():
        table = case.path.with_suffix(suffix)
        if table.is_file() and files.file_fingerprint(case.note(table)) != sha256:
            text = f"{table.name} is not the file that {where} describes: it was changed or replaced"
            return Check(name, FAILED, text, "Run `kk blend` again.")
    if record.classes is not None:
        case.classes.require_same(Classes(record.classes), here="kk.yaml", there=where)
    broken = _other_competition(case, record.to_dict())
    if broken:
        return Check(name, FAILED, broken, "The submission was made for other data. " + PREDICT_AGAIN)
    changed = _other_form(case, record)
    if changed:
        return Check(name, FAILED, changed, "Nothing needs to be trained or predicted again: run `kk blend`.")
    for run in case.runs:
        stale = _stale_run(record.of_run(run.name), run)
        if stale:
            return Check(name, FAILED, stale, PREDICT_AGAIN)
    text = f"{record.method or 'blend'} of {shown(run.name for run in case.runs)}, as the runs are now; classes as in kk.yaml"
    return Check(name, PASSED, text)


def _other_competition(case: Case, record: Mapping[str, Any]) -> str:
    """One sentence on a fingerprint that is not the competition's; empty when all are, or when the data are not here."""
    if record.get("classes_fingerprint", case.classes.fingerprint) != case.classes.fingerprint:
        return "the fingerprint of its classes is not that of kk.yaml's"
    try:
        competition = case.competition
    except Unavailable:
        return ""
    # A kernel predicts without the labelled images, so it cannot know what was learnt from.
    if competition.train and not competition.is_state(record.get("competition_fingerprint")):
        return "it was made for another state of the competition: classes, labels or training ids differ from today's"
    if record.get("test_fingerprint", competition.test_fingerprint) != competition.test_fingerprint:
        return "it was made for another test set: its test ids differ from today's"
    return ""


def _other_form(case: Case, record: BlendRecord) -> str:
    """Name the entries of the submission's form that were changed in kk.yaml since it was written; empty when none were."""
    now = case.config.competition.submission.model_dump(mode="json", exclude={"sample"})
    then = record.form
    changed = [key for key, value in now.items() if key in then and then[key] != value]
    return f"it was written before kk.yaml's submission.{shown(changed)} was changed" if changed else ""


def _stale_run(entry: BlendedRun, run: Run) -> str:
    """Whether a run was trained further, or again, after the blend."""
    finished = {fold.fold: fold.record.model_fingerprint for fold in run.finished_models()}
    blended = finished if entry.folds is None else [*entry.folds, *(fold for fold in entry.models if fold == FULL)]
    if sorted(blended) != sorted(finished):
        folds = "{} and now has {}".format(*(shown(map(fold_name, sorted(some))) for some in (blended, finished)))
        return f"run {run.name} was blended with folds {folds}"
    for fold, model in entry.models.items():
        if fold in finished and None not in (model, finished[fold]) and finished[fold] != model:
            return f"run {run.name} {fold_text(fold)} was trained again after it was blended"
    return ""


def _folds(case: Case, name: str) -> Check:
    """The fold table against kk.yaml, the runs and the labels in the data."""
    folds = case.folds
    case.classes.require_same(folds.classes, here="kk.yaml", there="the fold table")
    stale = [run.name for run in case.runs if run.record.folds_fingerprint != folds.fingerprint]
    if stale:
        text = f"{shown(stale)} trained on another version of the fold table than the one that is here"
        return Check(name, FAILED, text, "Restore the fold table, or train these runs again.")
    try:
        labels = {row.id: row.labels for row in case.competition.train}
    except Unavailable as error:
        return Check(name, PASSED, f"{len(folds):,} rows, as the runs were trained on; not compared with the data: {error}")
    differing = [
        row_id for row_id, row in zip(folds.ids, folds.labels, strict=True) if set(labels.get(row_id, row)) != set(row)
    ]
    if differing:
        text = f"{len(differing)} rows have another label than in the data: {shown(differing)}"
        return Check(name, FAILED, text, "Run `kk folds` and train again.")
    return Check(name, PASSED, f"{len(folds):,} rows in {folds.n_splits} splits, labels as in the data")


def _runs(case: Case, name: str) -> Check:
    """Run records and checkpoints against kk.yaml, the fold table and the competition."""
    models, full = 0, [run.name for run in case.runs if run.full.finished]
    for run in case.runs:
        case.classes.require_same(run.classes, here="kk.yaml", there=f"runs/{run.name}/{runs.RUN_RECORD}")
        broken = _other_competition(case, run.record.to_dict())
        if broken:
            return Check(name, FAILED, f"run {run.name}: {broken}", "Train it again.")
        for fold in run.finished_models():
            problem = _checkpoint(case, run, fold)
            if problem:
                return Check(name, FAILED, problem, f"Run `kk train --run {run.name}` again, then predict and blend.")
            # What the fold itself was trained on needs no fold table, which a kernel does not have.
            own = (run.record.folds_fingerprint, fold.fold)
            seen = [one for one in seen_by_fold(run, fold, case.workspace) if (one.folds_fingerprint, one.fold) != own]
            if seen:
                require_unseen(seen, case.workspace, case.config.competition.name, case.folds, fold=fold.fold)
            models += (fold.path / runs.MODEL).is_file()
    unknown = [text for run in case.runs if (text := unknown_start(run, case.workspace))]
    if unknown:
        return Check(name, INCONCLUSIVE, unknown[0], "Train it again, or leave it out of the blend, to trust its score.")
    unscored = f"; of {shown(full)} one is trained on all data and has no score of its own" if full else ""
    text = f"{len(case.runs)} runs, {models} checkpoints, all with the classes of kk.yaml{unscored}"
    return Check(name, PASSED, text, shows=("scores",))


def _checkpoint(case: Case, run: Run, fold: FoldRun) -> str:
    """What is wrong with a fold's model file; empty when nothing is, or when it is not there."""
    path = fold.path / runs.MODEL
    if not path.is_file():
        return ""
    header, where = read_model_record(path), case.relative(path)
    if not isinstance(header.get("classes"), list):
        return f"{where} holds no class list"
    case.classes.require_same(Classes(tuple(header["classes"])), here="kk.yaml", there=where)
    broken = _other_competition(case, header)
    if broken:
        return f"{where}: {broken}"
    expected = {**{key: getattr(run.record, key, None) for key in COMPARED}, "run": run.name, "fold": fold.fold}
    return _differing(header, expected, where)


def _differing(found: Mapping[str, Any], expected: Mapping[str, Any], where: str) -> str:
    """The first entry that both sides state and that differs."""
    for key in COMPARED:
        if found.get(key) is not None and expected.get(key) is not None and found[key] != expected[key]:
            return f"{where} says {key.replace('_', ' ')} {str(found[key])[:16]!r}, expected {str(expected[key])[:16]!r}"
    return ""


def _predictions(case: Case, name: str) -> Check:
    """Prediction files against the models that made them, their own fold's rows and the test ids."""
    models = [(run, fold) for run in case.runs for fold in runs.predicted_models(run)]
    views: dict[str, set[str]] = {}
    for (run, fold), tables in zip(models, ahead(lambda one: _tables(case, one[1]), models), strict=True):
        problem = _wrong_origin(case, run, fold, tables) or _wrong_rows(case, fold, tables) or _other_pass(case, fold, tables)
        if not problem:
            own = views.setdefault(run.name, set())
            own.add("{views} {merge}".format(**{"views": "none", "merge": "", **tables[runs.TEST].meta}))
            if len(own) > 1:
                problem = f"run {run.name}: folds were predicted with different views: {shown(sorted(own))}"
        if problem:
            return Check(name, FAILED, problem, PREDICT_AGAIN)
    done = f"{len(models)} folds; each file from its fold's model, its rows those of the fold or of the test set"
    return Check(name, PASSED, done)


def _tables(case: Case, fold: FoldRun) -> dict[str, Predictions]:
    """The prediction files of a fold; only those of views and control rows may be missing."""
    found = {}
    for file_name in (runs.OOF, runs.OOF_VIEWS, runs.TEST, runs.CONTROL):
        path = fold.path / file_name
        if path.is_file():
            found[file_name] = case.table(path)
        elif file_name == runs.TEST or (file_name == runs.OOF and fold.fold != FULL):
            raise Unavailable(f"{case.relative(path)} is not here")
    return found


def _wrong_origin(case: Case, run: Run, fold: FoldRun, tables: Mapping[str, Predictions]) -> str:
    """What a file says about its origin that is not so."""
    model = fold.path / runs.MODEL
    expected = {key: getattr(run.record, key, None) for key in COMPARED}
    made_by = files.file_fingerprint(model) if model.is_file() else fold.record.model_fingerprint
    expected |= {"run": run.name, "fold": fold.fold, "model_fingerprint": made_by}
    for file_name, table in tables.items():
        where = case.relative(fold.path / file_name)
        case.classes.require_same(table.classes, here="kk.yaml", there=where)
        broken = _other_competition(case, table.meta)
        problem = f"{where}: {broken}" if broken else _differing(table.meta, expected, where)
        if problem:
            return problem
    return ""


def _wrong_rows(case: Case, fold: FoldRun, tables: Mapping[str, Predictions]) -> str:
    """Rows that are missing from a file, or that do not belong to it."""
    _, valid = case.folds.split(fold.fold)
    validated = {case.folds.ids[row] for row in valid} - set(fold.record.left_out)
    wanted = {runs.OOF: validated, runs.OOF_VIEWS: validated, runs.TEST: _test_ids(case)}
    for file_name, table in tables.items():
        rows = wanted.get(file_name)
        if rows is not None and set(table.ids) != rows:
            missing, extra = rows - set(table.ids), set(table.ids) - rows
            where = case.relative(fold.path / file_name)
            counts = f"{len(table):,} rows, expected {len(rows):,}"
            return f"{where} holds {counts}: missing {shown(sorted(missing)) or 'none'}; extra {shown(sorted(extra)) or 'none'}"
    return ""


def _other_pass(case: Case, fold: FoldRun, tables: Mapping[str, Predictions]) -> str:
    """Test rows that are not those which left the model, or control rows of another pass than the test rows."""
    test = tables[runs.TEST]
    stated = [table.meta.get("test_rows") for name, table in tables.items() if name in (runs.TEST, runs.CONTROL)]
    if set(stated) - {None, runs.rows_fingerprint(test.ids, test.probs)}:
        where = case.relative(fold.path / runs.TEST)
        return f"{where}: its rows are not those of the pass that the control rows went through: rows or columns were exchanged"
    return ""


def _test_ids(case: Case) -> set[str] | None:
    try:
        return {row.id for row in case.competition.test}
    except Unavailable:
        return None
