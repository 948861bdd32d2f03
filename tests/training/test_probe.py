"""Probes: heads on kept features, the files they leave, and what predicts from them."""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_competition import make_tiny

from kaggle_kit import runs
from kaggle_kit.competition import ImageRow, Setup
from kaggle_kit.errors import ConfigError, DataError
from kaggle_kit.folds import parse_folds
from kaggle_kit.inference import Compute, PredictOptions, predict_rows
from kaggle_kit.inference import features as features_module
from kaggle_kit.inference.job import make_job
from kaggle_kit.inference.run import predict_jobs
from kaggle_kit.models import backbone_fingerprint, load_model
from kaggle_kit.tables import read_predictions
from kaggle_kit.training import TrainOptions, prepare_run, train_run
from kaggle_kit.training.job import Rows
from kaggle_kit.training.probe import inner_split, view_plan

PROBE = ("strategy=probe", "model=resnet10t", "hardware.engine=torch", "augment=light", "data.eval_batch_size=8")


def with_test(tiny):
    """Half of the training images, as test images under other ids."""
    test = tuple(ImageRow(f"t{row.id}", row.path, (), None, False, None) for row in tiny.competition.train[::2])
    return dataclasses.replace(tiny, competition=dataclasses.replace(tiny.competition, test=test))


def probe(tiny, *overrides, fold="all", restart=False, **options):
    return train_run(tiny.setup(*PROBE, *overrides), TrainOptions("p", fold, restart), folds=tiny.folds, **options)


@pytest.fixture
def counted(monkeypatch):
    """Images that were put through a backbone for features."""
    seen = []
    compute = features_module.Extractor._computed

    def computed(self, rows, *rest):
        for batch in compute(self, rows, *rest):
            seen.extend(rows[position][0] for position in batch[0])
            yield batch

    monkeypatch.setattr(features_module.Extractor, "_computed", computed)
    return seen


def test_a_probe_learns_and_leaves_the_files_of_a_run(tiny, counted):
    tiny = with_test(tiny)
    summary = probe(tiny)
    assert summary.mean > 0.9
    assert summary.n_oof == len(tiny.folds)
    assert len(counted) == len(tiny.folds) + len(tiny.competition.test) + len(tiny.folds)  # and all rows as control rows
    run = runs.read_run(tiny.workspace, "p")
    for fold in run.finished_folds():
        assert {runs.MODEL, runs.OOF, runs.HISTORY} <= {path.name for path in fold.path.iterdir()}
        assert fold.record.strength in [one["strength"] for one in fold.record.strengths_tried]
        assert fold.record.score == summary.scores[fold.fold]


def test_all_folds_share_one_backbone(tiny):
    probe(tiny)
    models = [load_model(fold.path / runs.MODEL).model for fold in runs.read_run(tiny.workspace, "p").folds]
    assert len({backbone_fingerprint(model) for model in models}) == 1
    assert len({model.get_classifier().weight.sum().item() for model in models}) == len(models)


def test_out_of_fold_rows_are_what_the_saved_model_says_of_the_files(tiny):
    """Without kept features, through the whole model."""
    probe(tiny)
    paths = {row.id: row.path for row in tiny.competition.train}
    for fold in runs.read_run(tiny.workspace, "p").folds:
        oof = read_predictions(fold.path / runs.OOF)
        rows = [(row_id, paths[row_id]) for row_id in oof.ids]
        compute = Compute(batch_size=5, workers=0, device="cpu", engine="torch")
        again = predict_rows([load_model(fold.path / runs.MODEL)], rows, compute=compute)[0]
        np.testing.assert_allclose(again, oof.probs, atol=1e-4)


