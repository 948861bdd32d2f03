"""Two at once that write the same thing: one waits, or is refused by name, and what is left is of one of them, whole.

Locks hold between threads as between processes, so that threads at a barrier stand for processes. Two `kk folds`, two `kk
blend` and the locks of dead processes are tested with processes where each is at home.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from factories import Made, make_workspace
from fake_training import FakeTraining
from filelock import FileLock
from kernel_world import World, make_world
from tiny_competition import make_tiny
from tiny_search import Search, make_search

from kaggle_kit import files, kernel, runs
from kaggle_kit.blending.blend import blend
from kaggle_kit.check import check_submission
from kaggle_kit.competition import Setup, init_workspace
from kaggle_kit.competition import init as init_module
from kaggle_kit.config import FoldsConfig, load_config
from kaggle_kit.demo import run_demo
from kaggle_kit.errors import ConfigError, FoldError, KaggleKitError, LockedError, MissingFileError, SubmissionError
from kaggle_kit.folds import create_folds
from kaggle_kit.images import store
from kaggle_kit.inference import PredictOptions, predict_runs
from kaggle_kit.inference import run as inference_run
from kaggle_kit.kaggle_api.records import begin_entry
from kaggle_kit.kernel.bundle import read_bundle
from kaggle_kit.report import write_page
from kaggle_kit.report.make import make_report, page_path
from kaggle_kit.runs import comparison
from kaggle_kit.runs.comparison import remove_runs
from kaggle_kit.tables import Predictions, read_folds, read_prediction_meta, read_predictions
from kaggle_kit.training.run import Outcome, TrainOptions, train_run
from kaggle_kit.tune import objective
from kaggle_kit.workspace import Workspace

SOON = 60.0


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Begin calls together, a thread each; return what each returned, or the error of ours that it raised."""
    barrier = threading.Barrier(len(calls))

    def begin(call: Callable[[], Any]) -> Any:
        barrier.wait(SOON)
        try:
            return call()
        except KaggleKitError as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(begin, call) for call in calls]]


def in_background(call: Callable[[], Any]) -> Future[Any]:
    pool = ThreadPoolExecutor(1)
    future = pool.submit(call)
    pool.shutdown(wait=False)
    return future


def setup_of(made: Made) -> Setup:
    return Setup(made.workspace, made.config, made.competition)


def errors(results: Sequence[Any]) -> list[KaggleKitError]:
    return [result for result in results if isinstance(result, KaggleKitError)]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make_workspace(tmp_path / "made", n_runs=2, n_train=60, n_test=24)


