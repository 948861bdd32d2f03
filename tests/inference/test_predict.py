from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from handmade_run import CLASSES, save_fresh, write_image

from kaggle_kit.choices import VIEWS
from kaggle_kit.errors import ClassMappingError, DataError, ImageError
from kaggle_kit.images.loaders import eval_batches
from kaggle_kit.inference import Compute, predict_model, predict_rows
from kaggle_kit.inference import predict as module
from kaggle_kit.inference.engines import EngineOptions
from kaggle_kit.tables import Classes

COMPUTE = Compute(batch_size=4, workers=0, device="cpu", engine="torch")


@pytest.fixture
def rows(tmp_path):
    return [(f"{number:03}", write_image(tmp_path / "images" / f"{number:03}.png", number)) for number in range(11)]


def test_rows_come_out_in_order_whatever_the_batch_size(rows, tmp_path):
    model = save_fresh(tmp_path / "m.safetensors")
    whole = predict_rows([model], rows, compute=COMPUTE)
    assert whole.shape == (1, len(rows), len(CLASSES))
    assert whole.dtype == np.float32
    np.testing.assert_allclose(whole.sum(axis=2), 1, atol=1e-6)
    assert len(np.unique(whole[0].round(5), axis=0)) == len(rows)  # images differ, so an order that slid would show
    for size in (1, 3, 64):
        again = predict_rows([model], rows, compute=dataclasses.replace(COMPUTE, batch_size=size))
        np.testing.assert_allclose(again, whole, atol=1e-5)
    backwards = predict_rows([model], rows[::-1], compute=COMPUTE)
    np.testing.assert_allclose(backwards[:, ::-1], whole, atol=1e-5)


def test_a_live_model_in_validation_gives_what_its_file_gives(rows, tmp_path):
    loaded = save_fresh(tmp_path / "m.safetensors")
    loaded.model.train()  # as it is when an epoch of training ends
    batches = eval_batches(rows, loaded.spec, batch_size=4, workers=0)
    order, live = predict_model(
        loaded.model, batches, loaded.spec, loaded.task, n_classes=len(loaded.classes), options=EngineOptions()
    )
    assert order.tolist() == list(range(len(rows)))
    assert np.array_equal(live, predict_rows([loaded], rows, compute=COMPUTE)[0])


def test_validation_is_not_rounded_by_what_training_wraps_around_the_model(rows, tmp_path):
    from lightning_fabric import Fabric

    loaded = save_fresh(tmp_path / "m.safetensors")
    wrapped = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed").setup(loaded.model)
    batches = eval_batches(rows, loaded.spec, batch_size=4, workers=0)
    _, live = predict_model(wrapped, batches, loaded.spec, loaded.task, n_classes=len(loaded.classes), options=EngineOptions())
    assert np.array_equal(live, predict_rows([loaded], rows, compute=COMPUTE)[0])


def test_models_side_by_side_give_what_each_gives_alone(rows, tmp_path):
    models = [
        save_fresh(tmp_path / "a.safetensors", seed=1),
        save_fresh(tmp_path / "b.safetensors", seed=2, size=(32, 48)),
        save_fresh(tmp_path / "c.safetensors", seed=3, name="test_resnet"),
        save_fresh(tmp_path / "d.safetensors", seed=4),
    ]
    assert len({model.spec for model in models}) == 3
    together = predict_rows(models, rows, tta="flips", compute=COMPUTE)
    for model, probs in zip(models, together, strict=True):
        np.testing.assert_allclose(probs, predict_rows([model], rows, tta="flips", compute=COMPUTE)[0], atol=1e-6)


