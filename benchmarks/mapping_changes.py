"""What the faults of `mapping_fault_list.py` do. See `mapping_scene.py` for where they strike."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from mapping_scene import Array, Change, Scene, edit_everywhere, edit_file, edit_pass

from kaggle_kit import runs
from kaggle_kit.tables import Predictions, read_predictions

Inject = Callable[[Scene], None]


def natural(names: Sequence[str]) -> list[str]:
    """timm's order of classes: numbers by value, lower-cased."""
    return sorted(names, key=lambda name: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name.lower())])


def columns(scene: Scene, order: Sequence[str]) -> Change:
    """Columns hold what belongs to ``order``, under the competition's names."""
    positions = scene.classes.encode(order)
    return lambda probs: probs[:, positions]


def two_swapped(scene: Scene) -> Change:
    names = list(scene.classes.names)
    first, second = scene.rng.choice(len(names), 2, replace=False)
    names[first], names[second] = names[second], names[first]
    return columns(scene, names)


def rolled(scene: Scene, by: int = 1) -> Change:
    return columns(scene, np.roll(scene.classes.names, by).tolist())


def shuffled(scene: Scene) -> Change:
    names = list(scene.classes.names)
    order = list(names)
    while order == names:
        order = scene.rng.permutation(names).tolist()
    return columns(scene, order)


def slid(probs: Array) -> Array:
    """One class is missing; those behind it slide, and the last column is empty."""
    missing = probs.shape[1] // 3
    kept = np.delete(probs, missing, axis=1)
    return renormalised(np.concatenate([kept, np.full((len(probs), 1), 1e-4, dtype=probs.dtype)], axis=1), probs)


def renormalised(changed: Array, probs: Array) -> Array:
    if np.allclose(probs.sum(axis=1), 1, atol=1e-3):
        return changed / changed.sum(axis=1, keepdims=True)
    return np.clip(changed, 0, 1)


def other_normalisation(probs: Array) -> Array:
    """Probabilities flattened, and noisy where they were close: what wrong means and variances do."""
    noise = np.random.default_rng(1).normal(0, 0.6, probs.shape)
    return renormalised(np.sqrt(probs) * np.exp(noise), probs)


def other_colours(probs: Array) -> Array:
    """Some classes are taken for their neighbours: what red for blue does."""
    mixed = 0.75 * probs + 0.25 * np.roll(probs, 1, axis=1)
    return renormalised(mixed, probs)


def other_crop(probs: Array) -> Array:
    """Every probability a little off: what another resize does."""
    return renormalised(probs * np.exp(np.random.default_rng(2).normal(0, 0.15, probs.shape)), probs)


def views_of_other_rows(probs: Array) -> Array:
    """The second view of a batch comes back in reverse order."""
    return (probs + probs[::-1]) / 2


def views_of_logits(probs: Array) -> Array:
    """A geometric mean of logits instead of probabilities: signs flip."""
    logits = np.log(np.clip(probs, 1e-6, 1))
    return renormalised(np.exp(-np.abs(logits - logits.mean(axis=1, keepdims=True))), probs)


def everywhere(make: Callable[[Scene], Change], *, run: int | None = None, fold: int | None = None) -> Inject:
    """The fault is in the model or its class list: every file of the folds suffers it."""

    def inject(scene: Scene) -> None:
        change = make(scene)
        for one in scene.folds(run=run, fold=fold):
            edit_everywhere(one, change, scene.rng)

    return inject


def in_pass(make: Callable[[Scene], Change], *, run: int | None = None, fold: int | None = None) -> Inject:
    """The fault is in the test pass: test and control rows suffer it."""

    def inject(scene: Scene) -> None:
        for one in scene.folds(run=run, fold=fold):
            edit_pass(one, make(scene), scene.rng)

    return inject


def in_test_file(change: Callable[[Predictions], Predictions], *, run: int | None = None, fold: int | None = None) -> Inject:
    """The fault is between the pass and the file: test rows alone suffer it."""

    def inject(scene: Scene) -> None:
        for one in scene.folds(run=run, fold=fold):
            edit_file(one.path / runs.TEST, change)

    return inject


def with_probs(change: Change) -> Callable[[Predictions], Predictions]:
    return lambda table: Predictions(table.ids, change(table.probs), table.classes, table.meta, table.pixels)


def views_everywhere(change: Change) -> Inject:
    """The views are wrong in both passes that use them; only the rows without views are right."""

    def inject(scene: Scene) -> None:
        for one in scene.folds():
            edit_file(one.path / runs.OOF_VIEWS, with_probs(change))
            edit_pass(one, change, scene.rng)

    return inject


def constant(change: Change) -> Callable[[Scene], Change]:
    return lambda _: change


