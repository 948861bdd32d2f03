"""Pushing a dataset and a notebook: judged before, uploaded once, watched until done."""

from __future__ import annotations

import contextlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fake_kaggle import USER, FakeKaggle, Fault, Timed

from kaggle_kit.errors import ConfigError, KaggleKitError, MissingFileError, RemoteError, SubmissionError
from kaggle_kit.kaggle_api import PushResult, push, push_dataset, push_kernel, pushing, slug_of
from kaggle_kit.kaggle_api.metadata import read_dataset, read_kernel

DATASET = {"id": f"{USER}/kk-digits-models", "title": "KK Digits models", "licenses": [{"name": "CC0-1.0"}]}
KERNEL = {
    "id": f"{USER}/kk-digits-inference",
    "title": "KK Digits: inference",
    "code_file": "inference.ipynb",
    "language": "python",
    "kernel_type": "notebook",
    "is_private": True,
    "enable_gpu": True,
    "enable_internet": False,
    "machine_shape": "NvidiaTeslaT4",
    "dataset_sources": [DATASET["id"]],
    "competition_sources": ["digits"],
}
NOTEBOOK = {
    "nbformat": 4,
    "nbformat_minor": 5,
    "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    "cells": [{"cell_type": "code", "id": "a", "metadata": {}, "source": ["1\n", "2"], "outputs": [], "execution_count": None}],
}


