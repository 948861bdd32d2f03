import logging
import os
import shutil
import signal
import subprocess
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest
import torch
from small_workspace import make_small
from tiny_competition import at_epochs

from kaggle_kit import files, runs
from kaggle_kit.config import HardwareConfig
from kaggle_kit.errors import ConfigError, LockedError, TrainingError
from kaggle_kit.events import EpochEnded, FoldEnded, FoldStarted, Warned, from_json
from kaggle_kit.images.store import open_store
from kaggle_kit.launch import LaunchOptions, launch_run, local, worker
from kaggle_kit.launch.local import device_slots
from kaggle_kit.launch.process import Ending, command_of, gather, how_it_ended
from kaggle_kit.launch.worker import WarningSender, job_of, read_launch, record_launch, train_launched
from kaggle_kit.tables import read_folds
from kaggle_kit.training import Stop, TrainOptions, prepare_run, train_run
from kaggle_kit.training.job import Found, make_jobs
from kaggle_kit.training.locking import fold_lock, run_lock

RESULTS = (runs.MODEL, runs.OOF)


@pytest.fixture(scope="module")
def threads():
    """As many threads in workers as here, since sums depend on it."""
    before, count = os.environ.get("OMP_NUM_THREADS"), torch.get_num_threads()
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(count)
    if before is None:
        del os.environ["OMP_NUM_THREADS"]
    else:
        os.environ["OMP_NUM_THREADS"] = before


@pytest.fixture(scope="module")
def small(tmp_path_factory, threads):
    return make_small(tmp_path_factory.mktemp("launch"))


@pytest.fixture
def fresh(small):
    shutil.rmtree(small.workspace.runs_dir, ignore_errors=True)
    return small


def on(kind, function):
    """A reporter that calls a function with the fold of each event of a kind."""
    return lambda event: function(event.fold) if isinstance(event, kind) else None


def launch(small, *overrides, reporter=None, stop=None, fold="all", time_limit=None, **where):
    wanted = TrainOptions("run", fold, time_limit=time_limit)
    return launch_run(small.setup(*overrides), LaunchOptions(**where), wanted, stop=stop, reporter=reporter)


def written(small):
    folders = [small.workspace.fold_dir("run", fold) for fold in range(2)]
    return [(folder / name).read_bytes() for folder in folders for name in RESULTS] + small.outcome("run", folds=2)


def workers():
    processes = psutil.Process().children(recursive=True)
    return [process for process in processes if "--launched" in process.cmdline()]


def launched_here(small, *overrides, loaders=1):
    """What a launcher writes down before it starts workers for fold 0, and the job of that fold."""
    config = small.config(*overrides)
    folds = read_folds(small.workspace.folds_path("folds"))
    job = prepare_run(small.setup(*overrides), folds, run="run", fold_list=[0])[0]
    return record_launch([job], small.workspace, config, loaders=loaders), job


def test_the_files_are_those_of_one_process_and_a_second_train_is_refused(fresh):
    small, refused = fresh, []

    def try_too(_):
        with pytest.raises(LockedError, match=f"process {os.getpid()}"), run_lock(small.workspace.run_dir("run")):
            pass
        refused.append(True)

    train_run(small.setup(), TrainOptions("run", "0-1"))
    expected = written(small)
    shutil.rmtree(small.workspace.run_dir("run"))
    summary = launch(small, devices=2, fold="0-1", reporter=on(EpochEnded, try_too))
    assert written(small) == expected
    assert summary.trained == (0, 1)
    assert refused
    folder = small.workspace.run_dir("run")
    assert "images to train on" not in (folder / "logs" / "fold0.log").read_text()  # told, not logged
    assert (folder / runs.TRAIN_LOG).read_text().count("images to train on") == 2
    assert launch(small, devices=2, fold="0-1").trained == ()


def test_a_killed_worker_leaves_the_other_fold_running_and_is_named_with_its_log(fresh):
    folder = fresh.workspace.run_dir("run")

    def kill(fold):
        if fold == 0:
            workers()[0].kill()

    with pytest.raises(TrainingError) as caught:
        launch(fresh, devices=1, fold="0-1", reporter=on(FoldStarted, kill))
    text = str(caught.value)
    assert "1 of 2 folds of run 'run' failed:\n  fold 0: its process was ended by SIGKILL" in text
    assert str(folder / "logs" / "fold0.log") in text
    assert runs.read_fold(folder / "fold1", 1).finished


