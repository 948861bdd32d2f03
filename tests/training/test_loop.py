import math

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_competition import make_tiny

from kaggle_kit import runs
from kaggle_kit.errors import ConfigError, DeviceMemoryError, TrainingError
from kaggle_kit.files import read_json
from kaggle_kit.models import load_model
from kaggle_kit.tables import read_predictions
from kaggle_kit.training import learner, loop, losses
from kaggle_kit.training.fold import train_fold
from kaggle_kit.training.prepare import prepare_run


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    torch.set_num_threads(1)
    return make_tiny(tmp_path_factory.mktemp("tiny"))


def job_of(tiny, *overrides, run="run", fold=0):
    return prepare_run(tiny.setup(*overrides), tiny.folds, run=run, fold_list=[fold], restart=True)[0]


def history(job):
    return pd.read_csv(job.folder / runs.HISTORY)


def test_what_can_be_learnt_is_learnt(shared):
    job = job_of(shared, "epochs=6", "schedule.warmup_epochs=1", "augment=none")
    result = train_fold(job)
    rows = history(job)
    assert result.score >= 0.9
    assert rows["train_loss"].iloc[-1] < 0.5 * rows["train_loss"].iloc[1]
    assert list(rows["epoch"]) == list(range(7))
    assert math.isnan(rows["train_loss"].iloc[0])
    assert math.isnan(rows["train_accuracy"].iloc[0])
    assert rows["train_accuracy"].iloc[-1] > max(0.8, rows["train_accuracy"].iloc[1])
    assert rows["train_accuracy"].max() <= 1
    assert rows["accuracy"].iloc[0] < 0.9  # the untrained score comes first


def test_the_files_of_a_fold(shared):
    job = job_of(shared, run="files", fold=1)
    train_fold(job)
    oof = read_predictions(job.folder / runs.OOF)
    _, valid = shared.folds.split(1)
    assert oof.ids == tuple(shared.folds.ids[row] for row in valid)
    np.testing.assert_allclose(oof.probs.sum(axis=1), 1, rtol=1e-5)
    model = load_model(job.folder / runs.MODEL)
    assert model.classes == shared.folds.classes
    record = read_json(job.folder / runs.FOLD_RECORD, made_by="test")
    assert oof.meta["model_fingerprint"] == model.fingerprint == record["model_fingerprint"]
    assert (oof.meta["kind"], oof.meta["views"], oof.meta["fold"]) == ("oof", "none", 1)
    assert model.meta["folds_fingerprint"] == oof.meta["folds_fingerprint"] == shared.folds.fingerprint
    assert record["score"] == job_metric(job, oof)
    assert record["state"] == "finished"
    names = {path.name.split(".")[0] for path in job.folder.iterdir()}
    assert names == {"model", "oof", "history", "fold", "events"}


def job_metric(job, oof):
    return float(np.mean(np.array(oof.classes.top(oof.probs)) == np.array([row[0] for row in job_labels(job)])))


def job_labels(job):
    return [job.classes.decode([position]) for position in job.valid.truth]


def test_the_best_epoch_is_kept_or_the_last(shared, monkeypatch):
    scores = iter([0.1, 0.5, 0.9, 0.7, 0.9] * 2)  # of epochs 0 to 3, and of the weights that are kept

    class Fake:
        name, greater_is_better = "accuracy", True
        better = staticmethod(lambda score, than: math.isnan(than) or score > than)

        def __call__(self, *_):
            return next(scores, 0.0)

    monkeypatch.setattr("kaggle_kit.training.job.get_metric", lambda *_: Fake())
    for keep, epoch in (("best", 2), ("last", 3)):
        job = job_of(shared, "epochs=3", f"keep={keep}")
        assert train_fold(job).epoch == epoch


def test_validating_less_often_changes_nothing_that_is_learnt(shared):
    made = {}
    for every in (1, 2, 0):
        job = job_of(shared, "epochs=3", "keep=last", f"validate_every={every}", run=f"every-{every}")
        assert train_fold(job).score == job_metric(job, read_predictions(job.folder / runs.OOF))
        made[every] = load_model(job.folder / runs.MODEL).model.state_dict(), history(job)
    validated = {every: rows["valid_loss"].notna().tolist() for every, (_, rows) in made.items()}
    assert validated == {1: [True] * 4, 2: [True, False, True, True], 0: [False] * 4}
    assert all(rows["train_loss"].iloc[1:].notna().all() for _, rows in made.values())
    for every in (2, 0):
        assert all(torch.equal(one, other) for one, other in zip(made[1][0].values(), made[every][0].values(), strict=True))


