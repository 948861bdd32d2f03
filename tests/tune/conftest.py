import os
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from fake_training import FakeTraining
from tiny_search import make_search

from kaggle_kit.tune import objective
from kaggle_kit.tune import search as search_module


@pytest.fixture
def training(monkeypatch):
    """Stands for the training of folds; trials take no time."""
    fake = FakeTraining()
    monkeypatch.setattr(objective, "train_run", fake)
    return fake


@pytest.fixture
def pages(monkeypatch):
    """The pages that would be written; test_page writes them."""
    paths = []
    monkeypatch.setattr(search_module, "write_study_page", lambda path, *_, **__: paths.append(path))
    return paths


@pytest.fixture
def search():
    """A workspace to search in, in memory where that is possible: a study is synced to disk some thirty times a trial."""
    memory = Path("/dev/shm")
    root = Path(tempfile.mkdtemp(prefix="kk-tune-", dir=memory if os.access(memory, os.W_OK) else None))
    yield make_search(root)
    shutil.rmtree(root)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
