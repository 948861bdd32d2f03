"""What an epoch is made of, and which classes are augmented, in whole trainings."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from tiny_competition import Tiny, make_tiny

from kaggle_kit import runs
from kaggle_kit.errors import ConfigError
from kaggle_kit.images.dataset import in_small_class, source_for, training_dataset
from kaggle_kit.images.transforms import describe, eval_transform
from kaggle_kit.machine.device import make_fabric
from kaggle_kit.models import build_model, image_spec
from kaggle_kit.stop import Stop
from kaggle_kit.training import TrainOptions, train_run
from kaggle_kit.training.data import make_data
from kaggle_kit.training.prepare import prepare_run


@pytest.fixture
def uneven(tmp_path):
    """The tiny competition with four of twelve blue images."""
    tiny = make_tiny(tmp_path)
    kept = [row for row in range(36) if row % 3 != 2 or row < 12]
    take = np.array(kept)
    folds = replace(
        tiny.folds,
        ids=tuple(tiny.folds.ids[row] for row in kept),
        labels=tuple(tiny.folds.labels[row] for row in kept),
        groups=tiny.folds.groups[take],
        assignments=tiny.folds.assignments[:, take],
    )
    return Tiny(tiny.workspace, replace(tiny.competition, train=tuple(tiny.competition.train[row] for row in kept)), folds)


def batches(tiny, *overrides):
    (job,) = prepare_run(tiny.setup(*overrides), tiny.folds, run="run", fold_list=[0], restart=True)
    spec = image_spec(build_model(job.config.model, 3, image_size=32), job.config.data)
    with make_data(job, spec, make_fabric(job.config.hardware), Stop()) as data:
        found = list(data.loader.batches(1))
    rows = np.concatenate([batch.rows.numpy() for batch in found])
    images = np.concatenate([batch.images.numpy() for batch in found])
    return job, spec, rows, images


def unchanged(job, spec, rows, images):
    """Return for each image whether it is as it would be evaluated."""
    plain, source = eval_transform(spec), source_for(spec)
    pairs = zip(rows.tolist(), images, strict=True)
    return [np.array_equal(plain(source(job.train.paths[row])), image.transpose(1, 2, 0)) for row, image in pairs]


def test_only_small_classes_are_augmented(uneven):
    job, spec, rows, images = batches(uneven, "augment.only_below=5", "augment=heavy")
    small = in_small_class(job.train.truth, 5)
    assert small.sum() == (job.train.truth == 2).sum() > 0
    assert unchanged(job, spec, rows, images) == [not small[row] for row in rows]
    assert not any(unchanged(*batches(uneven, "augment=heavy")))


def test_it_says_so(tiny):
    line = "classes with fewer than 5 training images, others as they are evaluated"
    assert describe(tiny.config("augment.only_below=5").augment)[-1] == f"all of this for {line}"


def test_an_epoch_of_a_cap_and_multiples(uneven):
    job, _, rows, _ = batches(uneven, "data.samples_per_class=6", "data.class_multiples={blue: 2}")
    assert np.bincount(job.train.truth[rows]).tolist() == [6, 6, min(6, 2 * int((job.train.truth == 2).sum()))]
    with pytest.raises(ConfigError, match="Did you mean 'blue'"):
        prepare_run(uneven.setup("data.class_multiples={bleu: 2}"), uneven.folds, run="wrong", fold_list=[0])
    assert runs.list_runs(uneven.workspace) == ["run"]


@pytest.mark.parametrize("strategy", ["finetune", "probe", "probe-then-finetune"])
def test_trainings_with_all_of_it(uneven, strategy):
    entries = ("data.samples_per_class=6", "data.class_multiples={blue: 2}", "augment.only_below=5", "epochs=1")
    summary = train_run(uneven.setup(*entries, f"strategy={strategy}"), TrainOptions("all", "0"), folds=uneven.folds)
    assert summary.trained == (0,)
    assert np.isfinite(pd.read_csv(uneven.workspace.fold_dir("all", 0) / runs.HISTORY)["accuracy"]).all()


def test_several_labels(tmp_path):
    tiny = make_tiny(tmp_path, multilabel=True, metric="f1_macro")
    truth, config = tiny.folds.truth(), tiny.config("augment.only_below=1")
    spec = image_spec(build_model(config.model, 3, image_size=32), config.data)
    paths = [row.path for row in tiny.competition.train]
    assert training_dataset(paths, spec, config.augment, truth, source_for(spec)).plain[1].all()
    setup = tiny.setup("data.samples_per_class=5", "augment.only_below=9", "epochs=1")
    assert train_run(setup, TrainOptions("run", "0"), folds=tiny.folds).trained == (0,)
