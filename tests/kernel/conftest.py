import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from kernel_world import World, make_world

from kaggle_kit import kernel


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def built(world, tmp_path_factory):
    """An inference kernel of the blend; not to be changed."""
    out = tmp_path_factory.mktemp("built") / "kernel"
    return kernel.build_kernel(world.setup, out, kernel.Address("somebody"), kernel.Content(force=True))


@dataclass
class Mounted:
    """Inputs as Kaggle mounts them."""

    inputs: Path
    working: Path

    @property
    def dataset(self) -> Path:
        return self.inputs / "colours-inference-data"

    @property
    def data(self) -> Path:
        return self.inputs / "colours"

    def run(self, **options):
        self.lines: list[str] = []
        return kernel.run_inference_kernel(self.inputs, self.working, say=self.lines.append, **options)

    def said(self, *words: str) -> bool:
        return any(all(word in line for word in words) for line in self.lines)


@pytest.fixture
def mounted(built, world, tmp_path) -> Mounted:
    made = Mounted(tmp_path / "input", tmp_path / "working")
    shutil.copytree(built.dataset, made.dataset)
    shutil.copytree(world.data / "test", made.data / "test")
    shutil.copy(world.data / "sample_submission.csv", made.data)
    return made
