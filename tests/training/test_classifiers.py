"""Classifiers of probes: properties of all that are registered, and what is special to some."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_competition import make_tiny

from kaggle_kit import runs, sparse
from kaggle_kit.choices import BALANCES, CLASSIFIERS
from kaggle_kit.config import ProbeConfig
from kaggle_kit.config.known import require_known
from kaggle_kit.errors import ConfigError, DependencyError
from kaggle_kit.inference import Compute, PredictOptions, predict_rows
from kaggle_kit.inference.job import make_job
from kaggle_kit.inference.run import predict_jobs
from kaggle_kit.models import backbone_fingerprint, load_model, read_header
from kaggle_kit.tables import read_predictions
from kaggle_kit.training import TrainOptions, heads, resampling, train_run
from kaggle_kit.training.classifiers import Task
from kaggle_kit.training.heads import Fixed

PROBE = ("strategy=probe", "model=resnet10t", "hardware.engine=torch", "augment=light", "data.eval_batch_size=8")
COMPUTE = Compute(batch_size=5, workers=0, device="cpu", engine="torch")
classifiers = pytest.mark.parametrize("name", CLASSIFIERS)


def probe(tiny, *overrides, fold="0", run="p"):
    return train_run(tiny.setup(*PROBE, *overrides), TrainOptions(run, fold), folds=tiny.folds)


def task(*, n=240, n_classes=3, features=10, multilabel=False, noise=1.0, seed=0, **config):
    """Blobs of unit spread around class means."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 2.0, (n_classes, features))
    if multilabel:
        truth = (rng.random((n, n_classes)) < 0.4).astype(np.int64)
        values = truth @ centres + rng.normal(0, noise, (n, features))
    else:
        truth = np.arange(n) % n_classes
        values = centres[truth] + rng.normal(0, noise, (n, features))
    parts = [Fixed(torch.from_numpy(values[rows]).float(), torch.from_numpy(truth[rows])) for rows in np.split(np.arange(n), 2)]
    loss = _Binary() if multilabel else torch.nn.CrossEntropyLoss()
    whole = Fixed(torch.from_numpy(values).float(), torch.from_numpy(truth))
    return Task(parts[0], parts[1], whole, loss, n_classes, torch.device("cpu"), ProbeConfig(**config), 3, multilabel), parts[1]


class _Binary(torch.nn.Module):
    def forward(self, logits, targets):
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, targets.float())


def judged(fitted, samples, *, multilabel=False):
    ((features, targets),) = samples.load(torch.device("cpu"))
    with torch.inference_mode():
        logits = fitted.head(features)
    named = (logits > 0).long() if multilabel else logits.argmax(dim=1)
    return float((named == targets).float().mean()), logits


@classifiers
def test_it_learns_and_is_the_same_again(name):
    given, held_out = task()
    first, second = (CLASSIFIERS[name](given) for _ in range(2))
    share, logits = judged(first, held_out)
    assert share > 0.95
    assert torch.equal(logits, judged(second, held_out)[1])
    assert first.chosen


@classifiers
def test_several_labels(name):
    given, held_out = task(multilabel=True, n=300)
    assert judged(CLASSIFIERS[name](given), held_out, multilabel=True)[0] > 0.85


@classifiers
def test_two_classes_a_class_without_rows_and_no_inner_rows(name):
    given, held_out = task(n_classes=2)
    wider = Task(None, None, given.whole, given.loss, 3, given.device, given.config, 0, False)
    share, logits = judged(CLASSIFIERS[name](wider), held_out)
    assert share > 0.9
    assert logits.shape == (120, 3)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("name", ["svm", "lda", "knn"])
def test_its_probabilities_are_as_sure_as_they_are_right(name):
    """On new rows; those of a hinge loss or a discriminant would be far off without a temperature."""
    given, _ = task(n=600, noise=3.0)
    _, held_out = task(n=2000, noise=3.0)  # the same classes
    share, logits = judged(CLASSIFIERS[name](given), held_out)
    sure = float(logits.softmax(dim=1).amax(dim=1).mean())
    assert abs(sure - share) < 0.08


