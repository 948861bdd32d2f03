"""Latency: a row for each model, engine and batch size, by the engines that predict."""

import numpy as np
import pytest
import torch
from handmade_run import make_world

from kaggle_kit import runs
from kaggle_kit.inference import latency
from kaggle_kit.inference.latency import latency_of_one, measure_latency, models_to_time
from kaggle_kit.machine import host


@pytest.fixture(autouse=True)
def _quickly(monkeypatch):
    monkeypatch.setattr(latency, "_SECONDS", 0.01)


def test_each_model_is_timed_by_each_engine_with_each_batch(tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    world, seen, said = make_world(tmp_path), [], []
    make = latency.make_engine

    def watched(name, model, spec, **options):
        engine = make(name, model, spec, **options)
        compute = engine.logits

        def logits(batch):
            seen.append((name, tuple(batch.shape), host._depth))
            return compute(batch)

        engine.logits = logits
        return engine

    monkeypatch.setattr(latency, "make_engine", watched)
    timed = models_to_time(["test_resnet"], [world.run], image_size=48)
    found = measure_latency(timed, (), [1, 3], device="cpu", say=said.append)
    rows = found.rows
    assert list(zip(rows["run"], rows["engine"], rows["batch"], strict=True)) == [
        (run, engine, batch) for run in ("", "r") for engine in ("torch", "openvino") for batch in (1, 3)
    ]
    assert {shape for name, shape, _ in seen if name == "openvino"} == {(n, 3, s, s) for n in (1, 3) for s in (32, 48)}
    assert {depth for *_, depth in seen} == {1}  # the heap is kept, as by kk predict
    np.testing.assert_allclose(rows["img/s"], 1000 * rows["batch"] / rows["ms"], rtol=0.05)
    assert rows["MB"][4] == round((world.fold(0) / runs.MODEL).stat().st_size / 1e6, 1)
    assert len(said) == 8
    assert "CPUs" in found.device


def test_a_run_has_its_score_and_a_name_has_none(tmp_path):
    world = make_world(tmp_path)
    named, of_run = models_to_time(["test_resnet"], [world.run])
    assert (named.run, named.score) == ("", None)
    assert of_run.run == "r"
    assert of_run.spec.size == (32, 32)
    assert of_run.score is not None


def test_one_image_on_one_core_leaves_the_threads_as_they_were(tmp_path):
    world, before = make_world(tmp_path), torch.get_num_threads()
    assert latency_of_one(world.fold(0) / runs.MODEL) > 0
    assert torch.get_num_threads() == before


def test_the_first_batches_do_not_count():
    class Engine:
        name, calls = "e", 0

        def logits(self, batch):
            self.calls += 1
            return batch

    engine = Engine()
    taken = latency.seconds_each(engine, torch.zeros(1))
    assert 1 <= len(taken) == engine.calls - 2 <= 20