@pytest.mark.parametrize(
    ("entries", "named"),
    [
        (("validate_every=2", "early_stopping.patience=3"), "early_stopping looks at the score of each epoch"),
        (("validate_every=2", "schedule=plateau"), "schedule plateau looks at"),
        (("validate_every=0", "keep=last", "average.name=soup"), "average soup looks at"),
        (("validate_every=0",), "set keep=last"),
    ],
)
def test_what_needs_the_scores_of_epochs_is_refused_without_them(shared, entries, named):
    with pytest.raises(ConfigError, match=named):
        shared.setup(*entries)


def test_multilabel(tiny_multilabel):
    job = job_of(tiny_multilabel, "epochs=4", "mixup=0.2", "loss=focal")
    train_fold(job)
    oof = read_predictions(job.folder / runs.OOF)
    truth = job.valid.truth  # (12, 3) of 0 and 1, in the order of the rows
    assert list(oof.ids) == [row_id for row_id, _ in job.valid.images]
    assert oof.probs[truth == 1].mean() > oof.probs[truth == 0].mean() + 0.05
    sums, two = oof.probs.sum(axis=1), truth.sum(axis=1) == 2
    assert sums[two].mean() > sums[~two].mean() + 0.05  # sigmoids: two labels are more than one
    assert "f1_macro" in history(job)


def test_early_stopping(shared):
    job = job_of(shared, "epochs=9", "early_stopping.patience=2", "early_stopping.min_delta=2")
    train_fold(job)
    assert history(job)["epoch"].iloc[-1] == 3  # the first epoch improves on nothing, two more do not improve on it


def test_accumulated_batches_equal_a_large_one(shared):
    """Without batch norm, 4 batches of 6 are one of 24."""
    same = ("model=test_vit", "augment=none", "optimizer=sgd", "epochs=1", "lr=0.01")
    results = []
    for overrides in (("batch_size=24",), ("batch_size=6", "optimizer.accumulate=4")):
        job = job_of(shared, *same, *overrides)
        train_fold(job)
        results.append(read_predictions(job.folder / runs.OOF).probs)
    np.testing.assert_allclose(results[0], results[1], atol=1e-5)


def test_clipping_bounds_the_gradients(shared, monkeypatch):
    seen = []
    real = loop.LossGuard.gradients_usable

    def look(self, model):
        gradients = [parameter.grad for parameter in model.parameters()]
        seen.append((max(g.abs().max().item() for g in gradients), torch.stack([g.norm() for g in gradients]).norm().item()))
        return real(self, model)

    monkeypatch.setattr(loop.LossGuard, "gradients_usable", look)
    train_fold(job_of(shared, "optimizer.clip_value=1e-4", "epochs=1"))
    train_fold(job_of(shared, "optimizer.clip_norm=1e-3", "epochs=1"))
    half = len(seen) // 2
    assert max(value for value, _ in seen[:half]) <= 1e-4 * 1.001
    assert max(norm for _, norm in seen[half:]) <= 1e-3 * 1.001


def test_frozen_parts_do_not_move(shared, monkeypatch):
    begun = {}
    real = learner.make_learner
    monkeypatch.setattr(
        "kaggle_kit.training.fold.make_learner",
        lambda job, model, *rest, **options: (
            begun.update({name: value.clone() for name, value in model.state_dict().items()}),
            real(job, model, *rest, **options),
        )[1],
    )
    job = job_of(shared, "model.freeze=-1", "model.freeze_bn=true", "epochs=1", "keep=last")
    train_fold(job)
    after = load_model(job.folder / runs.MODEL).model.state_dict()
    moved = [name for name, value in begun.items() if not torch.equal(value, after[name])]
    assert moved
    assert all(name.startswith("fc.") for name in moved)


def spoil(monkeypatch, batches):
    """Make the loss of some batches of the first epoch NaN."""
    real, count = loop.to_input, [0]

    def spoilt(images, *arguments, **options):
        count[0] += 1
        made = real(images, *arguments, **options)
        return made * float("nan") if count[0] - 1 in batches else made

    monkeypatch.setattr(loop, "to_input", spoilt)


