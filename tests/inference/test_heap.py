"""The heap is kept within the block and given back after it; nothing else changes."""

import resource

import pytest
import torch

from kaggle_kit.inference import heap
from kaggle_kit.inference.heap import kept_heap

MEGABYTES = 48
needs_glibc = pytest.mark.skipif(heap._glibc() is None, reason="another C library")


def faults_of_a_round() -> int:
    """Page faults of taking, filling and freeing a large block."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(MEGABYTES * 2**18)  # float32
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@needs_glibc
def test_blocks_are_reused_inside_and_given_back_after():
    pages = MEGABYTES * 2**20 // resource.getpagesize()
    with kept_heap("cpu"):
        with kept_heap("cpu"):
            for _ in range(3):
                faults_of_a_round()
        assert faults_of_a_round() < pages / 10  # the inner block's end changed nothing
    faults_of_a_round()
    assert faults_of_a_round() > pages / 2


@needs_glibc
def test_an_error_ends_it_too():
    with pytest.raises(ValueError), kept_heap("cpu"):
        raise ValueError
    assert heap._depth == 0


def test_other_devices_and_libraries_are_left_alone(monkeypatch):
    with kept_heap("cuda"):
        assert heap._depth == 0
    monkeypatch.setattr(heap, "_glibc", lambda: None)
    with kept_heap("cpu"):
        assert heap._depth == 0
