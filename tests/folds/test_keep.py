import json
import multiprocessing

import pytest
from factories import make_workspace

from kaggle_kit import files, runs
from kaggle_kit.blending.blend import blend
from kaggle_kit.config import FoldsConfig
from kaggle_kit.errors import FoldError
from kaggle_kit.folds import create_folds, folds_for, held_still
from kaggle_kit.tables import read_folds


def settings(seed=0):
    return FoldsConfig(n_folds=3, seed=seed, duplicates="off")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


@pytest.fixture
def made(tmp_path):
    """Two runs on the factory's own fold table."""
    return make_workspace(tmp_path, n_runs=2)


@pytest.fixture
def unused(tmp_path):
    return make_workspace(tmp_path, n_runs=0)


def test_a_table_on_which_runs_rest_is_not_changed(made):
    folder = made.workspace.root / "folds"
    before = contents(folder)
    with pytest.raises(FoldError, match=r"run0, run1 rest on .*folds\.csv.*--name NAME.*--force"):
        create_folds(made.workspace, made.competition, settings(seed=3))
    assert contents(folder) == before
    create_folds(made.workspace, made.competition, settings(seed=3), name="other")
    assert before.items() <= contents(folder).items()


def test_force_keeps_the_old_table_beside_the_new_one(made):
    folder, old = made.workspace.root / "folds", made.folds.fingerprint
    before = contents(folder)
    new = create_folds(made.workspace, made.competition, settings(seed=3), force=True)
    after = contents(folder)
    assert [after["folds-1.csv"], after["folds-1.json"]] == [before["folds.csv"], before["folds.json"]]
    assert read_folds(folder / "folds-1.csv").fingerprint == old
    assert read_folds(folder / "folds.csv").fingerprint == new.fingerprint != old
    with pytest.raises(FoldError, match=r"kept as .*folds-1\.csv"):
        blend(made.setup)
    for suffix in (".csv", ".json"):
        (folder / f"folds{suffix}").write_bytes(after[f"folds-1{suffix}"])
    assert blend(made.setup).report.passed


def test_every_table_that_was_forced_out_is_kept(made):
    for seed in (3, 4):
        table = create_folds(made.workspace, made.competition, settings(seed), force=True)
        record = made.workspace.run_dir("run0") / runs.RUN_RECORD
        files.write_json(record, {**json.loads(record.read_text()), "folds_fingerprint": table.fingerprint})
    assert {"folds-1.csv", "folds-2.csv"} <= set(contents(made.workspace.root / "folds"))


def test_the_same_table_again_is_left_as_it_is(unused):
    table = create_folds(unused.workspace, unused.competition, settings())
    path = unused.workspace.folds_path("folds")
    stamp = path.stat().st_mtime_ns
    assert create_folds(unused.workspace, unused.competition, settings()).fingerprint == table.fingerprint
    assert path.stat().st_mtime_ns == stamp


def test_a_table_without_runs_is_made_anew(unused):
    create_folds(unused.workspace, unused.competition, settings())
    table = create_folds(unused.workspace, unused.competition, settings(seed=3))
    assert folds_for(unused.workspace, unused.competition, "folds").fingerprint == table.fingerprint
    assert set(contents(unused.workspace.root / "folds")) == {"folds.csv", "folds.json"}


def test_a_damaged_table_of_runs_can_be_made_again_but_not_changed(unused):
    table = create_folds(unused.workspace, unused.competition, settings())
    record = unused.workspace.run_dir("a") / runs.RUN_RECORD
    files.write_json(record, {"folds": "folds", "folds_fingerprint": table.fingerprint})
    unused.workspace.folds_path("folds").write_text("id\n")
    with pytest.raises(FoldError, match="a rests on"):
        create_folds(unused.workspace, unused.competition, settings(seed=3))
    create_folds(unused.workspace, unused.competition, settings())
    assert read_folds(unused.workspace.folds_path("folds")).fingerprint == table.fingerprint


def test_trials_of_a_search_rest_on_the_table_too(unused):
    table = create_folds(unused.workspace, unused.competition, settings())
    record = unused.workspace.tune_dir("study") / "trial-3" / runs.RUN_RECORD
    files.write_json(record, {"folds": "folds", "folds_fingerprint": table.fingerprint})
    with pytest.raises(FoldError, match="trial-3 rests on"):
        create_folds(unused.workspace, unused.competition, settings(seed=3))


def test_a_run_is_not_begun_on_a_table_that_was_just_replaced(unused):
    table = create_folds(unused.workspace, unused.competition, settings())
    create_folds(unused.workspace, unused.competition, settings(seed=3))
    with pytest.raises(FoldError, match="Run the same command again"), held_still(unused.workspace, "folds", table):
        pass


def _write(root, seeds, errors):
    from kaggle_kit.competition import load_competition
    from kaggle_kit.config import load_config
    from kaggle_kit.workspace import Workspace

    workspace = Workspace(root)
    competition = load_competition(workspace, load_config(root / "kk.yaml").competition)
    for seed in seeds:
        try:
            create_folds(workspace, competition, settings(seed))
        except Exception as error:
            errors.put(repr(error))


def test_two_processes_that_write_one_table_leave_one_of_the_two(unused):
    """Table and record are two files: without a lock, one of each call could be left."""
    context = multiprocessing.get_context("spawn")
    errors = context.Queue()
    both = [context.Process(target=_write, args=(unused.workspace.root, range(at, 40, 2), errors)) for at in (0, 1)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert errors.empty()
    read_folds(unused.workspace.folds_path("folds"))
