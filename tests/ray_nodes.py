"""A real Ray cluster on this machine."""

import contextlib
import os

import torch

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

FAST = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 8}
"""A dead node is noticed in seconds."""
NODE = {"num_cpus": 1, "object_store_memory": 80_000_000}


@contextlib.contextmanager
def one_node(monkeypatch):
    """A cluster of one node with a CPU; to start it takes longer than most tests."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # what is trained here beside the nodes is to have their very numbers
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False, "_system_config": FAST})
    try:
        yield cluster
    finally:
        cluster.shutdown()
        torch.set_num_threads(before)


@contextlib.contextmanager
def another_node(cluster):
    """One more node, which may be lost."""
    node = cluster.add_node(**NODE)
    try:
        yield node
    finally:
        if node in cluster.worker_nodes:
            cluster.remove_node(node)
