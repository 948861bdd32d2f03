"""What a fold may learn from earlier runs, on fabricated workspaces: whom it asks, and what becomes of its rows."""

import json
from dataclasses import replace

import numpy as np
import pytest
from factories import METADATA_KEY, make_workspace, write_run
from safetensors.numpy import save_file

from kaggle_kit import runs
from kaggle_kit.config import TeacherConfig, derive
from kaggle_kit.errors import ConfigError, DataError, FoldError, MissingFileError
from kaggle_kit.folds import balance_table, pairs_of
from kaggle_kit.runs.model_header import read_model_record
from kaggle_kit.tables import Classes, Predictions, read_predictions
from kaggle_kit.teachers import Lesson, find_teachers, lesson_for, require_teachable, student_of, teach, unseen_rows


def on_pairs(root, **options):
    """A workspace whose runs rest on the pairs of folds of ``folds/base.csv``; returns it and that table."""
    made = make_workspace(root, n_runs=0, **options)
    table = pairs_of(made.folds, "folds")
    table.write(made.workspace.folds_path("pairs"))
    pairs = replace(made, folds=table)
    write_run(pairs, "teacher", seed=5, config=derive(made.config.run, ["folds=pairs"]))
    record = made.workspace.run_dir("teacher") / runs.RUN_RECORD
    record.write_text(json.dumps({**json.loads(record.read_text()), "folds": "pairs"}))
    return made


def setup_of(made, *overrides):
    return replace(made.setup, config=made.config.model_copy(update={"run": derive(made.config.run, overrides)}))


def find(made, names, fold):
    return find_teachers(names, made.workspace, made.competition, made.folds, fold=fold)


def test_pairs_leave_out_each_two_folds_once(tmp_path):
    folds = make_workspace(tmp_path, n_runs=0, n_folds=4).folds
    pairs = pairs_of(folds, "folds")
    assert "never" not in balance_table(pairs)  # each row is validated on in some pair
    assert (pairs.n_splits, pairs.ids, pairs.labels) == (6, folds.ids, folds.labels)
    own = folds.assignments[0]
    left_out = [frozenset(own[pairs.split(split)[1]]) for split in range(6)]
    assert sorted(map(sorted, left_out)) == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
    for split in range(6):
        train, valid = pairs.split(split)
        assert sorted([*train, *valid]) == list(range(len(folds)))
        assert not set(own[train]) & left_out[split]


@pytest.mark.parametrize("options", [{"n_folds": 2}, {"repeats": 2}])
def test_pairs_need_one_division_into_three_folds(tmp_path, options):
    with pytest.raises(FoldError, match=r"at least 3 folds; folds/base\.csv has"):
        pairs_of(make_workspace(tmp_path, n_runs=0, **options).folds, "base")


def test_groups_and_external_rows_keep_their_sides(tmp_path):
    folds = make_workspace(tmp_path, n_runs=0, n_folds=3).folds
    groups, assignments = folds.groups.copy(), folds.assignments.copy()
    assignments[0, :5] = -1
    groups[0] = groups[int(np.flatnonzero(assignments[0] == 1)[0])]  # an external twin of a row of fold 1
    pairs = pairs_of(replace(folds, groups=groups, assignments=assignments), "folds")
    for split, left_out in enumerate(((0, 1), (0, 2), (1, 2))):
        train, valid = pairs.split(split)
        assert {1, 2, 3, 4} <= set(train.tolist())
        assert (0 in train) == (1 not in left_out)
        assert not set(range(5)) & set(valid.tolist())


def test_a_fold_asks_only_models_that_have_not_seen_it(tmp_path):
    made = make_workspace(tmp_path, n_runs=1, n_folds=4)
    for fold in range(4):
        ((run, folds),) = find(made, ["run0"], fold).models
        assert (run.name, [one.fold for one in folds]) == ("run0", [fold])


def test_of_a_run_on_pairs_a_fold_asks_those_that_left_it_out(tmp_path):
    made = on_pairs(tmp_path, n_folds=4)
    ((_, folds),) = find(made, ["teacher"], 1).models
    assert [one.fold for one in folds] == [0, 3, 4]  # (0, 1), (1, 2), (1, 3)
    teachers = find(made, ["teacher"], 1)
    said = unseen_rows(teachers, made.folds)
    train, _ = made.folds.split(1)
    assert set(said.ids) == {made.folds.ids[row] for row in train}
    # Row by row: by the one model that has seen neither fold 1 nor the row.
    own = dict(zip(made.folds.ids, made.folds.assignments[0].tolist(), strict=True))
    parts = {
        other: read_predictions(made.workspace.fold_dir("teacher", split) / runs.OOF)
        for other, split in ((0, 0), (2, 3), (3, 4))
    }
    for row_id, probs in zip(said.ids, said.probs, strict=True):
        np.testing.assert_array_equal(probs, parts[own[row_id]].take([row_id]).probs[0])


