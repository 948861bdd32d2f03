"""One more model, of all data: trained as long as the folds, predicting and blending beside them, without a score."""

import json
import shutil

import numpy as np
import pytest
import torch
from small_workspace import make_small
from test_resume import Killed, kill_at, saving_always

from kaggle_kit import kernel, runs
from kaggle_kit.blending.blend import blend
from kaggle_kit.check import check_submission
from kaggle_kit.cli import main
from kaggle_kit.errors import ConfigError, FoldError
from kaggle_kit.fold_names import FULL
from kaggle_kit.inference import PredictOptions, predict_runs
from kaggle_kit.launch import LaunchOptions, launch_run
from kaggle_kit.runs.comparison import runs_table
from kaggle_kit.runs.provenance import seen_by
from kaggle_kit.tables import read_folds, read_predictions
from kaggle_kit.training import TrainOptions, loop, train_run
from kaggle_kit.training.fold import train_fold
from kaggle_kit.training.prepare import prepare_run

ENTRIES = ("workers=0", "epochs=3", "augment=none")


def train(small, *overrides, run="run", fold="all", **options):
    return train_run(small.setup(*ENTRIES, *overrides), TrainOptions(run, fold), **options)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A workspace with a run of three folds and a model of all data."""
    torch.set_num_threads(1)
    made = make_small(tmp_path_factory.mktemp("full"))
    train(made)
    train(made, fold="full")
    return made


def folds_of(small):
    return read_folds(small.workspace.folds_path("folds"))


def test_it_is_trained_on_all_rows_for_as_long_as_the_folds(small):
    run = runs.read_run(small.workspace, "run")
    record = run.full.record
    assert record.epoch == record.epochs == round(np.mean([fold.record.epoch for fold in run.folds]))
    assert (record.n_train, record.n_valid) == (len(folds_of(small)), 0)
    assert np.isnan(record.score)
    names = {path.name.split(".")[0] for path in run.full.path.iterdir()}
    assert {"model", "history", "fold"} <= names
    assert "oof" not in names
    assert len(runs.read_oof(run)) == len(folds_of(small))  # of the folds alone
    assert runs_table(small.workspace)["folds"].tolist() == ["3/3 + full"]
    assert train(small, fold="full").trained == ()


def test_its_summary_says_that_it_has_no_score(small):
    summary = train(small, fold="full")
    assert "a model of all 36 images" in summary.describe()
    assert "no score of its own" in summary.describe()
    assert summary.to_dict()["full"]
    assert summary.results == ()


def test_how_long_is_learnt_from_the_folds(small, tmp_path):
    with pytest.raises(FoldError, match="run 'fresh' has no finished one"):
        train(small, run="fresh", fold="full")
    assert not (small.workspace.run_dir("fresh") / runs.RUN_RECORD).exists()
    with pytest.raises(ConfigError, match="full, all data, stands alone"):
        train(small, fold="0,full")
    train(small, "schedule=plateau", run="plateau", fold="0")
    with pytest.raises(ConfigError, match="on all data there are none"):
        train(small, "schedule=plateau", run="plateau", fold="full")
    shutil.rmtree(small.workspace.run_dir("plateau"))


def test_it_is_trained_anew_when_the_folds_say_otherwise(small):
    train(small, run="again", fold="0")
    train(small, run="again", fold="full")
    path = small.workspace.fold_dir("again", 0) / runs.FOLD_RECORD
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "epoch": 1 if record["epoch"] > 1 else 2}))
    assert train(small, run="again", fold="full").trained == (FULL,)
    shutil.rmtree(small.workspace.run_dir("again"))


def test_a_fold_that_begins_from_it_would_leak_and_is_refused(small):
    model = small.workspace.fold_dir("run", FULL) / runs.MODEL
    assert [(one.run, one.fold) for one in seen_by(model)] == [("run", FULL)]
    with pytest.raises(FoldError, match=r"all data of run 'run' was trained on \d+ images that fold 0 is validated on"):
        train(small, f"pretrained={model}", run="leaky", fold="0")


def test_it_predicts_and_blends_with_weights_of_the_folds(small, capsys, monkeypatch):
    predict_runs(small.setup(*ENTRIES), ["run"], PredictOptions("hflip", control=8))
    run = runs.read_run(small.workspace, "run")
    parts = runs.read_test(run)
    assert len(parts) == 4
    assert len(runs.read_test(run, runs.CONTROL)) == 4
    assert not (run.full.path / runs.OOF_VIEWS).exists()
    (again,) = predict_runs(small.setup(*ENTRIES), ["run"], PredictOptions("hflip", control=8))
    assert again.predicted == ()
    assert set(again.current) == {0, 1, 2, FULL}
    result = blend(small.setup(*ENTRIES), runs=["run"], name="with", method="weights")
    assert any("no score of its own" in note for note in result.notes)
    assert result.table()["folds"].tolist() == ["3/3 + full"]
    assert result.record.runs[0].models[FULL] == run.full.record.model_fingerprint
    mean = np.mean([part.probs for part in parts], axis=0)
    blended = read_predictions(small.workspace.submission_path("with").with_suffix(".probs.parquet"))
    np.testing.assert_allclose(blended.take(parts[0].ids).probs, mean, atol=1e-6)
    assert "FAILED" not in str(result.report.verdict)
    runs_check = next(check for check in result.report.checks if check.name == "contract: runs")
    assert "of run one is trained on all data and has no score of its own" in runs_check.evidence


def test_it_may_begin_from_that_of_another_run(small):
    train(small, "init_from=run", run="more", fold="0")
    train(small, "init_from=run", run="more", fold="full")
    record = runs.read_run(small.workspace, "more").full.record
    assert record.weights == "weights of all data of run run"
    assert [(one.run, one.fold) for one in seen_by(small.workspace.fold_dir("more", FULL) / runs.MODEL)] == [
        ("more", FULL),
        ("run", FULL),
    ]
    shutil.rmtree(small.workspace.run_dir("more"))


def test_a_kernel_ships_it(small, tmp_path):
    setup = small.setup(*ENTRIES)
    built = kernel.build_kernel(setup, tmp_path / "k", kernel.Address("ada"), kernel.Content(blend="with", force=True))
    assert {f"run-{part}.safetensors" for part in ("fold0", "fold1", "fold2", "full")} <= set(built.sizes)
    dataset = tmp_path / "input" / "x"
    shutil.copytree(built.dataset, dataset)
    shutil.copytree(small.workspace.root.parent / "data" / "test", tmp_path / "input" / "small" / "test")
    for place, damaged in (("whole", ()), ("alone", ("fold0", "fold1", "fold2"))):
        for part in damaged:
            (dataset / f"run-{part}.safetensors").write_bytes(b"cut short")
        result = kernel.run_inference_kernel(tmp_path / "input", tmp_path / place)
        assert result.n_prior == 0
    full, blended = (
        read_predictions(path)
        for path in (
            runs.read_run(small.workspace, "run").full.path / runs.TEST,
            small.workspace.submission_path("with").with_suffix(".probs.parquet"),
        )
    )
    for place, expected in (("whole", blended), ("alone", full)):
        made = read_predictions(tmp_path / place / "submission.probs.parquet")
        np.testing.assert_allclose(made.probs, expected.take(made.ids).probs, atol=1e-5)


def test_a_blend_from_before_it_is_out_of_date(small):
    run = runs.read_run(small.workspace, "run")
    path = small.workspace.submission_path("with").with_suffix(".json")
    record = json.loads(path.read_text())
    del record["runs"][0]["models"][str(FULL)]
    path.write_text(json.dumps(record))
    setup = small.setup(*ENTRIES)
    report = check_submission(
        path.with_suffix(".csv"), workspace=small.workspace, config=setup.config, competition=setup.competition
    )
    assert any("was blended with folds 0, 1, 2 and now has full, 0, 1, 2" in check.evidence for check in report.checks)
    assert run.full.finished


def test_killed_it_goes_on(small, monkeypatch):
    train(small, run="killed", fold="0")
    job = prepare_run(small.setup(*ENTRIES), folds_of(small), run="killed", fold_list=[FULL])[0]
    train_fold(job)
    expected = (job.folder / runs.MODEL).read_bytes()
    shutil.rmtree(job.folder)
    for step in (1, 4):
        with monkeypatch.context() as patch:
            kill_at(patch, loop, "update", step)
            with pytest.raises(Killed):
                train_fold(saving_always(job))
    train_fold(job)
    assert (job.folder / runs.MODEL).read_bytes() == expected
    shutil.rmtree(job.folder)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    launch_run(small.setup(*ENTRIES), LaunchOptions("local"), TrainOptions("killed", "full"))
    assert (job.folder / runs.MODEL).read_bytes() == expected
    shutil.rmtree(job.folder.parent)


def test_a_probe_and_stages_can_be_of_all_data(small):
    for number, entries in enumerate((["strategy=probe"], ["stages=[{epochs: 1, freeze: -1}, {epochs: 3}]"])):
        train(small, *entries, run=f"other{number}", fold="0")
        train(small, *entries, run=f"other{number}", fold="full")
        record = runs.read_run(small.workspace, f"other{number}").full.record
        assert record.finished
        assert record.epoch == runs.read_run(small.workspace, f"other{number}").folds[0].record.epoch
        shutil.rmtree(small.workspace.run_dir(f"other{number}"))


def test_from_the_command_line(small, monkeypatch, capsys):
    monkeypatch.chdir(small.workspace.root)
    monkeypatch.setattr("sys.argv", ["kk", "train", "--run", "none", "--fold", "full", "model=test_resnet", "pretrained=false"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert "kk train --run none --fold all" in capsys.readouterr().err.replace("\n", " ")