def test_a_loss_that_is_not_finite_stops_with_the_rows(shared, monkeypatch):
    spoil(monkeypatch, {2})
    job = job_of(shared)
    with pytest.raises(TrainingError, match=r"epoch 1, batch 3, of these rows: (\d{3}\.png(, )?){6}\. Lower lr"):
        train_fold(job)
    record = read_json(job.folder / runs.FOLD_RECORD, made_by="test")
    assert record["state"] == "failed"
    assert "not finite" in record["reason"]


def test_gradients_that_overflow_stop_with_the_rows_and_the_checkpoint_is_good(shared, monkeypatch):
    job, count = job_of(shared, "checkpoint_minutes=1.0e-9"), [0]
    real = loop.LossGuard.gradients_usable

    def overflow(self, model):
        count[0] += 1
        if count[0] == 3:
            next(model.parameters()).grad.fill_(float("inf"))
        return real(self, model)

    with monkeypatch.context() as patch:
        patch.setattr(loop.LossGuard, "gradients_usable", overflow)
        with pytest.raises(TrainingError, match="gradients are not finite in epoch 1, batch 3"):
            train_fold(job)
    assert train_fold(job).state == "finished"


def test_weights_that_overflow_are_not_saved(shared, monkeypatch):
    job = job_of(shared, "epochs=3")
    real = loop.validate

    def spoil(learner, *rest, epoch):
        if epoch == 2:
            next(learner.plain.parameters()).data.fill_(float("nan"))
        real(learner, *rest, epoch=epoch)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "validate", spoil)
        with pytest.raises(TrainingError, match="after epoch 2 the model gives no finite probabilities for 12 of 12"):
            train_fold(job)
    assert train_fold(job).state == "finished"


@pytest.mark.parametrize("accumulate", [1, 2])
def test_or_the_batch_is_skipped(shared, monkeypatch, accumulate):
    spoil(monkeypatch, {1, 2, 3})
    job = job_of(shared, "nan=skip", "model=test_vit", f"optimizer.accumulate={accumulate}")
    train_fold(job)
    assert np.isfinite(history(job)["train_loss"].iloc[1:]).all()
    assert np.isfinite(read_predictions(job.folder / runs.OOF).probs).all()


def test_skipping_for_ever_ends(shared, monkeypatch):
    monkeypatch.setattr(losses, "MOST_SKIPPED", 3)
    spoil(monkeypatch, set(range(100)))
    with pytest.raises(TrainingError, match="3 batches in a row"):
        train_fold(job_of(shared, "nan=skip"))


def test_gradients_that_overflow_are_skipped(shared, monkeypatch):
    job = job_of(shared, "nan=skip", "epochs=1", "model=test_vit")
    real, count = loop.LossGuard.gradients_usable, [0]

    def overflow(self, model):
        count[0] += 1
        if count[0] == 2:
            next(model.parameters()).grad.fill_(float("inf"))
        return real(self, model)

    monkeypatch.setattr(loop.LossGuard, "gradients_usable", overflow)
    train_fold(job)
    assert np.isfinite(read_predictions(job.folder / runs.OOF).probs).all()


def test_too_little_memory_says_what_to_lower(shared, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(torch.nn.Conv2d, "forward", full)
    with pytest.raises(DeviceMemoryError, match=r"batch_size.*image_size.*grad_checkpointing"):
        train_fold(job_of(shared))


def test_the_callers_random_state_is_left_alone(shared):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    train_fold(job_of(shared, "epochs=1"))
    assert torch.equal(before, torch.get_rng_state())


def test_seeds_and_folds_shape_the_result(shared):
    found = {}
    for name, overrides, fold in (("a", (), 0), ("again", (), 0), ("seed", ("seed=1",), 0), ("fold", (), 1)):
        job = job_of(shared, "epochs=1", *overrides, fold=fold)
        train_fold(job)
        found[name] = history(job)["train_loss"].iloc[1]
    assert found["a"] == found["again"]
    assert len(set(found.values())) == 3


def test_a_rate_that_plateau_lowers_counts_from_the_next_update(tiny):
    options = "schedule.options={patience: 0, min_delta: 10, decay_rate: 0.5}"  # no gain is ever enough
    job = job_of(tiny, "epochs=3", "batch_size=24", "schedule=plateau", options, "lr=0.01")  # one update an epoch
    train_fold(job)
    assert history(job)["lr"].tolist()[1:] == pytest.approx([0.01, 0.01, 0.005])
