"""Names of choices are checked when a configuration is read, before PyTorch is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kaggle_kit.config import FoldsConfig, RunConfig, changed, derive
from kaggle_kit.config.optimizers import optimizers
from kaggle_kit.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "key", "near"),
    [
        ("augment=heavyy", "augment.preset", "heavy"),
        ("loss=focall", "loss.name", "focal"),
        ("schedule=cosin", "schedule.name", "cosine"),
        ("optimizer=adamww", "optimizer.name", "adamw"),
        ("optimizer=lookahead_adamww", "optimizer.name", "adamw"),
        ("sampler=shufle", "data.sampler", "shuffle"),
        ("strategy=prob", "strategy", "probe"),
        ("hardware.engine=openvin", "hardware.engine", "openvino"),
    ],
)
def test_a_wrong_name_is_an_error_that_names_key_nearest_and_all(text: str, key: str, near: str) -> None:
    with pytest.raises(ConfigError, match=rf"{key}: unknown .*Did you mean '{near}'\? Choose one of: .*{near}"):
        derive(RunConfig(), [text])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"repeats": 999_999_999}, "repeats: Input should be less than or equal to 100, got 999999999"),
        ({"n_folds": 1_000_000}, "n_folds: Input should be less than or equal to 1000"),
        ({"duplicates": "nearly"}, "duplicates: Input should be 'exact', 'near' or 'off'"),
    ],
)
def test_folds_beyond_sense(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        changed(FoldsConfig(), changes)


def test_nothing_is_written_for_a_wrong_name(tmp_path: Path) -> None:
    (tmp_path / "kk.yaml").write_text(
        "competition: {name: zoo, data_dir: ., task: multiclass, classes: [a, b], train: {layout: folders, dirs: [a]}}"
    )
    code = (
        "import sys\nfrom kaggle_kit.cli import main\ntry:\n    main(['train', 'augment=heavyy'])\n"
        "except SystemExit as end:\n    print(end.code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split() == ["2", "False"]
    assert "augment.preset: unknown augmentation preset 'heavyy'. Did you mean 'heavy'?" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["kk.yaml"]


def test_unknown_keys_are_answered_with_the_short_names_too() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'zzz'\. Known here: seed, .*; short: model, .*lr, "):
        derive(RunConfig(), ["zzz=1"])


def test_a_wrong_scheme() -> None:
    with pytest.raises(ConfigError, match=r"scheme: unknown fold scheme 'stratifed'\. Did you mean 'stratified'"):
        changed(FoldsConfig(), {"scheme": "stratifed"})


@pytest.mark.parametrize("name", ["sgd", "lookahead_adamw", "nesterov"])
def test_optimizers_of_timm(name: str) -> None:
    assert derive(RunConfig(), [f"optimizer={name}"]).optimizer.name == name


def test_the_optimizers_read_from_the_source_are_those_that_timm_has() -> None:
    from timm.optim import list_optimizers

    assert set(optimizers()) == set(list_optimizers())
    assert "Adam" in optimizers().helps["adamw"]


def test_nothing_heavy_is_imported_to_check_names() -> None:
    code = (
        "import sys\nfrom kaggle_kit.config import RunConfig, derive\n"
        "derive(RunConfig(), ['optimizer=sgd', 'augment=heavy', 'loss=bce'])\n"
        "print(*{'torch', 'timm', 'pandas', 'albumentations', 'sklearn'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""
