"""Trials on a real Ray cluster of two nodes on this machine, one of which is lost."""

import math

import pytest
from ray_nodes import another_node, one_node
from tiny_search import Silent

from kaggle_kit.competition import Setup
from kaggle_kit.config import load_config
from kaggle_kit.training import TrainOptions, train_run

pytest.importorskip("ray")

RUN = (
    *("model=test_resnet", "pretrained=false", "image_size=32", "epochs=30", "workers=0", "lr=0.01"),
    "checkpoint_minutes=0.001",
)


@pytest.fixture
def cluster(monkeypatch):
    with one_node(monkeypatch) as head, another_node(head) as node:
        yield head, node


class LoseNode(Silent):
    """Ends a node when two trials are in their third epoch."""

    def __init__(self, cluster, node):
        super().__init__()
        self.cluster, self.node, self.lost = cluster, node, False

    def __call__(self, event):
        super().__call__(event)
        if len({trial for trial, _, epoch in self.epochs if epoch == 3}) == 2 and not self.lost:
            self.lost = True
            self.cluster.remove_node(self.node, allow_graceful=False)


def test_trials_run_side_by_side_and_survive_a_lost_node(search, cluster, pages):
    reporter = LoseNode(*cluster)
    config = search.with_run(*RUN)
    result = search.tune(reporter, config=config, trials=3, launcher="ray", address=cluster[0].address)
    assert reporter.lost  # so two trials were trained at a time
    assert [row.state for row in result.rows] == ["complete"] * 3
    assert not any(math.isnan(row.score) for row in result.rows)
    for number in range(3):
        told = [epoch for trial, _, epoch in reporter.epochs if trial == number]
        assert told[-1] == 30
        assert len(set(told)) >= 30  # of 31; one may have been saved, and its node lost before it was told
    present = train_run(Setup(search.workspace, config, search.competition), TrainOptions("alone", "0"), folds=search.folds)
    assert result.rows[0].score == present.mean
    assert not list(search.workspace.tune_dir("tune").rglob("*.safetensors"))
    assert load_config(search.workspace.config_path, run_file=result.best_path)