@classifiers
def test_the_files_are_those_of_a_run_and_say_the_same_without_kept_features(tiny, name):
    summary = probe(tiny, f"probe.classifier={name}", fold="all")
    assert summary.mean > 0.9
    paths = {row.id: row.path for row in tiny.competition.train}
    for fold in runs.read_run(tiny.workspace, "p").folds:
        loaded = load_model(fold.path / runs.MODEL)
        oof = read_predictions(fold.path / runs.OOF)
        again = predict_rows([loaded], [(row_id, paths[row_id]) for row_id in oof.ids], compute=COMPUTE)[0]
        np.testing.assert_allclose(again, oof.probs, atol=1e-4)
    models = [load_model(fold.path / runs.MODEL).model for fold in runs.read_run(tiny.workspace, "p").folds]
    assert len({backbone_fingerprint(model) for model in models}) == 1


@pytest.mark.parametrize("name", ["mlp", "knn"])
def test_heads_that_are_no_layer_are_predicted_from_kept_features_too(tiny, name, monkeypatch):
    from test_probe import with_test

    tiny = with_test(tiny)
    probe(tiny, f"probe.classifier={name}", fold="all")
    run = runs.read_run(tiny.workspace, "p")
    assert read_header(run.folds[0].path / runs.MODEL)["head"]["name"] == name
    monkeypatch.setattr("kaggle_kit.images.dataset.decode_image", lambda path, **_: pytest.fail(f"{path} was decoded"))
    compute = Compute(batch_size=8, workers=0, device="cpu", engine="torch", cache_dir=tiny.workspace.cache_dir)
    predict_jobs([make_job(tiny.workspace, tiny.competition, run, tiny.folds, PredictOptions("hflip"), compute=compute)])
    for fold in run.folds:
        oof, control = (read_predictions(fold.path / kind) for kind in (runs.OOF_VIEWS, runs.CONTROL))
        np.testing.assert_allclose(control.take(oof.ids).probs, oof.probs, atol=1e-4)


def test_a_linear_one_can_be_trained_further_and_another_cannot(tiny):
    further = ("strategy=probe-then-finetune", "epochs=1", "lr=1e-5", "model.freeze_bn=true", "keep=last")
    assert probe(tiny, *further, "probe.classifier=lda").mean > 0.9
    with pytest.raises(ConfigError, match="no layer of the network"):
        probe(tiny, *further, "probe.classifier=knn", run="q")


def test_kept_rows_are_not_for_training(tiny):
    with pytest.raises(ConfigError, match="use strategy probe"):
        tiny.config("head=knn")


@pytest.mark.parametrize("name", [name for name in BALANCES if name != "none"])
def test_small_classes_grow_to_the_size_of_the_largest(name):
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2, 3], [60, 20, 6, 1])
    values = rng.normal(0, 1.0, (len(truth), 5)) + truth[:, None]
    samples = Fixed(torch.from_numpy(values).float(), torch.from_numpy(truth))
    made = BALANCES[name](samples, 0)
    ((features, targets),) = made.load(torch.device("cpu"))
    counts = torch.bincount(targets)
    assert counts[0] == 60
    assert counts[1] > 40
    assert counts[2] > 40
    assert counts[3] == 1  # one row has nothing beside it
    assert torch.equal(features[: len(truth)], torch.from_numpy(values).float())
    again = next(BALANCES[name](samples, 0).load(torch.device("cpu")))
    assert torch.equal(again[0], features)
    new = features[len(truth) :][targets[len(truth) :] == 2]
    low, high = (getattr(samples_of(samples, 2), end)(dim=0).values for end in ("min", "max"))
    assert ((new >= low - 1e-5) & (new <= high + 1e-5)).all()


def samples_of(samples, label):
    ((features, targets),) = samples.load(torch.device("cpu"))
    return features[targets == label]


