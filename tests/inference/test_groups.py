"""Models that share a backbone run it once, and say what each says alone."""

from __future__ import annotations

import dataclasses
import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import torch
from handmade_run import CLASSES, save_fresh, write_image

from kaggle_kit.images.loaders import eval_batches
from kaggle_kit.inference import Compute, predict_rows
from kaggle_kit.inference.engines import EngineOptions, TorchEngine
from kaggle_kit.inference.features import Extractor, FeatureCache, ViewPlan
from kaggle_kit.inference.groups import backbone_engine, group_models
from kaggle_kit.machine import host
from kaggle_kit.models import backbone_fingerprint, load_model, save_model, split_model
from kaggle_kit.serve.models import LiveModels

COMPUTE = Compute(batch_size=4, workers=0, device="cpu", engine="torch")


@pytest.fixture
def rows(tmp_path):
    return [(f"{number:03}", write_image(tmp_path / "images" / f"{number:03}.png", number)) for number in range(9)]


@pytest.fixture
def models(tmp_path):
    """Three heads on one backbone."""
    first = save_fresh(tmp_path / "0.safetensors")
    made = [first]
    for number in (1, 2):
        torch.manual_seed(number)
        torch.nn.init.normal_(first.model.get_classifier().weight, std=3.0)
        path = tmp_path / f"{number}.safetensors"
        save_model(path, first.model, classes=CLASSES, spec=first.spec, task=first.task, meta={})
        made.append(load_model(path))
    return [load_model(tmp_path / "0.safetensors"), *made[1:]]


@pytest.fixture
def forwards(monkeypatch):
    """Images that went through any engine."""
    seen = []
    real = TorchEngine.logits

    def logits(self, batch):
        seen.append(len(batch))
        return real(self, batch)

    monkeypatch.setattr(TorchEngine, "logits", logits)
    return seen


def test_in_eight_bits_a_model_says_alone_what_it_says_among_others(models, rows, tmp_path):
    """A test pass takes all folds together, out-of-fold rows are predicted by one model alone."""
    if importlib.util.find_spec("nncf") is None:
        pytest.skip("nncf is not installed")
    compute = Compute(batch_size=4, workers=0, device="cpu", engine="int8", cache_dir=tmp_path / "cache", calibration=rows)
    together = predict_rows(models, rows, compute=compute)
    for number, model in enumerate(models):
        np.testing.assert_allclose(predict_rows([model], rows, compute=compute)[0], together[number], atol=1e-5)
    served = LiveModels([(models[0], 1.0)], engine="int8", device="cpu", calibration=rows, most_pixels=10**6)
    seen = [served.read(path.read_bytes(), row_id) for row_id, path in rows]
    np.testing.assert_allclose(served.predict(seen), together[0], atol=1e-5)


def test_a_fingerprint_is_of_everything_but_the_head(models, tmp_path):
    assert len({backbone_fingerprint(one.model) for one in models}) == 1
    other = save_fresh(tmp_path / "o.safetensors", seed=5)
    assert backbone_fingerprint(other.model) != backbone_fingerprint(models[0].model)
    with torch.no_grad():
        next(buffer for buffer in models[1].model.buffers() if buffer.dtype == torch.float32).add_(0.1)
    assert backbone_fingerprint(models[1].model) != backbone_fingerprint(models[0].model)  # a batch norm's statistics


