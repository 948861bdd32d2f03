"""A full disk and a read-only one: each command ends with a plain reason, leaves finished work, and goes on afterwards."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from factories import make_workspace
from kernel_world import make_world

from kaggle_kit.cli import main
from kaggle_kit.images.store import open_store

WRITES = (
    ["blend", "--name", "new"],
    ["folds", "--name", "new"],
    ["init", "data", "--force", "--choose", "label_separator=none"],
    ["train", "--run", "new"],
)
HEAVY = (
    ["train", "--run", "new"],
    ["predict", "--run", "run0", "--tta", "hflip"],
    ["tune", "--trials", "1"],
    ["kernel", "build", "--username", "ada", "--force"],
    ["cache", "drop", "all"],
)
LIGHT = (
    *WRITES[:3],
    ["runs", "--rm", "run0", "--force"],
    ["submit", "a-competition", "submissions/mine.csv", "--force"],
)
READS = (["runs"], ["config"], ["check", "submissions/mine.csv"])
"""What needs not write, `kk check` with a warning that its verdict is not kept."""


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_workspace(tmp_path / "w", n_train=60, n_test=24, n_runs=2, n_folds=3, control=24, accuracy=0.95)
    monkeypatch.chdir(tmp_path / "w")
    return tmp_path / "w"


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    return int(end.value.code or 0), "".join(capsys.readouterr())


def contents(root: Path) -> dict[str, str]:
    """Fingerprints of all files but temporary ones."""
    found = [path for path in root.rglob("*") if path.is_file() and ".cache" not in path.parts]
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


@contextlib.contextmanager
def no_room() -> Iterator[None]:
    """Let no file of this process grow beyond 64 bytes: the write itself fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("command", WRITES[:3], ids=lambda command: command[0])
def test_no_room(workspace: Path, capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    before = contents(workspace)
    with no_room():
        code, told = run(command, capsys)
    assert code == 1, told
    assert "defect" not in told
    assert "cannot write" in told
    after = contents(workspace)
    assert {path: after.get(path) for path in before} == before
    code, told = run(command, capsys)
    assert code in (0, 3), told


FULL = {
    "train": ["train", "--run", "new", "model=test_resnet", "pretrained=false", "image_size=32", "workers=0"],
    "predict": ["predict", "--run", "b", "--tta", "hflip", "--engine", "torch"],
    "tune": ["tune", "--trials", "1", "model=test_resnet", "pretrained=false", "image_size=32", "workers=0"],
    "kernel": ["kernel", "build", "--username", "ada", "--force"],
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with real, untrained models."""
    return make_world(tmp_path_factory.mktemp("world")).workspace.root


@pytest.mark.parametrize("command", FULL.values(), ids=FULL)
def test_no_room_where_pytorch_is_needed(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    monkeypatch.chdir(world)
    before = contents(world)
    with no_room():
        code, told = run(command, capsys)
    assert code == 1, told
    assert "defect" not in told
    assert "Traceback" not in told
    assert re.search("cannot write|cannot be used", told), told
    after = contents(world)
    assert {path: after.get(path) for path in before} == before


def test_no_room_for_the_verdict(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A verdict that cannot be kept is said all the same, and nothing will be sent on it."""
    run(["blend", "--name", "mine"], capsys)
    record = workspace / "submissions" / "mine.check.json"
    record.unlink()
    with no_room():
        code, told = run(["check", "submissions/mine.csv"], capsys)
    assert code in (0, 3), told
    assert "the verdict was not recorded" in told
    assert not record.exists()
    code, told = run(["submit", "a-competition", "submissions/mine.csv"], capsys)
    assert (code, "kk check" in told) == (2, True), told


SCRIPT = """
import contextlib, io, json, sys
from kaggle_kit.cli import main
for command in json.loads(sys.argv[1]):
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            main(command)
            code = 0
        except SystemExit as end:
            code = end.code
    print("RESULT" + json.dumps([command, code, out.getvalue()]))
"""


def on_a_read_only_disk(workspace: Path, commands: tuple[list[str], ...]) -> list[tuple[list[str], int, str]]:
    """Run commands in a mount namespace in which the workspace is read-only, which stops even root."""
    mount = f"mount --bind {workspace} {workspace} && mount -o remount,bind,ro {workspace} && cd {workspace}"
    own = [] if os.geteuid() == 0 else ["--map-root-user"]
    command = ["unshare", "--mount", *own, "sh", "-c", f'{mount} && exec "$0" "$@"']
    try:
        possible = subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        possible = False
    if not possible:
        pytest.skip("this machine allows no mount namespaces")
    done = subprocess.run(
        [*command, sys.executable, "-c", SCRIPT, json.dumps(commands)], capture_output=True, text=True, check=False
    )
    results = [json.loads(line.removeprefix("RESULT")) for line in done.stdout.splitlines() if line.startswith("RESULT")]
    assert len(results) == len(commands), done.stderr
    return [(command, code, told) for command, code, told in results]


def test_read_only(workspace: Path) -> None:
    with contextlib.suppress(SystemExit):
        main(["blend", "--name", "mine"])
    before = contents(workspace)
    for command, code, told in on_a_read_only_disk(workspace, (*LIGHT, *READS)):
        assert "defect" not in told, (command, told)
        assert "Traceback" not in told, (command, told)
        if command in READS:
            assert code in (0, 3), (command, told)
            assert ("read-only" in told) == (command[0] == "check"), (command, told)
        else:
            assert (code, "read-only" in told) == (1, True), (command, told)
    assert contents(workspace) == before


def test_read_only_where_pytorch_is_needed(workspace: Path) -> None:
    images = sorted((workspace / "data" / "train_images").iterdir())
    open_store(workspace / ".kk_cache", [(path.name, path) for path in images], (8, 8), workers=1)
    before = contents(workspace)
    for command, code, told in on_a_read_only_disk(workspace, HEAVY):
        assert "defect" not in told, (command, told)
        assert "Traceback" not in told, (command, told)
        assert code in (1, 2), (command, told)
        assert "read-only" in told, (command, told)
    assert contents(workspace) == before
