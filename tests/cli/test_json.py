"""``--json`` of every command: exactly the keys that docs/cli.md lists, those inside of lists too, and nothing else there."""

import contextlib
import dataclasses
import io
import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from kaggle_kit import cli, kaggle_api
from kaggle_kit.auto.result import AutoResult
from kaggle_kit.demo import DemoResult
from kaggle_kit.images.store import open_store
from kaggle_kit.kaggle_api import PushResult, SubmissionStatus
from kaggle_kit.kernel.sandbox.testing import KernelTest
from kaggle_kit.serve import ServedModels
from kaggle_kit.workspace import Workspace

DOCS = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
ROWS = dict(re.findall(r"^\| `([^`]+)` \| ((?:list|object): .*) \|$", DOCS, re.MULTILINE))
COLOURS = {"red": (40, 40, 220), "green": (40, 220, 40), "blue": (220, 40, 40)}
SMALL = ("model=test_resnet", "pretrained=false", "image_size=32", "epochs=1", "batch_size=8", "workers=0")
COMMANDS: dict[str, tuple[str, ...]] = {
    "init": ("init", "data"),
    "look": ("look",),
    "folds": ("folds", "--n-folds", "2", "--duplicates", "off"),
    "plan": ("plan", *SMALL, "--seconds", "1"),
    "lr": ("lr", *SMALL, "--updates", "20"),
    "train": ("train", *SMALL, "--run", "a"),
    "train b": ("train", *SMALL, "--run", "b", "lr=1e-2"),
    "update": ("update", "data"),
    "tune": ("tune", *SMALL, "--trials", "1", "--folds", "0"),
    "predict": ("predict", "--control", "8"),
    "predict --images": ("predict", "--images", "data/test"),
    "labels": ("labels", "--table"),
    "blend": ("blend",),
    "check": ("check",),
    "report": ("report", "a"),
    "evaluate": ("evaluate", "data/train"),
    "export": ("export", "a", "--to", "exported", "--format", "torchscript"),
    "latency": ("latency", "--runs", "a", "--engines", "torch", "--batch-sizes", "1,2"),
    "models": ("models", "lite0"),
    "weights list": ("weights", "list"),
    "weights fetch": ("weights", "fetch", "tf_efficientnet_lite0"),
    "runs": ("runs",),
    "runs RUN RUN": ("runs", "a", "b"),
    "runs --submissions": ("runs", "--submissions"),
    "kernel build": ("kernel", "build", "--username", "ada", "--force"),
    "cache list": ("cache", "list"),
    "cache verify": ("cache", "verify"),
    "cache drop": ("cache", "drop", "all"),
    "recipes": ("recipes",),
    "recipes NAME": ("recipes", "sushi"),
    "config": ("config", "optimizer.lr"),
    "labels --effect": ("labels", "--effect"),
    "runs --rm RUN": ("runs", "--rm", "b", "--force"),
}
"""What is called one after the other in one workspace; "train b" is documented as "train"."""
ELSEWHERE = {
    "kernel test": KernelTest,
    "kernel push": PushResult,
    "submit": SubmissionStatus,
    "demo": DemoResult,
    "auto": AutoResult,
    "serve": ServedModels,
}
"""Commands that need a sandbox, Kaggle or a minute: what they return, whose fields are the keys unless it says otherwise."""


def documented(command: str) -> tuple[set[str], dict[str, set[str]]]:
    """The keys of the value that ``command`` prints, or of each row, and those of the rows in some of them."""
    text = ROWS[command.partition(" --images")[0] if command == "predict --images" else command]
    if "; with `--images`" in text:
        text = text.split("; with `--images`")[command == "predict --images"]
    nested = {key: set(re.findall(r"`([^`]+)`", inside)) for key, inside in re.findall(r"`([^`]+)` \(each ([^)]*)\)", text)}
    return set(re.findall(r"`([^`]+)`", re.sub(r"\([^)]*\)", "", text))), nested


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """Command -> exit code, output and error output."""
    root = tmp_path_factory.mktemp("json")
    rng = np.random.default_rng(0)
    for part, count in (("train/{}", 8), ("test", 3)):
        for name, colour in COLOURS.items():
            for number in range(count):
                path = root / "data" / part.format(name) / f"{name[0]}{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), np.clip(rng.normal(colour, 30, (40, 48, 3)), 0, 255).astype(np.uint8))
    ids = sorted(path.name for path in (root / "data" / "test").iterdir())
    (root / "data" / "sample_submission.csv").write_text("id,label\n" + "".join(f"{one},red\n" for one in ids))
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("XDG_CACHE_HOME", str(root / "cache"))  # where speeds are kept
        for command, arguments in COMMANDS.items():
            if command == "cache list":
                _fill_store(root)
            if command == "labels --effect":
                _review(root)
            found[command] = _kk([*arguments, "--json"])
    shutil.rmtree(root)
    return found


def _kk(arguments: list[str]) -> tuple[int, str, str]:
    """Run ``kk`` once; a fixture of a module cannot have pytest's own capture."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    return int(ended.value.code or 0), out.getvalue(), err.getvalue()


def _fill_store(root: Path) -> None:
    open_store(Workspace(root).cache_dir, [(path.name, path) for path in (root / "data" / "test").iterdir()], (32, 32))


def _review(root: Path) -> None:
    (root / "labels").mkdir(exist_ok=True)
    (root / "labels" / "review.csv").write_text('id,decision,labels,was\nred/r0.png,right,"[""red""]","[""red""]"\n')


@pytest.mark.parametrize("command", COMMANDS)
def test_the_keys_are_those_that_are_documented(printed, command):
    code, out, err = printed[command]
    assert code in (0, 3), err
    assert "NaN" not in out
    value = json.loads(out)
    keys, nested = documented("train" if command == "train b" else command)
    if command == "config":  # dotted keys, each with the documented ones
        value = next(iter(value.values()))
    rows = value if isinstance(value, list) else [value]
    assert rows
    assert set(rows[0]) == keys
    for key, inside in nested.items():
        found = [set(one) for one in rows[0][key]]
        metrics = {"accuracy"} if command == "evaluate" else set()  # "and a key for each metric"
        assert all((one >= inside | metrics) if metrics else (one == inside) for one in found), (key, found[:1])


@pytest.mark.parametrize("command", ELSEWHERE)
def test_what_other_commands_return_has_the_documented_keys(command):
    result = ELSEWHERE[command]
    keys, _ = documented(command)
    fields = {one.name for one in dataclasses.fields(result) if not one.name.startswith("_")}
    assert keys == (fields if "to_dict" not in vars(result) else keys & fields | {"check"})


def test_a_download_has_the_documented_keys(kk, monkeypatch, tmp_path):
    monkeypatch.setattr(kaggle_api, "download", lambda _slug, folder, **_: folder)
    assert set(json.loads(kk("download", "digits", "--json", folder=tmp_path)[1])) == documented("download")[0]


def test_every_documented_command_is_tried():
    assert set(ROWS) == {*COMMANDS, *ELSEWHERE, "download"} - {"train b", "predict --images"}