@pytest.mark.parametrize(
    ("code", "said", "asked", "expected"),
    [
        (0, FoldEnded(0, "finished", "accuracy 1"), None, Ending()),
        (1, FoldEnded(0, "failed", "NaN."), None, Ending(failed="NaN. Log: x.log")),
        (143, FoldEnded(0, "stopped", "SIGTERM"), "Ctrl-C", Ending(stopped="SIGTERM")),
        (143, FoldEnded(0, "stopped", "SIGTERM"), None, Ending(failed="SIGTERM, not by this call. Log: x.log")),
        (-15, None, "Ctrl-C", Ending(stopped="Ctrl-C")),
    ],
)
def test_how_a_worker_ended(code, said, asked, expected):
    assert how_it_ended(code, said, asked, Path("x.log")) == expected
    assert "code 3" in how_it_ended(3, None, None, Path("x.log")).failed


def test_sigterm_reaches_the_workers_which_keep_their_checkpoints(fresh):
    begun = set()

    def stop(fold):
        begun.add(fold)
        if len(begun) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    summary = launch(fresh, "epochs=3000", devices=2, reporter=on(EpochEnded, stop))
    assert summary.stopped == "SIGTERM was received"
    assert (summary.results, summary.failed) == ((), {})
    states = [fold.record.state for fold in runs.read_run(fresh.workspace, "run").folds]
    assert states == ["stopped", "stopped", "empty"]
    assert all((fresh.workspace.fold_dir("run", fold) / runs.LAST).exists() for fold in (0, 1))
    assert not workers()


def test_what_the_caller_raises_at_an_epoch_comes_when_the_workers_have_stopped(fresh):
    class Enough(Exception):
        pass

    def enough(fold, row):
        if row.epoch == 2:
            raise Enough

    with pytest.raises(Enough):
        launch(fresh, "epochs=3000", fold="0", reporter=at_epochs(enough))
    fold = runs.read_fold(fresh.workspace.fold_dir("run", 0), 0)
    assert fold.record.state == "stopped"
    assert (fold.path / runs.LAST).exists()
    assert not workers()


def test_a_launch_ends_with_what_it_is_a_part_of(fresh):
    whole = Stop()
    summary = launch(
        fresh, "epochs=3000", fold="0", reporter=on(EpochEnded, lambda _: whole.request("that will do")), stop=whole
    )
    assert summary.stopped == "that will do" or "SIGTERM" in summary.stopped
    assert summary.results == ()


def test_a_worker_whose_launcher_dies_keeps_its_checkpoint_and_its_lock_until_then(fresh):
    record, job = launched_here(fresh, "epochs=3000")
    command = command_of(record, 0)
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    events = []
    for line in process.stdout:
        events.append(from_json(line))
        if isinstance(events[-1], EpochEnded):
            break
    with pytest.raises(LockedError, match="fold 0 of run 'run'"), fold_lock(job.folder.parent, 0, patience=0.1):
        pass
    with fold_lock(job.folder.parent, 1, patience=0.1):
        pass
    process.stdin.close()
    events += [from_json(line) for line in process.stdout]
    assert events[-1] == FoldEnded(0, "stopped", "SIGTERM was received")
    assert process.wait(10) == 143
    assert (job.folder / runs.LAST).exists()


@pytest.fixture
def here(monkeypatch):
    """A worker in this process: it does not watch the standard input, and the logger is given back."""
    logger = logging.getLogger("kaggle_kit")
    before = logger.handlers[:], logger.level, logger.propagate
    monkeypatch.setattr(worker, "_end_with_launcher", lambda: None)
    yield
    logger.handlers[:], logger.level, logger.propagate = before