@pytest.mark.parametrize("layer", [-1, -2])
@pytest.mark.parametrize("tta", ["none", "hflip", "vflip"])
def test_predict_takes_kept_features_and_says_the_same_without_them(tiny, tta, layer, counted, monkeypatch):
    tiny = with_test(tiny)
    probe(tiny, f"model.head.layer={layer}")
    run, compute = runs.read_run(tiny.workspace, "p"), Compute(batch_size=8, workers=0, device="cpu", engine="torch")
    decoded = []
    monkeypatch.setattr("kaggle_kit.images.dataset.decode_image", _counting(decoded))
    tables = []
    for cache_dir in (tiny.workspace.cache_dir, None):
        decoded.clear()
        here = dataclasses.replace(compute, cache_dir=cache_dir)
        predict_jobs([make_job(tiny.workspace, tiny.competition, run, tiny.folds, PredictOptions(tta), compute=here)])
        kept = cache_dir is not None and tta != "vflip"
        assert bool(decoded) != kept
        names = [runs.TEST, runs.CONTROL, *([] if tta == "none" else [runs.OOF_VIEWS])]
        tables.append({(fold.fold, name): read_predictions(fold.path / name) for fold in run.folds for name in names})
        for fold in run.folds:
            (fold.path / runs.TEST).unlink()
    for place, table in tables[0].items():
        assert table.ids == tables[1][place].ids
        np.testing.assert_allclose(table.probs, tables[1][place].probs, atol=1e-4)


def _counting(read):
    from kaggle_kit.images.decode import decode_image

    def decode(path, **options):
        read.append(path)
        return decode_image(path, **options)

    return decode


def test_an_earlier_feature_map_has_features_of_its_own(tiny, counted):
    probe(tiny, "probe.views=0", fold="0")
    images = len(counted)
    summary = train_run(tiny.setup(*PROBE, "probe.views=0", "model.head.layer=-2"), TrainOptions("q"), folds=tiny.folds)
    assert len(counted) == 2 * images
    assert summary.mean > 0.9


def test_another_run_and_a_longer_plan_compute_only_what_is_new(tiny, counted):
    probe(tiny, "probe.views=1", fold="0")
    assert len(counted) == 36
    probe(tiny, "probe.views=1", fold="1")
    train_run(tiny.setup(*PROBE, "loss.label_smoothing=0.1"), TrainOptions("q"), folds=tiny.folds)
    assert len(counted) == 36  # other head, same features
    train_run(tiny.setup(*PROBE, "probe.views=2"), TrainOptions("r"), folds=tiny.folds)
    assert len(counted) == 72
    tables = list((tiny.workspace.cache_dir / "features").glob("*/train-*"))
    arrays = sorted(len(list(table.glob("*.npy"))) for table in tables)
    assert arrays == [2, 4]  # beside the hashes of the pixels; the second part holds the new view alone


@pytest.mark.parametrize("size", [0, 1, 200])
def test_features_that_were_damaged_are_named_with_what_to_do(tiny, size):
    """The disk was full, or the machine went down: a file is shorter than it was written."""
    probe(tiny, fold="0")
    for path in (tiny.workspace.cache_dir / "features").glob("*/*/*.npy"):
        path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DataError, match=r"are damaged.*Delete that folder and run again"):
        probe(tiny, fold="1")


def test_a_changed_image_is_computed_again(tiny, counted):
    probe(tiny, fold="0")
    path = tiny.competition.train[3].path
    path.write_bytes(path.read_bytes() + b" ")
    probe(tiny, fold="1", restart=True)
    assert counted[36:] == [tiny.competition.train[3].id]


def test_an_interrupted_extraction_keeps_what_it_has_computed(tiny, counted, monkeypatch):
    compute = features_module.Extractor._computed

    def interrupted(self, rows, *rest):
        for number, batch in enumerate(compute(self, rows, *rest)):
            if number == 2:
                raise KeyboardInterrupt
            yield batch

    with monkeypatch.context() as patched:
        patched.setattr(features_module.Extractor, "_computed", interrupted)
        with pytest.raises(KeyboardInterrupt):
            probe(tiny, fold="0")
    kept = counted[:16]  # of two batches; the third was computed, and lost
    counted.clear()
    probe(tiny, fold="0")
    assert sorted([*kept, *counted]) == sorted(tiny.folds.ids)