def test_models_that_want_the_same_share_one_decode(rows, tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr("kaggle_kit.images.dataset.decode_image", _counting(read))
    models = [save_fresh(tmp_path / f"{seed}.safetensors", seed=seed) for seed in range(3)]
    predict_rows(models, rows, tta="d4", compute=COMPUTE)
    assert len(read) == len(rows)


def _counting(read):
    from kaggle_kit.images.decode import decode_image

    def decode(path, **options):
        read.append(path)
        return decode_image(path, **options)

    return decode


def test_views_are_the_mean_over_flipped_images(rows, tmp_path):
    """The flip is checked against image files that are mirrored on disk."""
    from PIL import Image, ImageOps

    model = save_fresh(tmp_path / "m.safetensors")
    model = dataclasses.replace(model, spec=dataclasses.replace(model.spec, crop_pct=1.0))
    mirrored = []
    for row_id, path in rows:
        target = tmp_path / "mirrored" / path.name
        target.parent.mkdir(exist_ok=True)
        Image.open(path).resize(model.spec.size).save(path)  # no crop whose odd margin would differ in the mirror
        ImageOps.mirror(Image.open(path)).save(target)
        mirrored.append((row_id, target))
    plain, flipped = (predict_rows([model], some, compute=COMPUTE) for some in (rows, mirrored))
    assert np.abs(plain - flipped).max() > 1e-3
    np.testing.assert_allclose(predict_rows([model], rows, tta="hflip", compute=COMPUTE), (plain + flipped) / 2, atol=1e-4)


@pytest.mark.parametrize("views", VIEWS)
def test_every_set_of_views_gives_each_row_what_its_image_gets_alone(views, rows, tmp_path):
    model = save_fresh(tmp_path / "m.safetensors", size=(32, 48))
    probs = predict_rows([model], rows[:3], tta=views, merge="gmean", compute=COMPUTE)
    np.testing.assert_allclose(probs.sum(axis=2), 1, atol=1e-5)
    alone = [predict_rows([model], [row], tta=views, merge="gmean", compute=COMPUTE) for row in rows[:3]]
    np.testing.assert_allclose(probs, np.concatenate(alone, axis=1), atol=1e-5)
    assert np.abs(np.diff(probs[0], axis=0)).max(axis=1).min() > 1e-4  # so that two exchanged rows would show


def test_multilabel_probabilities_are_sigmoids_and_need_not_sum_to_one(rows, tmp_path):
    model = save_fresh(tmp_path / "m.safetensors", task="multilabel")
    logits = torch.tensor([-1.0, 0.5, 2.0])
    head = model.model.get_classifier()
    with torch.no_grad():  # the same logits for every image
        head.weight.zero_()
        head.bias.copy_(logits)
    probs = predict_rows([model], rows, tta="hflip", compute=COMPUTE)
    np.testing.assert_allclose(probs[0], np.tile(torch.sigmoid(logits).numpy(), (len(rows), 1)), atol=1e-6)


def test_openvino_takes_the_same_path(rows, tmp_path):
    pytest.importorskip("openvino")
    model = save_fresh(tmp_path / "m.safetensors", name="test_resnet")
    expected = predict_rows([model], rows, tta="flips", compute=COMPUTE)
    other = predict_rows([model], rows, tta="flips", compute=dataclasses.replace(COMPUTE, engine="openvino"))
    np.testing.assert_allclose(other, expected, atol=1e-4)


def test_progress_counts_every_row_once_a_pass(rows, tmp_path):
    models = [save_fresh(tmp_path / "a.safetensors"), save_fresh(tmp_path / "b.safetensors", size=(32, 48))]
    seen = []
    predict_rows(models, rows, compute=COMPUTE, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (2 * len(rows), 2 * len(rows))
    assert seen == sorted(seen)


def test_all_unreadable_images_are_listed_with_their_ids(rows, tmp_path):
    model = save_fresh(tmp_path / "m.safetensors")
    rows[2][1].write_bytes(b"")
    rows[9][1].write_bytes(rows[9][1].read_bytes()[:60])
    with pytest.raises(ImageError, match=r"(?s)2 of 11 images.*002: .*009: "):
        predict_rows([model], rows, compute=COMPUTE)


def test_models_of_other_classes_are_refused(rows, tmp_path):
    one = save_fresh(tmp_path / "a.safetensors")
    other = save_fresh(tmp_path / "b.safetensors", classes=Classes(CLASSES.names[::-1]))
    with pytest.raises(ClassMappingError, match="another order"):
        predict_rows([one, other], rows, compute=COMPUTE)
    with pytest.raises(DataError, match="at least one model"):
        predict_rows([], rows, compute=COMPUTE)


def test_a_loader_that_loses_rows_is_noticed(rows, tmp_path, monkeypatch):
    model = save_fresh(tmp_path / "m.safetensors")

    def short(*args, **options):
        yield from list(eval_batches(*args, **options))[:-1]

    monkeypatch.setattr(module, "eval_batches", short)
    with pytest.raises(DataError, match="3 of 11 rows came out without"):
        predict_rows([model], rows, compute=COMPUTE)


def test_a_model_that_overflows_is_noticed(rows, tmp_path):
    model = save_fresh(tmp_path / "m.safetensors")
    model.model.classifier.bias.data.fill_(float("nan"))
    with pytest.raises(DataError, match="finite probability"):
        predict_rows([model], rows, compute=COMPUTE)