def write(path: Path, value: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


@pytest.fixture
def built(tmp_path: Path) -> Path:
    root = tmp_path / "built"
    write(root / "dataset" / "dataset-metadata.json", DATASET)
    write(root / "kernel" / "kernel-metadata.json", KERNEL)
    write(root / "kernel" / "inference.ipynb", NOTEBOOK)
    (root / "dataset" / "manifest.json").write_text("{}")
    (root / "dataset" / "weights").mkdir()
    (root / "dataset" / "weights" / "fold0.safetensors").write_bytes(bytes(1000))
    return root


def test_a_kernel_of_a_blend_that_is_not_proven_wants_force(kaggle: FakeKaggle, timed: Timed, built: Path) -> None:
    write(built / "verdict.json", {"submission": "blend.csv", "verdict": "NOT PROVEN", "unproven": ["rows"]})
    with pytest.raises(SubmissionError, match="is not proven: nothing independent shows which image"):
        push(built, patience=timed.patience)
    push(built, force=True, patience=timed.patience)


def test_pushes_both_and_waits(kaggle: FakeKaggle, timed: Timed, built: Path) -> None:
    kaggle.kernel_states = [("QUEUED", ""), ("RUNNING", ""), ("COMPLETE", "")]
    seen: list[PushResult] = []
    dataset, kernel = push(built, on_status=seen.append, patience=timed.patience)
    assert (dataset.status, dataset.version, dataset.uploaded) == ("ready", 1, True)
    assert (kernel.status, kernel.version, kernel.uploaded) == ("complete", 1, True)
    assert [one.status for one in seen] == ["blobs_received", "ready", "queued", "running", "complete"]
    version = kaggle.datasets[DATASET["id"]].versions[0]
    assert version["files"] == ["manifest.json", "weights.zip"]  # the folder too, and not the record of pushes
    assert version["private"] is True
    saved = kaggle.kernels[KERNEL["id"]][0]
    assert saved["machineShape"] == "NvidiaTeslaT4"
    assert json.loads(saved["text"])["cells"][0]["source"] == "1\n2"
    assert saved.get("enableInternet", False) is False
    assert kaggle.calls.index("SaveKernel") > max(at for at, call in enumerate(kaggle.calls) if call == "GetDatasetStatus")


def test_nothing_is_pushed_twice(kaggle: FakeKaggle, timed: Timed, built: Path) -> None:
    push(built, patience=timed.patience)
    sent = kaggle.received
    dataset, kernel = push(built, patience=timed.patience)
    assert (dataset.uploaded, kernel.uploaded) == (False, False)
    assert (dataset.status, kernel.status) == ("ready", "complete")
    assert kaggle.received == sent
    assert kaggle.count("SaveKernel") == kaggle.count("CreateDataset") == 1


def test_two_at_once_push_once(kaggle: FakeKaggle, timed: Timed, built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both, require_owner = threading.Barrier(2), pushing._require_owner

    def together(*arguments: Any) -> None:
        with contextlib.suppress(threading.BrokenBarrierError):  # as it must be, since one waits for the other
            both.wait(0.3)
        require_owner(*arguments)

    monkeypatch.setattr(pushing, "_require_owner", together)
    with ThreadPoolExecutor(2) as pool:
        pushes = [pool.submit(push, built, patience=timed.patience) for _ in range(2)]
        uploaded = [[one.uploaded for one in done.result(60)] for done in pushes]
    assert sorted(uploaded) == [[False, False], [True, True]]
    assert len(kaggle.datasets[DATASET["id"]].versions) == len(kaggle.kernels[KERNEL["id"]]) == 1


def test_a_change_makes_a_new_version_and_runs_the_notebook_again(kaggle: FakeKaggle, timed: Timed, built: Path) -> None:
    push(built, patience=timed.patience)
    (built / "dataset" / "weights" / "fold0.safetensors").write_bytes(bytes(1001))
    dataset, kernel = push(built, patience=timed.patience)
    assert (dataset.version, kernel.version) == (2, 2)
    assert (dataset.uploaded, kernel.uploaded) == (True, True)
    assert ".kk-push.json" not in kaggle.datasets[DATASET["id"]].versions[1]["files"]
    (built / "kernel" / "inference.ipynb").write_text(json.dumps({**NOTEBOOK, "nbformat_minor": 4}))
    dataset, kernel = push(built, patience=timed.patience)
    assert (dataset.uploaded, kernel.uploaded) == (False, True)


def test_force_runs_a_failed_notebook_again(kaggle: FakeKaggle, timed: Timed, built: Path) -> None:
    kaggle.kernel_states = [("ERROR", "out of memory")]
    failed = push_kernel(built / "kernel", patience=timed.patience)
    assert (failed.status, failed.failure) == ("error", "out of memory")
    again = push_kernel(built / "kernel", force=True, patience=timed.patience)
    assert (again.status, again.version) == ("complete", 2)


def test_without_the_record_kaggle_is_asked(kaggle: FakeKaggle, timed: Timed, built: Path) -> None:
    push_dataset(built / "dataset", patience=timed.patience)
    (built / "dataset" / "manifest.json").write_text("[]")
    push_dataset(built / "dataset", patience=timed.patience)
    (built / "dataset" / ".kk-push.json").unlink()
    result = push_dataset(built / "dataset", patience=timed.patience)
    assert (result.uploaded, result.version, result.status) == (False, 2, "ready")
    assert len(kaggle.datasets[DATASET["id"]].versions) == 2


LOST = [Fault("lose"), Fault("drop"), Fault("status", 500), Fault("hang", seconds=0.6)]


@pytest.mark.parametrize("fault", LOST)
def test_lost_answers_do_not_make_two(kaggle: FakeKaggle, timed: Timed, built: Path, fault: Fault) -> None:
    kaggle.faults["CreateDataset"] = kaggle.faults["SaveKernel"] = [fault]
    kaggle.faults["SaveKernel"] = [fault]
    dataset, kernel = push(built, patience=timed.patience)
    assert (dataset.version, kernel.version) == (1, 1)
    assert len(kaggle.datasets[DATASET["id"]].versions) == len(kaggle.kernels[KERNEL["id"]]) == 1
    (built / "dataset" / "manifest.json").write_text("[]")
    kaggle.faults["CreateDatasetVersion"] = [fault]
    assert push_dataset(built / "dataset", patience=timed.patience).version == 2
    assert len(kaggle.datasets[DATASET["id"]].versions) == 2


def test_killed_before_the_record_was_finished(kaggle: FakeKaggle, timed: Timed, built: Path) -> None:
    push(built, patience=timed.patience)
    for folder in ("dataset", "kernel"):
        path = built / folder / ".kk-push.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "state": "pushing"}))
    dataset, kernel = push(built, patience=timed.patience)
    assert (dataset.uploaded, kernel.uploaded) == (False, False)
    assert kaggle.count("SaveKernel") == kaggle.count("CreateDataset") == 1


def test_killed_before_anything_arrived(kaggle: FakeKaggle, timed: Timed, built: Path) -> None:
    kaggle.faults["CreateDataset"] = [Fault("drop")] * 99
    with pytest.raises(RemoteError, match="connection broke"):
        push_dataset(built / "dataset", patience=timed.patience)
    kaggle.faults["CreateDataset"] = []
    assert push_dataset(built / "dataset", patience=timed.patience).uploaded


@pytest.mark.parametrize("fault", [Fault("half"), Fault("lose"), Fault("drop"), Fault("status", 503)])
def test_file_upload_goes_on_where_it_stopped(kaggle: FakeKaggle, timed: Timed, built: Path, fault: Fault) -> None:
    (built / "dataset" / "big.bin").write_bytes(bytes(range(256)) * 1000)
    kaggle.faults["PUT"] = [fault]
    push_dataset(built / "dataset", patience=timed.patience)
    for token, name in kaggle.names.items():
        assert len(kaggle.blobs[token]) == kaggle.sizes[token], name


def test_files_that_arrived_are_kept_for_the_next_call(kaggle: FakeKaggle, timed: Timed, built: Path) -> None:
    kaggle.faults["CreateDataset"] = [Fault("status", 400, "Title is taken")]
    with pytest.raises(RemoteError, match="Title is taken"):
        push_dataset(built / "dataset", patience=timed.patience)
    kaggle.faults["StartBlobUpload"] = []
    push_dataset(built / "dataset", patience=timed.patience)
    assert sum(name == "manifest.json" for name in kaggle.names.values()) == 1


def test_an_expired_link_is_begun_anew(kaggle: FakeKaggle, timed: Timed, built: Path) -> None:
    kaggle.faults["CreateDataset"] = [Fault("status", 400)]
    with pytest.raises(RemoteError):
        push_dataset(built / "dataset", patience=timed.patience)
    for token in [token for token, name in kaggle.names.items() if name == "manifest.json"]:
        del kaggle.blobs[token]
        kaggle.blobs[f"gone-{token}"] = bytearray()
    push_dataset(built / "dataset", patience=timed.patience)
    assert kaggle.datasets[DATASET["id"]].versions[0]["files"] == ["manifest.json", "weights.zip"]


def test_dataset_that_kaggle_cannot_process(kaggle: FakeKaggle, timed: Timed, built: Path) -> None:
    push_dataset(built / "dataset", wait=False, patience=timed.patience)
    kaggle.datasets[DATASET["id"]].stages = ["FAILED"]
    with pytest.raises(RemoteError, match="could not process"):
        push_dataset(built / "dataset", patience=timed.patience)


def test_dataset_that_takes_too_long(kaggle: FakeKaggle, timed: Timed, built: Path) -> None:
    push_dataset(built / "dataset", wait=False, patience=timed.patience)
    kaggle.datasets[DATASET["id"]].stages = ["BLOBS_RECEIVED"] * 1000
    with pytest.raises(RemoteError, match=r"not ready after 100 s.*nothing is uploaded again"):
        push_dataset(built / "dataset", timeout=100, patience=timed.patience)


def test_sources_that_kaggle_does_not_know(kaggle: FakeKaggle, timed: Timed, built: Path) -> None:
    kaggle.invalid_sources = [str(DATASET["id"])]
    with pytest.raises(RemoteError, match=r"does not know.*dataset: ada/kk-digits-models"):
        push_kernel(built / "kernel", patience=timed.patience)
    kaggle.invalid_sources = []  # the same content is right once the source is there
    assert push_kernel(built / "kernel", patience=timed.patience).version == 2


def test_somebody_else(kaggle: FakeKaggle, timed: Timed, built: Path) -> None:
    write(built / "dataset" / "dataset-metadata.json", {**DATASET, "id": "eve/kk-digits-models"})
    with pytest.raises(ConfigError, match=r"belongs to 'eve'.*'ada'"):
        push_dataset(built / "dataset", patience=timed.patience)


@pytest.mark.parametrize(
    ("title", "slug"),
    [
        ("KK Digits: inference", "kk-digits-inference"),
        ("  A  b_c (v2) ", "a-b-c-v2"),
        ("Crème brûlée", "creme-brulee"),
        ("1.5 x", "1-5-x"),
    ],
)
def test_slug_is_the_clients(title: str, slug: str) -> None:
    slugify = pytest.importorskip("slugify").slugify
    assert slug_of(title) == slug == slugify(title)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"title": "Another"}, "make them agree"),
        ({"id": "no-owner"}, "expected user/slug"),
        ({"title": "KK", "id": "ada/kk"}, "5 to 50 characters"),
        ({"title": "INSERT TITLE HERE", "id": "ada/insert-title-here"}, "template"),
        ({"licenses": []}, "exactly one"),
        ({"subtitle": "short"}, "20 to 80"),
        ({"resources": [{"path": "none.bin"}]}, "no none.bin"),
    ],
)
def test_dataset_is_judged_before(built: Path, changes: dict[str, Any], text: str) -> None:
    write(built / "dataset" / "dataset-metadata.json", {**DATASET, **changes})
    with pytest.raises(ConfigError, match=text):
        read_dataset(built / "dataset")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"title": "Something else"}, "becomes 'something-else' in the address"),
        ({"code_file": "none.ipynb"}, "no 'none.ipynb'"),
        ({"code_file": "../dataset/manifest.json"}, "in the folder"),
        ({"language": "julia"}, "language"),
        ({"kernel_type": "app"}, "kernel_type"),
        ({"machine_shape": ""}, "NvidiaTeslaT4"),
        ({"dataset_sources": ["no-owner"]}, "dataset_sources"),
        ({"competition_sources": ["c/digits"]}, "competition_sources"),
    ],
)
def test_kernel_is_judged_before(built: Path, changes: dict[str, Any], text: str) -> None:
    write(built / "kernel" / "kernel-metadata.json", {**KERNEL, **changes})
    with pytest.raises(ConfigError, match=text):
        read_kernel(built / "kernel")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"metadata": {}}, "no kernelspec"),
        ({"cells": []}, "not a notebook"),
        ({"nbformat": 3}, "not a notebook"),
        ({"padding": "x" * 1_000_001}, "Kaggle takes 1,000,000"),
    ],
)
def test_notebook_is_judged_before(built: Path, changes: dict[str, Any], text: str) -> None:
    write(built / "kernel" / "inference.ipynb", {**NOTEBOOK, **changes})
    with pytest.raises(ConfigError, match=text):
        read_kernel(built / "kernel")


def test_all_objections_are_told_at_once_and_before_signing_in(home: Path, built: Path) -> None:
    write(built / "kernel" / "kernel-metadata.json", {**KERNEL, "language": "julia", "machine_shape": ""})
    with pytest.raises(ConfigError, match=r"(?s)language.*machine_shape"):
        push(built)


def test_too_much_for_a_dataset(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kaggle_kit.kaggle_api.metadata.LARGEST_DATASET", 1000)
    with pytest.raises(ConfigError, match="1,002 bytes together"):
        read_dataset(built / "dataset")


def test_links_and_missing_folders(built: Path, tmp_path: Path) -> None:
    (built / "dataset" / "out").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="link leads"):
        read_dataset(built / "dataset")
    with pytest.raises(MissingFileError, match="kk kernel build"):
        read_kernel(tmp_path)


def test_limits_are_bounded(kaggle: FakeKaggle, timed: Timed, built: Path) -> None:
    kaggle.faults["SaveKernel"] = [Fault("status", 429, "Maximum batch GPU session count of 2 reached")] * 99
    with pytest.raises(KaggleKitError, match="Maximum batch GPU session count"):
        push_kernel(built / "kernel", patience=timed.patience)
    assert kaggle.count("SaveKernel") == 4
