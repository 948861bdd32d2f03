"""Speeds that are kept: of this machine and device, the newest measurement of each kind."""

import platform

import pandas as pd
import pytest

from kaggle_kit.machine import speeds
from kaggle_kit.machine.speeds import keep_speeds, known_speeds


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "kaggle_kit"


def measured(*rows: tuple[str, str, str, int, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["model", "size", "engine", "batch", "img/s"])


def test_nothing_is_known_before_anything_was_measured():
    assert known_speeds("cpu").empty


def test_of_a_network_the_fastest_at_the_largest_size_counts_whatever_its_weights():
    keep_speeds(
        "cpu",
        measured(
            ("a.one_in1k", "224x224", "torch", 1, 10.0),
            ("a.two_in1k", "224x224", "openvino", 8, 30.5),
            ("a.two_in1k", "96x96", "openvino", 8, 99.0),
            ("b", "1000x32", "torch", 1, 7.0),
        ),
    )
    known = known_speeds("cpu")
    assert known["img/s"].to_dict() == {"a": 30.5, "b": 7.0}
    assert known.loc["a", "measured"].startswith("224x224 openvino 20")


def test_a_new_measurement_takes_the_place_of_the_old_one_and_of_no_other():
    keep_speeds("cpu", measured(("a", "224x224", "torch", 1, 10.0), ("b", "224x224", "torch", 1, 5.0)))
    keep_speeds("cpu", measured(("a", "224x224", "torch", 1, 8.0)))
    keep_speeds("a GPU", measured(("a", "224x224", "torch", 1, 800.0)))
    assert known_speeds("cpu")["img/s"].to_dict() == {"a": 8.0, "b": 5.0}
    assert known_speeds("a GPU")["img/s"].to_dict() == {"a": 800.0}


def test_other_machines_count_for_nothing(monkeypatch):
    keep_speeds("cpu", measured(("a", "224x224", "torch", 1, 10.0)))
    monkeypatch.setattr(platform, "node", lambda: "elsewhere")
    assert known_speeds("cpu").empty


def test_a_damaged_file_is_begun_anew_and_a_cache_that_cannot_be_written_stops_nothing(cache, monkeypatch):
    cache.mkdir()
    (cache / "speeds.csv").write_text("what is this\n1\n")
    assert known_speeds("cpu").empty
    keep_speeds("cpu", measured(("a", "224x224", "torch", 1, 10.0)))
    assert len(known_speeds("cpu")) == 1
    (cache / "file").write_text("")
    monkeypatch.setattr(speeds, "user_cache", lambda: cache / "file" / "in it")
    keep_speeds("cpu", measured(("a", "224x224", "torch", 1, 10.0)))
