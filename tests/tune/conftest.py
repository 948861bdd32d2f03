import pytest
import torch
from fake_training import FakeTraining
from tiny_search import make_search

from kaggle_kit.tune import objective


@pytest.fixture
def training(monkeypatch):
    """Stands for the training of folds; trials take no time."""
    fake = FakeTraining()
    monkeypatch.setattr(objective, "train_run", fake)
    return fake


@pytest.fixture
def search(tmp_path):
    """A workspace to search in."""
    return make_search(tmp_path)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