def drawn_rows(scene: Scene) -> Change:
    return lambda probs: probs[scene.rng.permutation(len(probs))]


def lost_batch(table: Predictions) -> Predictions:
    return table.take(table.ids[:-8])


def padded_batch(probs: Array) -> Array:
    """The last batch was dropped and the rows before it were written twice."""
    return np.concatenate([probs[:-8], probs[-16:-8]])


def other_test_set(table: Predictions) -> Predictions:
    """Rows of an earlier test set, with its ids."""
    meta = {**table.meta, "competition_fingerprint": "0" * 64}
    return Predictions(tuple(f"old_{row_id}" for row_id in table.ids), table.probs, table.classes, meta)


def earlier_test_set(table: Predictions) -> Predictions:
    """Rows of an earlier test set whose ids are today's."""
    order = np.random.default_rng(3).permutation(len(table))
    return Predictions(table.ids, table.probs[order], table.classes, {**table.meta, "competition_fingerprint": "0" * 64})


def stale_model(scene: Scene) -> None:
    """A checkpoint of another class list in one fold's place."""
    fold = next(scene.folds())
    path = fold.path / runs.MODEL
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    content = json.loads(header["__metadata__"]["kaggle_kit"])
    content["classes"] = [*content["classes"][1:], content["classes"][0]]
    header["__metadata__"]["kaggle_kit"] = json.dumps(content)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


def other_folds_model(scene: Scene) -> None:
    """The checkpoint of fold 1 in the place of fold 0's."""
    for run in range(1):
        zero, one = (next(scene.folds(run=run, fold=fold)) for fold in (0, 1))
        (zero.path / runs.MODEL).write_bytes((one.path / runs.MODEL).read_bytes())


def other_folds_test(scene: Scene) -> None:
    """Fold 1's test predictions copied over fold 0's: one model counts twice."""
    zero, one = (next(scene.folds(run=0, fold=fold)) for fold in (0, 1))
    (zero.path / runs.TEST).write_bytes((one.path / runs.TEST).read_bytes())


def trained_again(scene: Scene) -> None:
    """A fold was trained again after the blend, and predicted."""
    fold = next(scene.folds())
    table = read_predictions(fold.path / runs.TEST)
    changed = shuffled(scene)(table.probs)
    meta = {**table.meta, "model_fingerprint": "1" * 64, "test_rows": runs.rows_fingerprint(table.ids, changed)}
    Predictions(table.ids, changed, table.classes, meta).write(fold.path / runs.TEST)
    runs.write_fold_record(fold.path, replace(fold.record, model_fingerprint="1" * 64))


def frame(change: Callable[[Scene, pd.DataFrame, Array], pd.DataFrame], *, writer: bool) -> Inject:
    return lambda scene: scene.edit_frame(lambda table, probs: change(scene, table, probs), writer=writer)


def text(change: Callable[[bytes], bytes]) -> Inject:
    return lambda scene: scene.edit_text(change)


def targets(scene: Scene, table: pd.DataFrame) -> list[str]:
    return [column for column in table.columns if column != scene.form.id_column]


def rows_moved(order: Callable[[pd.Series], Array]) -> Callable[[Scene, pd.DataFrame, Array], pd.DataFrame]:
    """Cells of other rows beside the ids."""

    def change(scene: Scene, table: pd.DataFrame, _: Array) -> pd.DataFrame:
        names = targets(scene, table)
        table[names] = table[names].to_numpy()[order(table[scene.form.id_column])]
        return table

    return change


def renamed_ids(rename: Callable[[str], str]) -> Callable[[Scene, pd.DataFrame, Array], pd.DataFrame]:
    def change(scene: Scene, table: pd.DataFrame, _: Array) -> pd.DataFrame:
        table[scene.form.id_column] = [rename(row_id) for row_id in table[scene.form.id_column]]
        return table

    return change


def columns_by_position(scene: Scene, table: pd.DataFrame, _: Array) -> pd.DataFrame:
    """Values in class order under the sample's header."""
    names = targets(scene, table)
    in_class_order = sorted(names, key=lambda column: scene.classes.index(scene.form.columns.get(column, column)))
    return pd.DataFrame(
        {
            **{scene.form.id_column: table[scene.form.id_column]},
            **{name: table[source] for name, source in zip(names, in_class_order, strict=True)},
        }
    )


def sorted_header(scene: Scene, table: pd.DataFrame, _: Array) -> pd.DataFrame:
    """The header sorted, the cells left where they were."""
    table.columns = pd.Index([scene.form.id_column, *sorted(targets(scene, table))])
    return table