@pytest.mark.parametrize("name", ["smote", "adasyn"])
def test_balancing_changes_the_fit_of_a_run(tiny, name, caplog):
    """With the seeds that runs have, which are larger than what imbalanced-learn takes."""
    uneven = [row for row, labels in enumerate(tiny.folds.labels) if labels != ("blue",) or row % 2]
    folds = tiny.folds
    part = replace(
        folds,
        ids=tuple(folds.ids[row] for row in uneven),
        labels=tuple(folds.labels[row] for row in uneven),
        groups=folds.groups[uneven],
        assignments=folds.assignments[:, uneven],
    )
    found = []
    for run, balance in (("p", "none"), ("q", name)):
        setup = tiny.setup(*PROBE, "probe.strengths=[0.3]", f"probe.balance={balance}")
        train_run(setup, TrainOptions(run, "0"), folds=part)
        found.append(read_predictions(tiny.workspace.fold_dir(run, 0) / runs.OOF).probs)
    assert "makes none up" in caplog.text or not np.allclose(*found, atol=1e-4)
    assert name == "adasyn" or "makes none up" not in caplog.text


def test_a_fault_of_balancing_is_not_hidden(monkeypatch):
    from imblearn import over_sampling

    def broken(**_):
        raise ValueError("a defect")

    monkeypatch.setattr(over_sampling, "SMOTE", broken)
    samples = Fixed(torch.randn(9, 2), torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 1]))
    with pytest.raises(ValueError, match="a defect"):
        resampling.smote(samples, 0)


def test_rows_of_equal_classes_stay_as_they_are():
    samples = Fixed(torch.randn(8, 2), torch.tensor([0, 1] * 4))
    assert resampling.smote(samples, 0) is samples


def test_no_row_is_made_up_from_rows_that_choose_or_validate(tmp_path, monkeypatch):
    tiny = make_tiny(tmp_path)
    seen = []
    real = resampling.smote

    def spy(samples, seed):
        seen.append(_rows(samples))
        return real(samples, seed)

    monkeypatch.setattr(resampling, "smote", spy)
    probe(tiny, "probe.balance=smote", "probe.classifier=lda")
    train, valid = tiny.folds.split(0)
    ids = [[tiny.folds.ids[row] for row in rows] for rows in (train, valid)]
    assert len(seen) == 2  # the part that fits, then all training rows
    assert seen[1] == set(ids[0])
    assert seen[0] < seen[1]
    assert not seen[1] & set(ids[1])


def _rows(samples):
    return {samples._paths[row].name for _, rows in samples._chunks for row in rows.tolist()}


def test_what_cannot_be_balanced_is_refused_at_once(tiny, monkeypatch):
    config = tiny.config(*PROBE, "probe.balance=smote")
    require_known(config, "multiclass")
    with pytest.raises(ConfigError, match="needs exactly one label a row"):
        require_known(config, "multilabel")
    monkeypatch.setattr("kaggle_kit.config.known.find_spec", lambda name: None)
    with pytest.raises(DependencyError, match=r"kaggle-kit\[balance\]"):
        require_known(config, "multiclass")


def test_old_probes_keep_their_fingerprint(tiny):
    assert tiny.config(*PROBE).fingerprint == tiny.config(*PROBE, "probe.classifier=logistic", "probe.balance=none").fingerprint
    assert tiny.config(*PROBE).fingerprint != tiny.config(*PROBE, "probe.classifier=svm").fingerprint
    assert "classifier" not in tiny.config(*PROBE).shaping()["probe"]


def test_logits_of_many_classes_are_computed_in_pieces_and_give_the_same_head(monkeypatch):
    given, _ = task()
    whole = CLASSIFIERS["logistic"](given).head.weight
    monkeypatch.setattr(heads, "_LOGITS", 3 * 7)  # seven rows at a time
    torch.testing.assert_close(CLASSIFIERS["logistic"](given).head.weight, whole, atol=2e-3, rtol=1e-2)
    chunks = given.whole.load(torch.device("cpu"))
    assert max(len(features) for chunk in chunks for features, _ in heads.pieces(*chunk, 3)) == 7


@pytest.mark.parametrize("name", ["svm", "lda", "knn"])
def test_classifiers_that_need_all_samples_and_classes_at_once_refuse_many(tiny, monkeypatch, name):
    monkeypatch.setattr(sparse, "DENSE_CLASSES", 1)
    with pytest.raises(ConfigError, match=f"{name} needs all samples times"):
        probe(tiny, f"probe.classifier={name}")