def test_a_shared_backbone_runs_once_an_image_and_view(models, rows, forwards):
    together = predict_rows(models, rows, tta="hflip", compute=COMPUTE)
    assert sum(forwards) == 2 * len(rows)
    forwards.clear()
    for model, probs in zip(models, together, strict=True):
        np.testing.assert_allclose(predict_rows([model], rows, tta="hflip", compute=COMPUTE)[0], probs, atol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 0.01
    assert sum(forwards) == 3 * 2 * len(rows)


def test_models_of_their_own_keep_their_places_among_those_that_share(models, rows, tmp_path, forwards):
    other = save_fresh(tmp_path / "o.safetensors", seed=5)
    mixed = [models[0], other, models[1]]
    together = predict_rows(mixed, rows, compute=COMPUTE)
    assert sum(forwards) == 2 * len(rows)
    for model, probs in zip(mixed, together, strict=True):
        np.testing.assert_allclose(predict_rows([model], rows, compute=COMPUTE)[0], probs, atol=1e-5)


def test_openvino_shares_and_exports_the_backbone_once(models, rows, tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    expected = predict_rows(models, rows, compute=COMPUTE)
    compute = dataclasses.replace(COMPUTE, engine="openvino", cache_dir=tmp_path / "cache")
    found = predict_rows(models, rows, compute=compute)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert len(list((tmp_path / "cache" / "openvino").iterdir())) == 1


def test_some_rows_from_kept_features_and_the_others_computed_and_kept(models, rows, tmp_path, forwards):
    expected = predict_rows(models, rows, tta="hflip", compute=COMPUTE)
    keep(models[0], rows[2:6], tmp_path, role="train")
    # What training kept does not answer a test pass, of which nothing is kept.
    for role, computed in (("train", 2 * 5), ("train", 0), ("test", 2 * 9), ("test", 2 * 9)):
        forwards.clear()
        compute = dataclasses.replace(COMPUTE, features=FeatureCache(tmp_path, role))
        found = predict_rows(models, rows, tta="hflip", compute=compute)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert sum(forwards) == computed


def test_kept_features_are_of_one_backbone_and_one_specification(models, rows, tmp_path):
    keep(models[0], rows, tmp_path, role="train")
    cache, device = FeatureCache(tmp_path, "train"), torch.device("cpu")
    fingerprint, spec = backbone_fingerprint(models[0].model), models[0].spec
    assert cache.table(fingerprint, spec, device, "auto")
    assert not cache.table("other", spec, device, "auto")
    assert not cache.table(fingerprint, dataclasses.replace(spec, crop_pct=0.5), device, "auto")


def test_an_interrupted_extraction_keeps_what_it_has_and_leaves_nothing_half_done(models, rows, tmp_path):
    def stop(_images):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        keep(models[0], rows, tmp_path, role="train", on_batch=stop)
    folder = next((tmp_path / "features").iterdir())
    assert not list(folder.glob(".*.tmp"))
    assert keep(models[0], rows, tmp_path, role="train") == len(rows) - 4  # but for a batch


def test_the_heap_is_kept_while_features_are_computed(models, rows, tmp_path):
    depths = []
    keep(models[0], rows, tmp_path, role="train", on_batch=lambda _images: depths.append(host._depth))
    assert set(depths) == {1}
    assert host._depth == 0


def keep(model, rows, cache_dir, *, role, **options):
    parts, device = split_model(model.model, model.spec.size), torch.device("cpu")
    fingerprint = backbone_fingerprint(model.model)
    engine = backbone_engine(parts, fingerprint, model.spec, "torch", EngineOptions())
    table = FeatureCache(cache_dir, role).table(fingerprint, model.spec, device, "fp32")
    return Extractor(engine, model.spec, device, batch_size=4, workers=0, **options).complete(table, rows, ViewPlan())


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_convnext", "test_efficientnet"])
def test_parts_do_what_the_whole_does(name, tmp_path, rows):
    loaded = save_fresh(tmp_path / "m.safetensors", name=name)
    (group,) = group_models([loaded], [0], known=lambda _fingerprint, _spec: True)
    batch = next(iter(eval_batches(rows, loaded.spec, batch_size=4, workers=0))).images.float() / 255
    with torch.inference_mode():
        logits = group.heads(torch.device("cpu"))(group.parts.backbone(batch))[0]
        torch.testing.assert_close(logits, loaded.model(batch), atol=1e-4, rtol=1e-4)


def test_a_model_without_a_linear_head_has_no_parts(tmp_path):
    from kaggle_kit.config import ModelConfig
    from kaggle_kit.models import build_model

    model = build_model(ModelConfig(name="levit_128s"), 3)
    assert split_model(model, (224, 224)) is None


def test_openvino_sends_no_statistics():
    """In a process of its own: the package that would send them is not even imported."""
    pytest.importorskip("openvino")
    code = (
        "import sys; from kaggle_kit.inference.openvino_models import import_openvino as get; get();"
        "assert 'openvino' in sys.modules; assert not any(name.startswith('openvino_telemetry') for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
