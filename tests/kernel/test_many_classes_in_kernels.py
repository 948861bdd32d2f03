"""A kernel of many classes: with the threshold lowered, three are many."""

import shutil

import numpy as np
import pytest
from kernel_world import Mounted, make_world

from kaggle_kit import kernel, sparse
from kaggle_kit.kernel.sandbox.inputs import hidden_images, visible_images, write_test_data
from kaggle_kit.sparse import SparseRows
from kaggle_kit.tables import read_predictions


@pytest.fixture
def many(tmp_path, monkeypatch):
    """A world whose predictions keep two of three classes, and its kernel as Kaggle mounts it."""
    monkeypatch.setattr(sparse, "DENSE_CLASSES", 2)
    monkeypatch.setattr(sparse, "KEPT", 2)
    world = make_world(tmp_path / "world", form="label")
    built = kernel.build_kernel(world.setup, tmp_path / "kernel", kernel.Address("somebody"), kernel.Content(force=True))
    mounted = Mounted(tmp_path / "input", tmp_path / "working")
    shutil.copytree(built.dataset, mounted.dataset)
    return world, mounted


def test_says_of_hidden_images_what_kk_blend_says_and_the_shares_of_one_that_cannot_be_read(many):
    world, mounted = many
    hidden = hidden_images(visible_images(world.competition, world.data, None))
    write_test_data(mounted.data, hidden, world.config.competition, world.data)
    assert mounted.run().passed
    found = read_predictions(mounted.working / "submission.probs.parquet")
    home = read_predictions(world.workspace.submission_path("blend").with_suffix(".probs.parquet"))
    assert isinstance(found.probs, SparseRows)
    for image in hidden:
        if image.origin is None:
            wanted = np.full(3, 1 / 3)
        else:
            wanted = np.asarray(home.take([image.origin]).probs)[0]
        np.testing.assert_allclose(np.asarray(found.take([image.id]).probs)[0], wanted, atol=1e-5)