def test_a_kill_loses_a_part_of_the_features_at_most(tiny, counted, monkeypatch):
    monkeypatch.setattr(features_module, "_BYTES", 1)
    probe(tiny, fold="0")
    parts = sorted((tiny.workspace.cache_dir / "features").glob("*/train-*"))
    assert len(parts) == 5  # of 8 images, and one of the last 4
    first, before = len(counted), read_predictions(tiny.workspace.run_dir("p") / "fold0" / runs.OOF)
    shutil.rmtree(parts[0])
    probe(tiny, fold="0", restart=True)
    assert len(counted) - first <= 8
    after = read_predictions(tiny.workspace.run_dir("p") / "fold0" / runs.OOF)
    np.testing.assert_allclose(after.probs, before.probs, atol=1e-5)


def test_the_same_seed_gives_the_same_probe(tmp_path):
    found = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        tiny = make_tiny(tmp_path / name)
        probe(tiny, fold="1")
        found.append(read_predictions(tiny.workspace.fold_dir("p", 1) / runs.OOF).probs)
    assert np.array_equal(*found)


def test_multilabel(tiny_multilabel):
    summary = probe(tiny_multilabel)
    assert summary.mean > 0.7
    oof = read_predictions(tiny_multilabel.workspace.fold_dir("p", 0) / runs.OOF)
    assert np.abs(oof.probs.sum(axis=1) - 1).max() > 0.05


@pytest.mark.parametrize("override", ["loss.class_weights=balanced", "sampler=weighted", "loss=focal", "loss=bce"])
def test_losses_weights_and_samplers_are_those_of_the_configuration(tiny, override):
    plain = probe(tiny, "probe.strengths=[0.3]", fold="0")
    config = tiny.whole(*PROBE, "probe.strengths=[0.3]", override)
    other = train_run(Setup(tiny.workspace, config, tiny.competition), TrainOptions("o", "0"), folds=tiny.folds)
    assert other.mean > 0.9
    one, two = (read_predictions(tiny.workspace.fold_dir(run, 0) / runs.OOF).probs for run in ("p", "o"))
    assert plain.mean > 0.9
    same = override == "loss.class_weights=balanced"  # the classes are of one size
    assert np.allclose(one, two, atol=1e-5) == same


def test_mixing_is_left_out_and_says_so(tiny, caplog):
    probe(tiny, "mixup=0.2", fold="0")
    assert "mixup" in caplog.text


def test_a_model_without_a_linear_head_is_refused(tiny):
    with pytest.raises(ConfigError, match="use strategy finetune"):
        probe(tiny, "model=levit_128s", "image_size=224", fold="0")


def test_fine_tuning_starts_from_the_head(tiny):
    config = tiny.whole(*PROBE, "strategy=probe-then-finetune", "epochs=1", "lr=1e-5", "keep=last", "model.freeze_bn=true")
    summary = train_run(Setup(tiny.workspace, config, tiny.competition), TrainOptions("f", "0"), folds=tiny.folds)
    folder = tiny.workspace.fold_dir("f", 0)
    history = (folder / runs.HISTORY).read_text().splitlines()
    assert float(history[1].split(",")[3]) > 0.9  # epoch 0
    assert summary.mean > 0.9
    assert not list(folder.glob("*.ckpt"))


def test_views_follow_the_augmentation(tiny):
    from kaggle_kit.images.transforms import ImageSpec

    spec = ImageSpec(32, 32)
    assert view_plan(tiny.config("augment=none", "probe.views=3"), spec).names == ["plain"]
    assert len(view_plan(tiny.config("augment=shift", "probe.views=2"), spec).names) == 3
    assert view_plan(tiny.config("augment=light", "probe.views=2"), spec).names[1] == "hflip"
    assert "hflip" in view_plan(tiny.config("augment=none", "probe.mirror=true"), spec).names
    first, other = (view_plan(tiny.config(f"seed={seed}"), spec).names[-1] for seed in (0, 1))
    assert first != other