def decoded(decode: Callable[[Scene, int], str]) -> Callable[[Scene, pd.DataFrame, Array], pd.DataFrame]:
    """Each label is what ``decode`` makes of its class's index."""

    def change(scene: Scene, table: pd.DataFrame, probs: Array) -> pd.DataFrame:
        cells = []
        for row in probs:
            above = np.flatnonzero(row >= scene.form.threshold) if scene.form.form == "labels" else [int(row.argmax())]
            cells.append(
                scene.form.separator.join(decode(scene, int(index)) for index in (above if len(above) else [row.argmax()]))
            )
        table[targets(scene, table)[0]] = cells
        return table

    return change


def written(scene: Scene, name: str) -> str:
    return str(scene.form.indices[name]) if scene.form.form == "index" else name


def by_order(order: Callable[[list[str]], list[str]]) -> Callable[[Scene, int], str]:
    return lambda scene, index: written(scene, order(list(scene.classes.names))[index])


def wrong_axis(scene: Scene, table: pd.DataFrame, probs: Array) -> pd.DataFrame:
    """argmax(axis=0): C row numbers, repeated down the file."""
    picks = np.resize(probs.argmax(axis=0), len(table))
    names = scene.classes.names
    table[targets(scene, table)[0]] = [written(scene, names[pick % len(names)]) for pick in picks]
    return table


def values(change: Callable[[Array], Array]) -> Callable[[Scene, pd.DataFrame, Array], pd.DataFrame]:
    def apply(scene: Scene, table: pd.DataFrame, _: Array) -> pd.DataFrame:
        names = targets(scene, table)
        table[names] = change(table[names].to_numpy(dtype=np.float64)).astype(str)
        return table

    return apply


def cell(value: str) -> Callable[[Scene, pd.DataFrame, Array], pd.DataFrame]:
    def change(scene: Scene, table: pd.DataFrame, _: Array) -> pd.DataFrame:
        table.loc[3, targets(scene, table)[0]] = value
        return table

    return change


def one_run_only(scene: Scene) -> None:
    """The submission of run 0 alone under the record of the whole blend."""
    record = scene.record_path.read_text(encoding="utf-8")
    kept = {
        suffix: scene.path.with_suffix(suffix).read_bytes() for suffix in (".probs.parquet", ".oof.parquet", ".control.csv")
    }
    from kaggle_kit.blending.blend import blend

    names = runs.list_runs(scene.workspace)
    blend(scene.setup, name="blend", runs=names[:1], force=True)
    scene.record_path.write_text(record, encoding="utf-8")
    for suffix, data in kept.items():
        scene.path.with_suffix(suffix).write_bytes(data)
    scene.sign()


def classes_reordered(scene: Scene) -> None:
    """kk.yaml was made anew, with the classes in another order, after training."""
    scene.edit_yaml(lambda competition: competition.update(classes=list(reversed(competition["classes"]))))


def indices_lexical(scene: Scene) -> None:
    """kk.yaml counts the classes in lexical order though their names are the integers."""
    order = {name: position + 1 for position, name in enumerate(sorted(scene.classes.names))}
    scene.edit_yaml(lambda competition: competition["submission"].update(indices=order))


def columns_crossed(scene: Scene) -> None:
    """kk.yaml maps two of the sample's columns to each other's class."""

    def change(competition: dict) -> None:  # type: ignore[type-arg]
        mapping = competition["submission"]["columns"]
        first, second = list(mapping)[:2]
        mapping[first], mapping[second] = mapping[second], mapping[first]

    scene.edit_yaml(change)


def fold_table_remade(scene: Scene) -> None:
    """`kk folds` ran again with another seed after training."""
    from kaggle_kit.tables import FoldTable, read_folds

    path = scene.workspace.folds_path(next(iter({read.record.folds for read in runs.choose_runs(scene.workspace)})))
    table = read_folds(path)
    assignments = scene.rng.permuted(table.assignments, axis=1)
    FoldTable(
        table.ids, table.labels, table.groups, assignments, table.n_folds, table.classes, table.multilabel, table.meta
    ).write(path)


def new_test_image(scene: Scene) -> None:
    """The test set was exchanged after the sample submission was made: an image more, an image less."""
    data = scene.own_data()
    images = sorted(path for folder in scene.config.competition.test.dirs for path in (data / folder).rglob("*.*"))  # type: ignore[union-attr]
    images[0].rename(images[0].with_name("zz_new" + images[0].suffix))
    scene.reload()


def old_control(scene: Scene) -> None:
    """The control submission is of an earlier blend, with its columns in another order."""
    path = scene.path.with_suffix(".control.csv")
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    names = targets(scene, table)
    table[names] = table[names].to_numpy()[::-1]
    table.to_csv(path, index=False)