def test_the_out_of_fold_rows_of_an_ordinary_run_are_refused(tmp_path):
    made = make_workspace(tmp_path, n_runs=1)
    with pytest.raises(DataError, match=r"have seen what fold 2 is validated on.*--pairs-of.*in-sample"):
        lesson_for(setup_of(made, "teacher.runs=run0", "teacher.mix=0.3"), made.folds, fold=2)
    with pytest.raises(DataError) as error:
        lesson_for(setup_of(made, "teacher.runs=run0", "teacher.noise=drop"), made.folds, fold=2)
    assert "in-sample" not in str(error.value)


def test_what_a_teacher_began_from_counts(tmp_path):
    made = make_workspace(tmp_path, n_runs=1)
    path = made.workspace.fold_dir("run0", 2) / runs.MODEL
    start = {"competition": made.competition.name, "run": "first", "folds_fingerprint": made.folds.fingerprint, "fold": 0}
    record = {**read_model_record(path), "seen": [start]}
    save_file({"w": np.zeros(2, np.float32)}, str(path), metadata={METADATA_KEY: json.dumps(record)})
    with pytest.raises(DataError, match="every finished model of run run0 has seen"):
        find(made, ["run0"], 2)
    assert find(made, ["run0"], 1).seen


def test_a_teacher_must_be_there_and_have_predicted_the_test_images(tmp_path):
    made = make_workspace(tmp_path, n_runs=1)
    with pytest.raises(MissingFileError, match="no run 'nobody'"):
        require_teachable(setup_of(made, "teacher.runs=nobody", "teacher.mix=0.3"), made.folds, [0])
    setup = setup_of(made, "teacher.runs=run0", "teacher.pseudo=hard", "teacher.predictions=in-sample")
    require_teachable(setup, made.folds, [0, 1, 2])
    (made.workspace.fold_dir("run0", 1) / runs.TEST).unlink()
    require_teachable(setup, made.folds, [0, 2])
    with pytest.raises(DataError, match="kk predict"):
        require_teachable(setup, made.folds, [1])


def test_pseudo_labels_of_a_fold_are_those_of_its_own_model(tmp_path):
    made = make_workspace(tmp_path, n_runs=1)
    setup = setup_of(made, "teacher.runs=run0", "teacher.pseudo=soft", "teacher.pseudo_confidence=0.6")
    for fold in range(3):
        said = read_predictions(made.workspace.fold_dir("run0", fold) / runs.TEST)
        lesson = lesson_for(setup, made.folds, fold=fold)
        assert 0 < len(lesson.test) < len(said)
        assert set(lesson.test.ids) == {said.ids[row] for row in np.flatnonzero(said.probs.max(axis=1) >= 0.6)}
        np.testing.assert_array_equal(lesson.test.probs, said.take(lesson.test.ids).probs)


def test_several_teachers_count_alike(tmp_path):
    made = make_workspace(tmp_path, n_runs=2)
    one, two = (read_predictions(made.workspace.fold_dir(run, 0) / runs.TEST) for run in ("run0", "run1"))
    said = find(made, ["run0", "run1"], 0).say(runs.TEST)
    np.testing.assert_allclose(said.probs, (one.probs + two.take(one.ids).probs) / 2, atol=1e-6)


@pytest.mark.parametrize(
    ("overrides", "match"),
    [
        (["teacher.mix=0.3"], "runs must name the run to learn from"),
        (["teacher.runs=a"], "say what to learn"),
        (["teacher.runs=a", "teacher.noise=flip", "teacher.predictions=in-sample"], "believes the labels"),
        (["teacher.runs=a", "teacher.mix=1.5"], "teacher.mix"),
        (["teacher.runs=../a", "teacher.mix=0.3"], "plain file name"),
    ],
)
def test_senseless_settings_are_refused(tmp_path, overrides, match):
    made = make_workspace(tmp_path, n_runs=0)
    with pytest.raises(ConfigError, match=match):
        derive(made.config.run, overrides)


# What becomes of the rows.

NAMES = Classes(("a", "b", "c"))


def lesson(probs=None, test=None, **settings):
    def table(values, letter):
        return None if values is None else Predictions([f"{letter}{row}" for row in range(len(values))], values, NAMES)

    return Lesson(TeacherConfig(runs=["t"], **settings), table(probs, "r"), table(test, "t"), ())


def ids(count):
    return [f"r{row}" for row in range(count)]


def test_targets_are_mixed_and_rows_of_which_nothing_is_said_keep_their_labels():
    probs = np.array([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]], dtype=np.float32)
    taught = teach(lesson(probs, mix=0.3), ids(3), np.array([0, 2, 1]), NAMES)
    expected = [[0.7 + 0.06, 0.15, 0.09], [0.03, 0.03, 0.7 + 0.24], [0, 1, 0]]
    np.testing.assert_allclose(taught.targets, expected, atol=1e-6)
    np.testing.assert_allclose(taught.targets.sum(axis=1), 1, atol=1e-6)
    assert taught.truth.tolist() == [0, 2, 1]
    assert taught.kept.all()