def rows_of(folds, rows):
    validated = (folds.assignments[:, rows] >= 0).any(axis=0)
    return Rows([(folds.ids[row], Path()) for row in rows], folds.truth(rows), folds.groups[rows], validated)


def test_groups_stay_whole_within(tiny):
    groups = np.arange(36) // 4
    assignments = tiny.folds.assignments.copy()
    assignments[:, :4] = -1
    folds = dataclasses.replace(tiny.folds, groups=groups, assignments=assignments)
    rows = np.arange(36)
    train, inner = inner_split(rows_of(folds, rows), 0.25, seed=0)
    assert sorted([*train, *inner]) == list(range(36))
    assert 4 <= len(inner) <= 12
    assert not set(groups[train]) & set(groups[inner])
    assert not set(inner) & set(range(4))  # those are only ever trained on


def test_a_strength_is_chosen_with_a_single_fold_too(tiny):
    assignments = np.where(np.arange(36) % 4 == 0, 0, -1)[None]  # as `kk folds --scheme holdout` divides
    folds = replace(tiny.folds, assignments=assignments, n_folds=1)
    rows, valid = folds.split(0)
    train, inner = inner_split(rows_of(folds, rows), 0.25, seed=0)
    assert len(inner) == pytest.approx(len(rows) / 4, abs=1)
    assert sorted([*train, *inner]) == list(range(len(rows)))
    assert not set(folds.groups[rows[train]]) & set(folds.groups[rows[inner]])
    assert not set(rows) & set(valid)


def test_augmented_views_do_not_depend_on_the_pass(tiny):
    """An image's augmented view is the same, whichever other images are computed with it."""
    from kaggle_kit.config import AugmentConfig
    from kaggle_kit.images.transforms import ImageSpec

    spec, image = ImageSpec(16, 16), np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    whole = features_module.StackedViews(spec, AugmentConfig(), ["v0", "v1"], ["a", "b"])
    alone = features_module.StackedViews(spec, AugmentConfig(), ["v1"], ["b"])
    stacked = whole(image, 1)
    assert stacked.shape == (48, 16, 3)
    assert np.array_equal(alone(image, 0)[16:], stacked[32:])
    assert not np.array_equal(stacked[16:32], stacked[32:])
    assert not np.array_equal(whole(image, 0)[16:], stacked[16:])


def test_engines_give_the_same_features(tiny, tmp_path):
    pytest.importorskip("openvino")
    from kaggle_kit.inference.engines import EngineOptions
    from kaggle_kit.inference.groups import backbone_engine
    from kaggle_kit.models import build_model, image_spec, split_model

    config = tiny.config("model=resnet10t")
    torch.manual_seed(0)
    model = build_model(config.model, 3).eval()
    spec = image_spec(model, config.data)
    parts = split_model(model, spec.size)
    images = torch.randn(11, 3, 32, 32)
    options = EngineOptions(cache_dir=tmp_path)
    fingerprint = backbone_fingerprint(model)
    found = [backbone_engine(parts, fingerprint, spec, name, options).logits(images) for name in ("torch", "openvino")]
    torch.testing.assert_close(*found, atol=1e-4, rtol=1e-4)


def test_jobs_say_what_they_are_made_from(tiny):
    """The strategy is part of a run: the same name cannot hold a probe and a fine-tuned model."""
    probe(tiny, fold="0")
    with pytest.raises(ConfigError, match="strategy: 'probe' -> 'finetune'"):
        prepare_run(tiny.setup(*PROBE, "strategy=finetune"), tiny.folds, run="p", fold_list=parse_folds("0", 3))