@pytest.fixture(scope="module")
def world_of_module(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def world(world_of_module: World, tmp_path: Path) -> World:
    """Real, untrained models, in a copy that a test may change."""
    shutil.copytree(world_of_module.workspace.root, tmp_path / "world")
    root = tmp_path / "world"
    rows = {
        part: tuple(_moved(row, world_of_module.workspace.root, root) for row in getattr(world_of_module.competition, part))
        for part in ("train", "test")
    }
    competition = replace(world_of_module.competition, **rows, sample_path=root / "data" / "sample_submission.csv")
    return replace(world_of_module, workspace=Workspace(root), competition=competition)


def _moved(row: Any, old: Path, new: Path) -> Any:
    return replace(row, file=new / row.path.relative_to(old))


def test_two_kk_init(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, root, both_have_looked = made.workspace.root / "data", tmp_path / "new", threading.Barrier(2)
    infer = init_module.infer_competition

    def looks(*arguments: Any, **options: Any) -> Any:
        found = infer(*arguments, **options)
        both_have_looked.wait(SOON)
        return found

    monkeypatch.setattr(init_module, "infer_competition", looks)
    results = at_once(
        *(
            lambda name=name: init_workspace(data, root, choices={"label_separator": "none"}, name=name)
            for name in ("first", "second")
        )
    )
    (refused,) = errors(results)
    assert isinstance(refused, ConfigError)
    assert "exists and may hold your changes" in str(refused)
    winner = next(result for result in results if result is not refused)
    assert load_config(root / "kk.yaml").competition.name == winner.config.name


def test_kk_folds_while_a_run_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = make_tiny(tmp_path)
    tiny.folds.write(tiny.workspace.folds_path("folds"))
    divides: list[Future[Any]] = []
    write = runs.write_run_record

    def slowly(folder: Path, record: Any) -> None:
        settings = FoldsConfig(n_folds=2, seed=3, duplicates="off")
        divides.append(in_background(lambda: create_folds(tiny.workspace, tiny.competition, settings)))
        time.sleep(0.5)
        assert not divides[0].done()  # it waits
        write(folder, record)

    monkeypatch.setattr(runs, "write_run_record", slowly)
    train_run(tiny.setup("epochs=1"), TrainOptions("run", "0"), folds=tiny.folds, trainer=lambda *_, **__: Outcome())
    with pytest.raises(FoldError, match="run rests on"):
        divides[0].result(SOON)
    assert read_folds(tiny.workspace.folds_path("folds")).fingerprint == tiny.folds.fingerprint


@pytest.mark.parametrize("fold", ["0", "1"], ids=["same fold", "other fold"])
def test_two_kk_train_of_one_run(tmp_path: Path, fold: str) -> None:
    tiny, begun, go_on = make_tiny(tmp_path), threading.Event(), threading.Event()

    def trainer(*_: Any, **__: Any) -> Outcome:
        begun.set()
        go_on.wait(SOON)
        return Outcome()

    setup = tiny.setup("epochs=1")
    first = in_background(lambda: train_run(setup, TrainOptions("run", "0"), folds=tiny.folds, trainer=trainer))
    assert begun.wait(SOON)
    before = (tiny.workspace.run_dir("run") / runs.RUN_RECORD).read_bytes()
    for restart in (False, True):
        with pytest.raises(LockedError, match=r"run 'run' is in use by process.*--run NAME"):
            train_run(setup, TrainOptions("run", fold, restart), folds=tiny.folds, trainer=trainer)
    go_on.set()
    assert first.result(SOON).run == "run"
    assert (tiny.workspace.run_dir("run") / runs.RUN_RECORD).read_bytes() == before


def test_two_kk_predict(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference_run, "_PATIENCE", SOON)
    views = ("none", "hflip")
    results = at_once(*(lambda tta=tta: predict_runs(world.setup, ["b"], PredictOptions(tta, control=4)) for tta in views))
    assert errors(results) == []
    folders = [world.workspace.fold_dir("b", fold) for fold in (0, 1)]
    metas = [read_prediction_meta(folder / name) for folder in folders for name in (runs.TEST, runs.CONTROL)]
    assert len({meta["views"] for meta in metas}) == 1  # of one of the two, in all folds
    for folder in folders:
        test = read_predictions(folder / runs.TEST)
        stated = {read_prediction_meta(folder / name)["test_rows"] for name in (runs.TEST, runs.CONTROL)}
        assert stated == {runs.rows_fingerprint(test.ids, test.probs)}


def test_a_second_kk_predict_that_would_wait_too_long_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference_run, "_PATIENCE", 0.1)
    with runs.predictions_held(runs.choose_runs(world.workspace, ["b"])):
        with pytest.raises(LockedError, match="another process"):
            predict_runs(world.setup, ["b"])
        assert predict_runs(world.setup, ["a"], PredictOptions("hflip", control=4))[0].run == "a"


def test_kk_blend_waits_for_kk_predict(made: Made) -> None:
    chosen = runs.choose_runs(made.workspace)
    with runs.predictions_held(chosen):
        blended = in_background(lambda: blend(setup_of(made)))
        for fold in (fold for run in chosen for fold in run.folds):
            time.sleep(0.1)
            assert not blended.done()
            _say_otherwise(fold.path)
    path = blended.result(SOON).path
    written = read_predictions(path.with_suffix(".probs.parquet"))
    folds = [fold for run in chosen for fold in run.folds]
    expected = np.mean([read_predictions(fold.path / runs.TEST).take(written.ids).probs for fold in folds], axis=0)
    np.testing.assert_allclose(written.probs, expected, atol=1e-6)


def _say_otherwise(folder: Path) -> None:
    """Write a fold's test and control rows again with other probabilities, as another pass of ``kk predict`` does."""
    test = read_predictions(folder / runs.TEST)
    probs = (test.probs + 1 / test.probs.shape[1]) / 2
    of_pass = {"test_rows": runs.rows_fingerprint(test.ids, probs)}
    Predictions(test.ids, probs, test.classes, test.meta | of_pass, test.pixels).write(folder / runs.TEST)
    control = read_predictions(folder / runs.CONTROL)
    replace(control, meta=control.meta | of_pass).write(folder / runs.CONTROL)


def test_a_run_is_not_deleted_while_it_is_predicted_trained_or_blended(made: Made) -> None:
    chosen = runs.choose_runs(made.workspace, ["run0"])
    with runs.predictions_held(chosen), pytest.raises(LockedError):
        remove_runs(made.workspace, ["run0", "run1"])
    with FileLock(made.workspace.run_dir("run0") / ".lock"), pytest.raises(LockedError, match="being trained"):
        remove_runs(made.workspace, ["run0", "run1"])
    assert runs.list_runs(made.workspace) == ["run0", "run1"]


def test_a_run_that_somebody_else_deletes_meanwhile(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = comparison._alone

    def late(chosen: Sequence[Any]) -> Any:
        monkeypatch.setattr(comparison, "_alone", alone)
        remove_runs(made.workspace, ["run0"])
        return alone(chosen)

    monkeypatch.setattr(comparison, "_alone", late)
    with pytest.raises(MissingFileError, match="no run 'run0'"):
        remove_runs(made.workspace, ["run0", "run1"])
    assert runs.list_runs(made.workspace) == ["run1"]


def test_kk_train_restart_waits_for_kk_predict_and_kk_blend(tmp_path: Path) -> None:
    tiny = make_tiny(tmp_path)
    setup = tiny.setup("epochs=1")

    def train(*, restart: bool) -> Any:
        return train_run(setup, TrainOptions("run", "0", restart), folds=tiny.folds, trainer=lambda *_, **__: Outcome())

    train(restart=False)
    predicted = tiny.workspace.fold_dir("run", 0) / runs.TEST
    files.write_text(predicted, "of the pass that goes on")
    with runs.predictions_held(runs.choose_runs(tiny.workspace, ["run"])):
        restarted = in_background(lambda: train(restart=True))
        time.sleep(0.5)
        assert not restarted.done()
        assert predicted.exists()
    restarted.result(SOON)
    assert not predicted.exists()


def test_kk_cache_drop_waits_for_whoever_fills_the_store(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(row.id, row.path) for row in world.competition.train]
    cache, fill, begun, go_on = world.workspace.cache_dir, store.fill, threading.Event(), threading.Event()

    def slowly(*arguments: Any, **options: Any) -> Any:
        begun.set()
        go_on.wait(SOON)
        return fill(*arguments, **options)

    monkeypatch.setattr(store, "fill", slowly)
    filled = in_background(lambda: store.open_store(cache, rows, (8, 8)))
    assert begun.wait(SOON)
    (folder,) = store.chosen_stores(cache)
    dropped = in_background(lambda: store.drop_store(folder))
    time.sleep(0.3)
    assert not dropped.done()
    go_on.set()
    assert filled.result(SOON).directory == folder
    assert dropped.result(SOON) > 0
    assert store.list_stores(cache) == []
    assert len(store.open_store(cache, rows, (8, 8))) == len(rows)


def test_a_page_and_the_images_beside_it_are_of_one_call(made: Made) -> None:
    with files.lock_beside(page_path(made.workspace, ["run0"])):
        reported = in_background(lambda: make_report(setup_of(made), ["run0"]))
        time.sleep(0.3)
        assert not reported.done()
    assert reported.result(SOON).path.is_file()


def test_two_demos_in_one_folder(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    (folder / "data").mkdir(parents=True)
    with files.lock_beside(folder), pytest.raises(LockedError, match=r"another process is changing .*demo and"):
        run_demo(folder, force=True, execute=lambda _: None)
    assert (folder / "data").is_dir()


def test_kk_blend_and_kk_submit_of_one_name(made: Made) -> None:
    """Either the old file is sent and kept, or the new one is there and the old one was not sent."""
    path = blend(setup_of(made), name="mine").path
    for method in ("rank", "gmean", "power"):
        sent = {"ref": None, "sha256": files.file_fingerprint(path), "status": "uploading", "date": "2026-01-02"}
        blended, begun = at_once(
            lambda method=method: blend(setup_of(made), name="mine", method=method, force=True),
            lambda sent=sent: begin_entry(path, sent),
        )
        if begun is None:
            assert isinstance(blended, SubmissionError)
            assert files.file_fingerprint(path) == sent["sha256"]
            break
        assert "was written over while it was being sent" in str(begun)
        assert blended.record.method == method
        assert runs.read_blend_record(path).kaggle == {}
    else:
        begin_entry(path, {"ref": None, "sha256": files.file_fingerprint(path), "status": "uploading"})
    with pytest.raises(SubmissionError, match="was sent to Kaggle"):
        blend(setup_of(made), name="mine", force=True)


def test_two_kk_tune_of_one_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search: Search = make_search(tmp_path)
    training = FakeTraining(before_epoch=lambda *_: time.sleep(0.01))
    monkeypatch.setattr(objective, "train_run", training)
    monkeypatch.setattr("kaggle_kit.tune.search.write_study_page", lambda *_, **__: None)
    space = search.write_space("lr: {log: [1e-4, 1.0]}")
    results = at_once(*[lambda: search.tune(trials=6, space=space)] * 2)
    assert errors(results) == []
    rows = max((result.rows for result in results), key=len)
    assert len(rows) in (6, 7)  # each begins no trial once six have ended, and one may be at work
    assert sorted(training.names()) == [f"trial-{row.number:04}" for row in rows]  # each trial was trained once
    assert sum(row.changes == {} for row in rows) == 1
    assert search.tune(trials=6, space=space).count("complete") == len(rows)


def test_two_kk_kernel_build_into_one_folder(world: World, tmp_path: Path) -> None:
    out = tmp_path / "kernel"

    def build(blended: str) -> Any:
        content = kernel.Content(runs=[blended])
        return kernel.build_kernel(world.setup, out, kernel.Address("ada"), content)

    results = at_once(lambda: build("a"), lambda: build("b"))
    assert errors(results) == []
    bundle = read_bundle(out / "dataset")
    assert bundle.damaged(bundle.files) == {}
    assert bundle.build in {result.build for result in results}
    assert [path.name for path in tmp_path.iterdir() if path.is_dir() and path.name.startswith(".")] == []


def test_what_a_killed_kernel_build_left_is_cleared_away(world: World, tmp_path: Path) -> None:
    left = tmp_path / ".kernel-building-0123abcd" / "built"
    left.mkdir(parents=True)
    kernel.build_kernel(world.setup, tmp_path / "kernel", kernel.Address("ada"), kernel.Content(runs=["a"]))
    assert not left.exists()


def test_pages_are_whole_whoever_writes_them(tmp_path: Path) -> None:
    path, over = tmp_path / "page.html", threading.Event()

    def write(line: str) -> None:
        for _ in range(15):
            page = {"lines": [line] * 200, "plots": [], "trials": pd.DataFrame(), "sections": [], "to_copy": ""}
            write_page(path, "tune.html", title=line, **page)

    def read() -> None:
        while not over.is_set():
            if path.exists():
                text = path.read_text()
                assert text.rstrip().endswith("</html>")
                assert text.count("<p>aaa</p>") + text.count("<p>bbb</p>") == 200

    reader = in_background(read)
    try:
        assert at_once(lambda: write("aaa"), lambda: write("bbb")) == [None, None]
    finally:
        over.set()
    reader.result(SOON)
    text = path.read_text()
    assert {text.count("<p>aaa</p>"), text.count("<p>bbb</p>")} == {0, 200}


def test_kk_check_of_a_submission_that_is_written_over(made: Made) -> None:
    """The verdict says of which bytes it is, so that it is never taken for that of others."""
    path = blend(setup_of(made), name="mine").path
    at_once(
        lambda: check_submission(path, workspace=made.workspace, config=made.config, competition=made.competition),
        lambda: blend(setup_of(made), name="mine", method="rank", force=True),
    )
    verdict = files.read_json(path.with_suffix(".check.json"), made_by="kk check")
    if verdict["sha256"] != files.file_fingerprint(path):
        from kaggle_kit.check import require_passed

        with pytest.raises(SubmissionError, match="was changed after it was checked"):
            require_passed(path, root=made.workspace.root)