def of_another_model(scene: Scene) -> Predictions:
    """Test probabilities of a model that is no run here: one run's, noisy, and on a fourteenth of the rows another class's."""
    tables = [read_predictions(fold.path / runs.TEST) for fold in scene.folds(run=0)]
    table = tables[0].align(scene.classes, here="the benchmark")
    probs = np.mean([one.take(table.ids).align(scene.classes, here="the benchmark").probs for one in tables], axis=0)
    rng = np.random.default_rng(17)  # the same model whatever is done to its file
    probs = renormalised(probs * np.exp(rng.normal(0, 0.3, probs.shape)), probs)
    wrong = np.flatnonzero(rng.random(len(probs)) < 1 / 14)
    probs[wrong] = probs[wrong][:, rng.permutation(len(scene.classes))]
    return Predictions(table.ids, probs, scene.classes)


def write_foreign(
    scene: Scene, change: Callable[[Predictions], Predictions], cells: Callable[[int], str] | None = None
) -> None:
    """Put a file of another model in the place of the blend's, without a record; ``cells`` writes a class's index."""
    frame = pd.read_csv(scene.path, dtype=str, keep_default_na=False)
    probs = change(of_another_model(scene).take(frame[scene.form.id_column].tolist())).probs
    names = targets(scene, frame)
    if scene.form.form == "probability":
        for name in names:
            frame[name] = probs[:, scene.classes.index(scene.form.columns.get(name, name))].astype(str)
    elif scene.form.form == "positive":
        frame[names[0]] = probs[:, 1].astype(str)
    elif cells is not None:
        frame[names[0]] = [cells(index) for index in probs.argmax(axis=1).tolist()]
    else:
        frame = decoded(lambda scene, index: written(scene, scene.classes.names[index]))(scene, frame, probs)
    for suffix in (".json", ".probs.parquet", ".oof.parquet", ".control.csv"):
        scene.path.with_suffix(suffix).unlink(missing_ok=True)
    frame.to_csv(scene.path, index=False, lineterminator="\n")


def foreign(make: Callable[[Scene], Change]) -> Inject:
    return lambda scene: write_foreign(scene, with_probs(make(scene)))


def foreign_index(order: Callable[[list[str]], list[str]], first: int) -> Inject:
    """Each value is the class's index in a list of its own, counted from ``first``."""

    def inject(scene: Scene) -> None:
        listed = order(list(scene.classes.names))
        position = [listed.index(name) + first for name in scene.classes.names]
        write_foreign(scene, lambda table: table, cells=lambda index: str(position[index]))

    return inject


def lost_row(probs: Array) -> Array:
    """A row a third down is written twice; those behind it are one late."""
    at = len(probs) // 3
    return np.concatenate([probs[: at + 1], probs[at:-1]])


def inside_predictor(change: Change) -> Inject:
    """Test rows of every fold change places before the files part, and no control row does.

    The hash of the pixels that the model saw travels in the row of what it said.
    """

    def inject(scene: Scene) -> None:
        for fold in scene.folds():
            test, control = read_predictions(fold.path / runs.TEST), read_predictions(fold.path / runs.CONTROL)
            changed, pixels = change(test.probs), test.pixels
            if pixels is not None:
                pixels = np.concatenate([change(pixels[:, :1]), pixels[:, 1:]], axis=1)
            about = {"test_rows": runs.rows_fingerprint(test.ids, changed)}
            Predictions(test.ids, changed, test.classes, {**test.meta, **about}, pixels).write(fold.path / runs.TEST)
            again = Predictions(control.ids, control.probs, control.classes, {**control.meta, **about}, control.pixels)
            again.write(fold.path / runs.CONTROL)

    return inject


def within(first: int, last: int | None, change: Change) -> Change:
    """``change`` of the rows from ``first`` to ``last`` only."""

    def apply(probs: Array) -> Array:
        probs = probs.copy()
        probs[first:last] = change(probs[first:last])
        return probs

    return apply


def up_by_one(rows: Array) -> Array:
    return np.roll(rows, 1, axis=0)


def backwards(rows: Array) -> Array:
    return rows[::-1]


def up(ids: pd.Series) -> Array:
    return np.roll(np.arange(len(ids)), 1)


def sort_order(ids: pd.Series) -> Array:
    return np.argsort(ids.to_numpy().astype(str)[::-1])


def stem(row_id: str) -> str:
    return row_id.rpartition(".")[0] or f"{row_id}.jpg"


def lexical(names: list[str]) -> list[str]:
    return sorted(names)


def cut(data: bytes) -> bytes:
    return data[: int(len(data) * 0.6)]


def without_last_batch(data: bytes) -> bytes:
    return b"".join(data.splitlines(keepends=True)[:-8])


def with_padding(data: bytes) -> bytes:
    return data + data.splitlines(keepends=True)[-1]
