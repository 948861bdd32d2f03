from __future__ import annotations

import pytest
import torch
from handmade_run import make_world


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def world(tmp_path):
    return make_world(tmp_path)
