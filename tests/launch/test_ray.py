"""A real cluster of two nodes on this machine, one of which is lost while it trains."""

import os

import pytest
from small_workspace import make_small

from kaggle_kit.launch import launch_run
from kaggle_kit.training import LogReporter, train_run

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
ray = pytest.importorskip("ray")

FAST = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4}
"""A dead node is noticed in seconds."""
OVERRIDES = ("epochs=40", "checkpoint_minutes=0.001")


@pytest.fixture
def cluster(monkeypatch):
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    head = {"num_cpus": 1, "include_dashboard": False, "_system_config": FAST, "object_store_memory": 80_000_000}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        yield cluster
    finally:
        cluster.shutdown()


class LoseNode(LogReporter):
    """Ends a node when both folds are in their third epoch."""

    def __init__(self, cluster, node):
        super().__init__()
        self.cluster, self.node = cluster, node
        self.seen, self.starts, self.lost = set(), [], False

    def fold_start(self, fold, text):
        self.starts.append((fold, "going on from" in text))

    def epoch_end(self, fold, row, *_, **__):
        if row.epoch == 3:
            self.seen.add(fold)
        if len(self.seen) == 2 and not self.lost:
            self.lost = True
            self.cluster.remove_node(self.node, allow_graceful=False)


def test_a_lost_node_costs_nothing_but_time(tmp_path, cluster):
    node = cluster.add_node(num_cpus=1, object_store_memory=80_000_000)
    small = make_small(tmp_path)
    reporter = LoseNode(cluster, node)
    options = {"run": "run", "fold": "0-1"}
    summary = launch_run(
        *(small.workspace, small.config(*OVERRIDES), small.competition),
        launcher="ray",
        address=cluster.address,
        reporter=reporter,
        **options,
    )
    found = small.outcome("run", folds=2)
    assert summary.trained == (0, 1)
    assert reporter.lost
    assert len(reporter.starts) == 3
    assert reporter.starts[-1][1]  # the third start went on from the checkpoint
    assert not list(small.workspace.run_dir("run").glob(".launch-*"))
    small.workspace.run_dir("run").rename(tmp_path / "by-ray")
    train_run(small.workspace, small.config(*OVERRIDES), small.competition, **options)
    assert small.outcome("run", folds=2) == found
