import pytest
import torch
from tiny_competition import make_tiny


@pytest.fixture
def tiny(tmp_path):
    return make_tiny(tmp_path)


@pytest.fixture
def tiny_multilabel(tmp_path):
    return make_tiny(tmp_path, multilabel=True, metric="f1_macro")


@pytest.fixture(autouse=True)
def one_thread():
    """Several threads would only get in each other's way with images this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
