import shutil

import pytest
from kernel_world import Mounted, World, make_world

from kaggle_kit import kernel


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def built(world, tmp_path_factory):
    """An inference kernel of the blend; not to be changed."""
    out = tmp_path_factory.mktemp("built") / "kernel"
    return kernel.build_kernel(world.setup, out, kernel.Address("somebody"), kernel.Content(force=True))


@pytest.fixture
def mounted(built, world, tmp_path) -> Mounted:
    made = Mounted(tmp_path / "input", tmp_path / "working")
    shutil.copytree(built.dataset, made.dataset)
    shutil.copytree(world.data / "test", made.data / "test")
    shutil.copy(world.data / "sample_submission.csv", made.data)
    return made