def test_a_worker_that_finds_other_data_refuses(fresh, here):
    record, _ = launched_here(fresh)
    said = []
    files.write_json(record.path, {**asdict(record), "inputs": {"0": "0" * 64}})
    assert train_launched(record.path, 0, said.append) == 1
    assert "would not be trained from what the launcher has" in said[-1].text
    files.write_json(record.path, {**asdict(record), "root": str(fresh.workspace.root / "elsewhere")})
    assert train_launched(record.path, 0, said.append) == 1
    assert said[-1].state == "failed"
    files.write_json(record.path, {"root": "x"})
    assert train_launched(record.path, 0, said.append) == 1
    assert "is not what `kk train --launcher` writes" in said[-1].text


def test_loader_processes_are_shared_out_unless_configured(fresh):
    record, job = launched_here(fresh, loaders=3)
    assert job_of(record, 0).config.data.workers == 0  # few rows
    assert job_of(record, 0).inputs == job.inputs
    fixed, _ = launched_here(fresh, "workers=2")
    assert job_of(fixed, 0).config.data.workers == 2


def test_workers_begin_from_the_run_that_the_launcher_names(fresh):
    train_run(fresh.setup("epochs=1"), TrainOptions("first", "0"))
    record, job = launched_here(fresh, "init_from=first")
    there = job_of(record, 0)
    assert there.inputs == job.inputs
    assert there.weights.path == fresh.workspace.fold_dir("first", 0) / runs.MODEL
    assert there.starts_trained


def test_workers_read_what_the_launcher_reads(fresh):
    _, job = launched_here(fresh)
    rows = [(row.id, row.path) for row in fresh.competition.train]
    store = open_store(fresh.workspace.cache_dir, rows, (32, 32))
    bad = rows[0][0]
    found = Found({job.fold: job.weights}, (bad,), store, job.contents)
    folds = read_folds(fresh.workspace.folds_path("folds"))
    jobs = list(make_jobs(fresh.setup().with_run(job.config), folds, run="run", fold_list=[0], found=found))
    record = record_launch(jobs, fresh.workspace, fresh.config(), loaders=1)
    there = job_of(read_launch(record.path), 0)
    assert there.left_out == (bad,)
    assert there.source.directory == store.directory.absolute()
    assert {"0": there.inputs} == record.inputs
    assert there.inputs != job.inputs


@pytest.mark.parametrize(
    ("options", "overrides", "message"),
    [
        ({"devices": 0}, (), "devices must lie in"),
        ({"address": "auto"}, (), "launcher ray"),
        ({"launcher": "locale"}, (), "Did you mean 'local'"),
        ({}, ("devices=2",), "leave the entry out"),
    ],
)
def test_what_cannot_be_is_refused(fresh, options, overrides, message):
    with pytest.raises(ConfigError, match=message):
        launch(fresh, *overrides, **options)


@pytest.mark.parametrize(
    ("visible", "devices", "expected"), [(None, None, ["0", "1"]), (None, 1, ["0"]), ("5,GPU-ab", 2, ["5", "GPU-ab"])]
)
def test_each_worker_sees_one_gpu(monkeypatch, visible, devices, expected):
    monkeypatch.setattr(local, "choose_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in device_slots(HardwareConfig(), devices)] == expected
    with pytest.raises(ConfigError, match=r"1\.\.2, got 3"):
        device_slots(HardwareConfig(), 3)


def test_processes_on_the_cpu_share_its_threads(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(local, "available_cpus", lambda: 8)
    slots = device_slots(HardwareConfig(accelerator="cpu"), 4)
    assert slots == [{"OMP_NUM_THREADS": "2"}] * 4
    assert device_slots(HardwareConfig(accelerator="cpu"), None) == [{"OMP_NUM_THREADS": "8"}]


def test_a_worker_that_lies_is_found_out(fresh):
    _, job = launched_here(fresh)
    assert "is not complete" in gather([], [job], {0: Ending()}).failed[0]
    assert gather([], [job], {}).stopped


def test_warnings_arrive():
    events = []
    logger = logging.getLogger("a worker")
    logger.addHandler(WarningSender(events.append, fold=3))
    logger.warning("an %s", "oddity")
    logger.info("nothing")
    assert events == [Warned(3, "an oddity")]
