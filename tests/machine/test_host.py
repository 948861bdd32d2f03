"""The heap is kept within the block and given back after it; nothing else changes."""

import subprocess
import sys

import pytest

from kaggle_kit.machine import host
from kaggle_kit.machine.host import kept_heap

needs_glibc = pytest.mark.skipif(host._glibc() is None, reason="another C library")
COUNT_FAULTS = """
import resource
import torch
from kaggle_kit.machine.host import kept_heap

def faults_of_a_round():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(48 * 2**18)  # 48 MB of float32
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

with kept_heap("cpu"):
    with kept_heap("cpu"):
        for _ in range(30):  # the heap hands out its free places in turn; each is cold once
            faults_of_a_round()
    inside = faults_of_a_round()  # the inner block's end changed nothing
faults_of_a_round()
print(inside, faults_of_a_round(), 48 * 2**20 // resource.getpagesize())
"""


@needs_glibc
def test_blocks_are_reused_inside_and_given_back_after():
    """In a process of its own: what other tests have left on the heap decides where a block goes."""
    done = subprocess.run([sys.executable, "-c", COUNT_FAULTS], capture_output=True, text=True, check=True)
    inside, after, pages = map(int, done.stdout.split())
    assert inside < pages / 10
    assert after > pages / 2


GIVE_BACK = """
import ctypes
from pathlib import Path
from kaggle_kit.machine.host import give_back_memory, kept_heap

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]

def own_mb():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024

with kept_heap("cpu"):
    large, small = [], []
    for _ in range(40):  # what is kept lies between what is freed
        large.append(libc.malloc(2**21))
        ctypes.memset(large[-1], 1, 2**21)
        small.append(libc.malloc(64))
    for block in large:
        libc.free(block)
    before = own_mb()
    give_back_memory()
    print(before - own_mb())
"""


@needs_glibc
def test_memory_is_given_back_between_what_is_kept():
    done = subprocess.run([sys.executable, "-c", GIVE_BACK], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 60  # of 80 MB


@needs_glibc
def test_an_error_ends_it_too():
    with pytest.raises(ValueError), kept_heap("cpu"):
        raise ValueError
    assert host._depth == 0


def test_other_devices_and_libraries_are_left_alone(monkeypatch):
    with kept_heap("cuda"):
        assert host._depth == 0
    monkeypatch.setattr(host, "_glibc", lambda: None)
    with kept_heap("cpu"):
        assert host._depth == 0
