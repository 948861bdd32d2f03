"""A real cluster of two nodes on this machine, one of which is lost while it trains."""

import pytest
from ray_nodes import another_node, one_node
from small_workspace import make_small

from kaggle_kit import Project, runs
from kaggle_kit.auto import scene, search
from kaggle_kit.errors import WeightsError
from kaggle_kit.events import EpochEnded, FoldStarted
from kaggle_kit.launch import LaunchOptions, launch_run, ray
from kaggle_kit.training import TrainOptions, train_run

pytest.importorskip("ray")

OVERRIDES = ("epochs=40", "checkpoint_minutes=0.001")


@pytest.fixture(scope="module")
def head():
    with pytest.MonkeyPatch.context() as monkeypatch, one_node(monkeypatch) as found:
        yield found


@pytest.fixture
def cluster(head):
    with another_node(head) as node:
        yield head, node


class LoseNode:
    """A reporter that ends a node when both folds are in their third epoch."""

    def __init__(self, cluster, node):
        self.cluster, self.node = cluster, node
        self.seen, self.starts, self.lost = set(), [], False

    def __call__(self, event):
        if isinstance(event, FoldStarted):
            self.starts.append((event.fold, "going on from" in event.text))
        if isinstance(event, EpochEnded) and event.row.epoch == 3:
            self.seen.add(event.fold)
        if len(self.seen) == 2 and not self.lost:
            self.lost = True
            self.cluster.remove_node(self.node, allow_graceful=False)


def met(marks):
    """``supervise`` that begins once tasks have come to two nodes, so that no slow start of one lets the other do it all."""
    marks.mkdir()

    def supervise(*arguments):  # a closure: Ray sends it whole, as the nodes cannot import this module
        import time

        from ray import get_runtime_context

        from kaggle_kit.launch import ray

        (marks / get_runtime_context().get_node_id()).touch()
        end = time.monotonic() + 120
        while len(list(marks.iterdir())) < 2 and time.monotonic() < end:
            time.sleep(0.1)
        return ray.supervise(*arguments)

    return supervise


def test_a_lost_node_costs_nothing_but_time(tmp_path, cluster, monkeypatch):
    small = make_small(tmp_path)
    monkeypatch.setattr(ray, "supervise", met(tmp_path / "nodes"))
    reporter = LoseNode(*cluster)
    setup, options = small.setup(*OVERRIDES), TrainOptions("run", "0-1")
    summary = launch_run(setup, LaunchOptions("ray", address=cluster[0].address), options, reporter=reporter)
    found = small.outcome("run", folds=2)
    assert summary.trained == (0, 1)
    assert reporter.lost
    assert len(reporter.starts) == 3
    assert reporter.starts[-1][1]  # the third start went on from the checkpoint
    assert not list(small.workspace.run_dir("run").glob(".launch-*"))
    small.workspace.run_dir("run").rename(tmp_path / "by-ray")
    train_run(setup, options)
    assert small.outcome("run", folds=2) == found


def test_kk_auto_trains_its_runs_on_both_nodes(tmp_path, cluster, monkeypatch):
    def nowhere(name, pretrained):
        raise WeightsError("no weights")

    small = make_small(tmp_path)
    monkeypatch.setattr(ray, "supervise", met(tmp_path / "nodes"))
    monkeypatch.setattr(scene, "local_backbones", lambda only=(), pretrained=True: [])
    monkeypatch.setattr(scene, "find_weights", nowhere)
    monkeypatch.setattr(search, "_MEASURE_SECONDS", 1e6)  # there is no time to measure what comes after the first run
    where = {"launcher": "ray", "address": cluster[0].address}
    result = Project(small.workspace).auto(time_limit="1h", goal="fast", internet=False, **where)
    assert result.ended == "nothing is left to try"
    (name,) = result.runs
    assert [fold.finished for fold in runs.read_run(small.workspace, name).folds] == [True] * 3
    assert len(result.submission.read_text().splitlines()) == 1 + 9
    assert len(list((tmp_path / "nodes").iterdir())) == 2
