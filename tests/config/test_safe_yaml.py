"""Configuration of unknown origin: each case is one plain ConfigError, never a traceback and never a hang."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from kaggle_kit.config import RunConfig, build_run_config, derive, load_config
from kaggle_kit.config.safe_yaml import load_yaml, read_yaml
from kaggle_kit.errors import ConfigError

COMPETITION = """
competition:
  name: zoo
  data_dir: data
  task: multiclass
  classes: [ant, bee]
  train: {layout: folders, dirs: [train]}
"""


def one_line(error: BaseException) -> bool:
    return len(str(error)) < 1000 and "\n" not in str(error)


def bomb(last: str) -> str:
    """Aliases ten wide and nine deep: a billion values in 700 letters."""
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{depth}: &a{depth} {last.format(', '.join([f'*a{depth - 1}'] * 10))}" for depth in range(1, 10)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (bomb("[{}]"), "aliases repeat more than"),
        (bomb("{{<<: [{}]}}"), "aliases repeat more than"),
        ("a: &a [*a]", "aliases repeat more than"),
        ("[" * 2000 + "]" * 2000, "nests deeper than 50"),
        ("{a: " * 2000 + "1" + "}" * 2000, "nests deeper than 50"),
        ("9" * 5000, "digits"),
        ("*nowhere", "undefined alias"),
        ("2020-99-99", "month"),
        ("a: \x07", "special characters"),
    ],
)
def test_yaml_beyond_the_bounds(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load_yaml(text)
    assert one_line(caught.value)


def test_aliases_and_merges_within_the_bounds() -> None:
    text = "base: &base {a: 1, b: [1, 2]}\nother: {<<: *base, a: 2}\nlist: [*base, *base]"
    assert load_yaml(text) == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ('submission: {sample: "\\0"}', r"competition\.submission\.sample holds text with a zero byte"),
        ('submission: {sample: "\\ud800"}', r"competition\.submission\.sample holds text with .*half a character"),
        ('label_map: {"\\0": a}', "zero byte"),
        (f"submission: {{threshold: {'9' * 400}}}", "more than 18 digits"),
        ("submission: {threshold: .inf}", "the number inf"),
        ("submission: {threshold: .nan}", "the number nan"),
        (f"metric: {'x' * 100_000}", "unknown metric"),
        ("metric: os:system", r"metric 'os:system': there is no os\.py"),
        ("metric: ../evil.py:score", "leads out of the workspace"),
        ("metric: /etc/evil.py:score", "leads out of the workspace"),
        (f"{'k' * 1000}: 1", "unknown key"),
    ],
)
def test_values_beyond_the_bounds(tmp_path: Path, entry: str, message: str) -> None:
    path = tmp_path / "kk.yaml"
    path.write_text(f"{COMPETITION}  {entry}\n")
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(path)
    assert one_line(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image_size=10000000", "image_size must be at most 4096 pixels"),
        ("image_size=[64, 5000]", "image_size must be at most 4096 pixels"),
        ("image_size=" + "9" * 5000, "not YAML"),
        ("image_size=" + "9" * 3000, "18 digits"),
        ("lr=.inf", "must be finite"),
        ("lr=inf", "must be finite|finite number"),
        ("epochs=1000000000", "less than or equal to 100000"),
        ("batch_size=99999999", "less than or equal to 65536"),
        ("workers=100000", "less than or equal to 256"),
        ("devices=0", "greater than or equal to 1"),
        ("seed=4294967296", "less than 4294967296"),
        ("folds=" + "f" * 300, "plain file name"),
        ("folds=../folds", "plain file name"),
        ("model.options=" + "[" * 2000, "nests deeper"),
    ],
)
def test_options_beyond_the_bounds(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        derive(RunConfig(), [text])
    assert one_line(caught.value)


def test_values_from_json_are_bounded_too() -> None:
    nested: dict = {}
    for _ in range(2000):
        nested = {"a": nested}
    with pytest.raises(ConfigError, match="nested deeper than 50") as caught:
        build_run_config({"model": {"options": nested}}, source="run.json")
    assert one_line(caught.value)


class TestFiles:
    def test_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="should be a file, found a folder"):
            read_yaml(tmp_path)

    def test_a_pipe_is_never_opened(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ConfigError, match="no regular file"):
            read_yaml(tmp_path / "pipe")

    def test_a_device_is_never_read(self) -> None:
        with pytest.raises(ConfigError, match="no regular file"):
            read_yaml(Path("/dev/zero"))

    def test_a_link_to_itself(self, tmp_path: Path) -> None:
        (tmp_path / "kk.yaml").symlink_to(tmp_path / "kk.yaml")
        with pytest.raises(ConfigError, match="cannot be read"):
            read_yaml(tmp_path / "kk.yaml")

    @pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
    def test_names_that_no_file_has(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(ConfigError):
            read_yaml(tmp_path / name)

    def test_too_large(self, tmp_path: Path) -> None:
        with (tmp_path / "kk.yaml").open("wb") as file:
            file.truncate(10**9)
        with pytest.raises(ConfigError, match="1,000,000,000 bytes"):
            read_yaml(tmp_path / "kk.yaml")
