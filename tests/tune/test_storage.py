"""Storages: shared by machines, freed of killed trials, and errors that help. PostgreSQL is a real server."""

import logging
import multiprocessing
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import optuna
import pytest
from fake_training import FakeTraining
from optuna.trial import TrialState
from tiny_search import open_search

from kaggle_kit.errors import ConfigError, DependencyError, MissingFileError, RemoteError
from kaggle_kit.tune import objective, open_dashboard, storage
from kaggle_kit.tune.storage import open_storage, shown_url
from kaggle_kit.tune.study import OWNER, retry, revive_orphans

pytestmark = pytest.mark.usefixtures("pages")


@pytest.fixture(params=["sqlite", "journal"])
def shared(request, search):
    """A storage that two machines can reach."""
    path = search.workspace.root / "shared"
    return f"sqlite:///{path}.db" if request.param == "sqlite" else f"{path}.journal"


@pytest.fixture(scope="module")
def postgres():
    """URL of a database of a server that runs for these tests."""
    pytest.importorskip("psycopg")
    found = [str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))]
    initdb = shutil.which("initdb") or (found[-1] if found else None)
    if initdb is None:
        pytest.skip("PostgreSQL is not installed")
    folder = Path(tempfile.mkdtemp(prefix="kk-pg-"))
    # The server refuses to run as root.
    user = {} if os.geteuid() else {"user": _server_user(), "cwd": folder}
    if user:
        shutil.chown(folder, user["user"])
    options = ["-D", str(folder / "data"), "-U", "kk", "--auth=trust", "--no-sync"]
    subprocess.run([initdb, *options], check=True, capture_output=True, **user)
    port = _free_port()
    server = subprocess.Popen(
        [
            str(Path(initdb).resolve().with_name("postgres")),
            *("-D", str(folder / "data"), "-k", str(folder), "-h", "127.0.0.1", "-p", str(port), "-F"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **user,
    )
    try:
        _wait_for(lambda: _accepts(port), lambda: server.poll() is None)
        yield f"postgresql://kk@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(timeout=30)
        shutil.rmtree(folder)


def _server_user():
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    return pytest.skip("there is no user to run PostgreSQL as")


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _accepts(port):
    import psycopg

    try:
        psycopg.connect(f"postgresql://kk@127.0.0.1:{port}/postgres", connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def _wait_for(condition, is_alive, seconds=90.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert is_alive(), "the process has ended"
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def work(root, url, trials, hang):
    """A machine of a shared study; at the run and epoch of ``hang`` it tells so by a file and waits to be killed."""

    def wait(run, fold, epoch):
        time.sleep(0.05)
        if (run, epoch) == hang:
            (root / "waiting").touch()
            time.sleep(600)

    objective.train_run = FakeTraining(before_epoch=wait)
    open_search(root).tune(storage=url, trials=trials)


def start_worker(search, url, trials, hang=None):
    # Forked: importing torch again would take longer than all that is tested here.
    worker = multiprocessing.get_context("fork").Process(target=work, args=(search.workspace.root.parent, url, trials, hang))
    worker.start()
    return worker


def kill_at(search, url, trials, hang):
    """Start a worker and kill it, as power loss would, in the epoch that ``hang`` names."""
    waiting = search.workspace.root.parent / "waiting"
    worker = start_worker(search, url, trials, hang)
    try:
        _wait_for(waiting.exists, worker.is_alive)
    finally:
        worker.kill()
        worker.join()


def states(result):
    return [row.state for row in result.rows]


def test_a_trial_that_was_killed_goes_on_at_once(search, training, shared):
    kill_at(search, shared, 3, ("trial-0001", 3))
    result = search.tune(storage=shared, trials=3)
    assert states(result) == ["complete", "interrupted", "complete", "complete"]
    assert result.rows[2].changes == result.rows[1].changes
    assert [(name, restart) for name, _, restart, _ in training.calls] == [("trial-0001", False), ("trial-0003", True)]


def test_machines_share_a_study(search, training, shared):
    search.tune(storage=shared, trials=2, seed=0)
    elsewhere = search.tune(storage=shared, trials=5, seed=0)
    assert states(elsewhere) == ["complete"] * 5
    assert len(training.calls) == 5
    drawn = [row.changes.get("optimizer.lr") for row in elsewhere.rows]
    assert len(set(drawn)) == 5  # the second machine draws on, though its seed is the same


@pytest.fixture
def short_grace(monkeypatch):
    monkeypatch.setattr(storage, "HEARTBEAT_SECONDS", 1)
    monkeypatch.setattr(storage, "GRACE_SECONDS", 1)


def begin_elsewhere(url, name="tune"):
    """A trial that another machine has begun and does not go on with."""
    study = optuna.load_study(study_name=name, storage=open_storage(url))
    trial = study.ask()
    trial.suggest_float("optimizer.lr", 1e-4, 1.0, log=True)
    trial.suggest_float("model.drop_rate", 0.0, 0.5)
    trial.report(0.25, 1)
    trial.set_user_attr(OWNER, {"pid": 1, "host": "elsewhere", "started": 0.0})
    study._storage.record_heartbeat(trial._trial_id)
    return study, trial


def heartbeat_is_missed(search, training, url):
    search.tune(storage=url, trials=1)
    study, trial = begin_elsewhere(url)
    assert revive_orphans(study) == []  # whether a process of another machine lives cannot be seen from here
    time.sleep(2.2)
    result = search.tune(storage=url, trials=3)
    assert states(result)[:3] == ["complete", "interrupted", "complete"]
    again = result.rows[2]
    assert study.trials[2].params == trial.params
    assert again.score == pytest.approx(training.score(training.calls[1][3], 0))


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
def test_a_trial_of_another_machine_is_found_by_its_heartbeat(search, training, short_grace):
    heartbeat_is_missed(search, training, f"sqlite:///{search.workspace.root}/shared.db")


def test_a_journal_has_no_heartbeat(search, training, tmp_path, short_grace):
    url = str(tmp_path / "journal" / "study.log")
    search.tune(storage=url, trials=1)
    study = optuna.load_study(study_name="tune", storage=open_storage(url))
    trial = study.ask()
    trial.set_user_attr(OWNER, {"pid": 1, "host": "elsewhere", "started": 0.0})
    time.sleep(1.5)
    assert states(search.tune(storage=url, trials=2)) == ["complete", "running", "complete"]


def test_a_trial_that_was_taken_for_dead_is_left_to_the_other_machine(search, training, shared, caplog):
    def fall_silent(run, fold, epoch):
        if (run, epoch) == ("trial-0001", 2) and training.names().count(run) == 1:
            study = optuna.load_study(study_name="tune", storage=open_storage(shared))
            study.tell(1, state=TrialState.FAIL)
            retry(study, 1)

    training.before_epoch = fall_silent
    result = search.tune(storage=shared, trials=3)
    assert states(result) == ["complete", "interrupted", "complete", "complete"]
    assert "trial 1 was silent for too long; another machine goes on with it" in caplog.text
    assert training.names() == ["trial-0000", "trial-0001", "trial-0001", "trial-0003"]


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
class TestPostgres:
    def test_two_machines_and_a_kill(self, search, training, postgres):
        kill_at(search, postgres, 3, ("trial-0001", 2))
        worker = start_worker(search, postgres, 12)
        study = optuna.load_study(study_name="tune", storage=open_storage(postgres))
        _wait_for(lambda: len(study.trials) > 3, worker.is_alive)  # it works, too
        result = search.tune(storage=postgres, trials=12)
        worker.join(timeout=120)
        assert worker.exitcode == 0
        assert training.calls, "the worker did everything"
        result = search.tune(storage=postgres, trials=12)
        assert states(result).count("complete") in (12, 13)  # each machine finishes the trial that it is at
        assert states(result).count("interrupted") == 1
        retried = next(row for row in result.rows[2:] if row.changes == result.rows[1].changes)
        assert retried.state == "complete"

    def test_heartbeat(self, search, training, postgres, short_grace):
        import psycopg

        with psycopg.connect(postgres, autocommit=True) as connection:
            connection.execute("create database heartbeat")
        heartbeat_is_missed(search, training, postgres.replace("/postgres", "/heartbeat"))

    def test_a_database_that_does_not_exist(self, postgres):
        with pytest.raises(RemoteError, match=r"(?s)/nowhere cannot be used: .*does not exist"):
            open_storage(postgres.replace("/postgres", "/nowhere"))


def test_a_server_that_does_not_answer_is_named_without_the_password():
    pytest.importorskip("psycopg")
    with pytest.raises(RemoteError) as error:
        open_storage(f"postgresql://kk:secret@127.0.0.1:{_free_port()}/study")
    assert "kk:***@127.0.0.1" in str(error.value)
    assert "secret" not in str(error.value)


def test_a_driver_that_is_not_installed(monkeypatch):
    with pytest.raises(DependencyError, match="pip install pymysql"):
        open_storage("mysql+pymysql://kk@127.0.0.1/study")


def test_what_is_no_database():
    with pytest.raises(ConfigError, match="no database URL"):
        open_storage("nosuch://host/study")
    with pytest.raises(ConfigError, match="no database URL"):
        open_storage("://")


def test_passwords_are_never_shown():
    assert shown_url("postgresql://kk:secret@host/study") == "postgresql://kk:***@host/study"
    assert shown_url("runs/study.journal") == "runs/study.journal"


def test_optuna_logs_as_before_afterwards(search, training):
    before = optuna.logging.get_verbosity()
    search.tune(trials=1)
    assert optuna.logging.get_verbosity() == before
    assert logging.getLogger("kaggle_kit.training").level == logging.NOTSET


class TestDashboard:
    def test_without_the_package(self, search):
        try:
            import optuna_dashboard  # noqa: F401
        except ImportError:
            with pytest.raises(DependencyError, match=r"pip install 'kaggle-kit\[dashboard\]'"):
                open_dashboard(search.workspace)

    def test_serves_the_study(self, search, training, monkeypatch):
        served = []
        module = type(sys)("optuna_dashboard")
        module.run_server = lambda backend, host, port: served.append((backend.get_all_studies()[0].study_name, host, port))
        monkeypatch.setitem(sys.modules, "optuna_dashboard", module)
        search.tune(study="mine", trials=1)
        open_dashboard(search.workspace, "mine", port=8081)
        assert served == [("mine", "127.0.0.1", 8081)]
        with pytest.raises(MissingFileError, match="no study 'other'"):
            open_dashboard(search.workspace, "other")


def test_states_are_those_of_optuna():
    assert {state.name for state in TrialState} == {"RUNNING", "COMPLETE", "PRUNED", "FAIL", "WAITING"}