def noisy(rows=120, wrong=10, *, several=False):
    """Truth in which the first rows are wrong, and what an honest model says."""
    rng = np.random.default_rng(0)
    true = np.arange(rows) % 3
    probs = (0.9 * np.eye(3)[true] + 0.1 * rng.dirichlet(np.ones(3), rows)).astype(np.float32)
    given = true.copy()
    given[:wrong] = (given[:wrong] + 1) % 3
    return (np.eye(3, dtype=np.uint8)[given] if several else given), true, probs


@pytest.mark.parametrize("several", [False, True])
def test_wrong_labels_are_dropped_or_flipped(several):
    given, true, probs = noisy(several=several)
    dropped = teach(lesson(probs, noise="drop", noise_share=0.2), ids(120), given, NAMES)
    assert np.flatnonzero(~dropped.kept).tolist() == list(range(10))
    assert len(dropped.truth) == 110
    assert dropped.targets is None
    flipped = teach(lesson(probs, noise="flip", noise_share=0.2), ids(120), given, NAMES)
    assert flipped.kept.all()
    found = flipped.truth.argmax(axis=1) if several else flipped.truth
    np.testing.assert_array_equal(found, true)


def test_at_most_a_share_is_changed_and_never_what_a_person_decided():
    given, _, probs = noisy()
    probs[3] = [0.01, 0.98, 0.01] if given[3] != 1 else [0.98, 0.01, 0.01]  # the worst of all
    taught = teach(lesson(probs, noise="drop", noise_share=4 / 120), ids(120), given, NAMES)
    assert (~taught.kept).sum() == 4
    assert not taught.kept[3]
    decided = teach(lesson(probs, noise="drop", noise_share=0.2), ids(120), given, NAMES, decided={"r3", "r5"})
    assert np.flatnonzero(~decided.kept).tolist() == [0, 1, 2, 4, 6, 7, 8, 9]


def test_a_flipped_label_is_what_is_mixed():
    given, true, probs = noisy()
    taught = teach(lesson(probs, noise="flip", noise_share=0.2, mix=0.5), ids(120), given, NAMES)
    np.testing.assert_allclose(taught.targets, 0.5 * np.eye(3)[true] + 0.5 * probs, atol=1e-6)


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_test_images_join_with_what_is_predicted(kind):
    test = np.array([[0.95, 0.03, 0.02], [0.01, 0.01, 0.98]], dtype=np.float32)
    taught = teach(lesson(test=test, pseudo=kind), ids(2), np.array([1, 1]), NAMES)
    assert taught.test == ("t0", "t1")
    assert taught.truth.tolist() == [1, 1, 0, 2]
    if kind == "hard":
        assert taught.targets is None
    else:
        np.testing.assert_allclose(taught.targets, [[0, 1, 0], [0, 1, 0], *test.tolist()], atol=1e-6)


def test_test_images_of_several_labels():
    test = np.array([[0.95, 0.03, 0.99]], dtype=np.float32)
    truth = np.array([[1, 1, 0]], dtype=np.uint8)
    taught = teach(lesson(test=test, pseudo="hard"), ids(1), truth, NAMES)
    assert taught.truth.tolist() == [[1, 1, 0], [1, 0, 1]]


def test_a_blend_of_all_runs_leaves_out_what_others_learn_from(tmp_path):
    from kaggle_kit.blending.sources import usable_runs

    made = on_pairs(tmp_path)
    assert [run.name for run in usable_runs(made.workspace, [])[0]] == ["teacher"]  # there is nothing else
    write_run(made, "run0", seed=3)
    found, notes = usable_runs(made.workspace, [])
    assert [run.name for run in found] == ["run0"]
    assert "run teacher is left out: it rests on pairs of folds" in notes[0]
    assert [run.name for run in usable_runs(made.workspace, ["teacher"])[0]] == ["teacher"]


def test_a_student_is_trained_as_its_teacher_was_but_learns_from_it_alone(tmp_path):
    made = make_workspace(tmp_path, n_runs=1)
    before = runs.read_run(made.workspace, "run0")

    def taught(*entries, trained=()):
        config = derive(before.record.config, trained)
        return student_of(replace(before, record=replace(before.record, config=config)), entries)

    plain = taught()
    assert plain.teacher == TeacherConfig(runs=["run0"], predictions="in-sample", mix=0.5)
    assert derive(plain, ["teacher={}"]) == before.record.config
    assert taught("model=resnet18", "teacher.mix=0.9") == derive(plain, ["model=resnet18", "teacher.mix=0.9"])
    special = ("strategy=specialists", "init_from=a", "specialists.confused_by=b")
    assert taught(trained=special) == derive(plain, ["strategy=finetune"])
    assert taught(trained=("teacher.runs=c", "teacher.mix=0.2", "init_from=d")) == plain
    with pytest.raises(ConfigError, match="one class an image"):
        taught(trained=("strategy=probe", "probe.classifier=lda"))
