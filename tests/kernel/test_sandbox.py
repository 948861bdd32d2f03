import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from kernel_world import write_image

from kaggle_kit import files, kernel
from kaggle_kit.competition import init_workspace
from kaggle_kit.competition.setup import open_setup
from kaggle_kit.errors import ConfigError, DependencyError, MissingFileError
from kaggle_kit.images.decode import decode_image
from kaggle_kit.kernel.image import load_image
from kaggle_kit.kernel.sandbox import session as sessions
from kaggle_kit.kernel.sandbox import testing
from kaggle_kit.kernel.sandbox.environment import make_environment
from kaggle_kit.kernel.sandbox.inputs import (
    copy_test_data,
    hidden_images,
    is_packed,
    visible_images,
    write_hidden_ids,
    write_hidden_rows,
    write_test_data,
)
from kaggle_kit.kernel.sandbox.session import Isolation, find_isolation, printed, run_session
from kaggle_kit.kernel.testset import find_test_set
from kaggle_kit.workspace import Workspace

PROBE = """
import importlib.util, json, socket
def reach(host):
    try:
        socket.create_connection((host, 80), timeout=3).close()
    except ConnectionRefusedError:
        return "refused"
    except OSError as error:
        return "unreachable"
    return "reached"
found = {name: importlib.util.find_spec(name) is not None for name in ("torch", "ttach", "kaggle_kit", "openvino", "pip")}
print(json.dumps({"found": found, "outside": reach("192.0.2.1"), "named": reach("example.invalid")}))
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    return make_environment(tmp_path_factory.mktemp("sandbox") / "venv", load_image(), block_network=True)


def test_the_environment_holds_what_the_image_names_and_nothing_else(environment, tmp_path):
    done = subprocess.run([environment.python, "-I", "-c", PROBE], check=True, capture_output=True, text=True, cwd=tmp_path)
    answer = json.loads(done.stdout)
    assert answer["found"] == {"torch": True, "ttach": False, "kaggle_kit": False, "openvino": False, "pip": True}
    assert (answer["outside"], answer["named"]) == ("unreachable", "unreachable")
    assert "timm" in environment.packages
    assert any(text.startswith("numpy ") for text in environment.differing)


def test_what_the_dataset_brings_is_not_there_before(tmp_path):
    made = make_environment(tmp_path / "venv", load_image(), without=["timm"], block_network=False)
    assert "timm" not in made.packages
    assert not (made.site_packages / "timm").exists()
    assert (made.site_packages / "torch").is_symlink()


def write_notebook(path, *sources):
    cells = [
        {"cell_type": "code", "id": f"c{at}", "metadata": {}, "source": source, "execution_count": None, "outputs": []}
        for at, source in enumerate(sources)
    ]
    kernelspec = {"display_name": "Python 3", "language": "python", "name": "python3"}
    path.write_text(json.dumps({"cells": cells, "metadata": {"kernelspec": kernelspec}, "nbformat": 4, "nbformat_minor": 5}))
    return path


@pytest.mark.parametrize("isolation", [find_isolation(), Isolation(())], ids=["best", "python only"])
def test_a_session_has_no_network_and_cannot_change_its_inputs(environment, tmp_path, isolation):
    inputs = tmp_path / "input" / "data"
    inputs.mkdir(parents=True)
    (inputs / "a.txt").write_text("as it was")
    write = """
import os, pathlib
inputs = pathlib.Path(os.environ["KK_INPUT_ROOT"])
try:
    (inputs / "data" / "a.txt").write_text("changed")
except OSError as error:
    print("refused:", type(error).__name__)
pathlib.Path(os.environ["KK_WORKING_ROOT"], "out.txt").write_text("x" * 10)
print("home is", os.environ["HOME"], "and", sorted(set(os.environ) & {"HTTP_PROXY", "KK_SECRET"}))
"""
    notebook = write_notebook(
        tmp_path / "n.ipynb", PROBE, write, "block = bytearray(200_000_000); import time; time.sleep(0.3)", "1 / 0"
    )
    os.environ["KK_SECRET"] = "x"
    try:
        done = run_session("probe", notebook, tmp_path, environment=environment, isolation=isolation, timeout=60)
    finally:
        del os.environ["KK_SECRET"]
    answer = json.loads(next(line for line in done.lines if line.startswith("{")))
    assert (answer["outside"], answer["named"]) == ("unreachable", "unreachable")
    assert any(str(tmp_path / "home") in line and "[]" in line for line in done.lines)
    assert (done.working / "out.txt").read_text() == "x" * 10
    assert "ZeroDivisionError" in done.error
    assert "\x1b" not in done.error
    assert done.peak_bytes > 200_000_000
    assert done.seconds > 0.3
    if any(line.startswith("refused") for line in done.lines):
        assert done.changed == ()
        assert (inputs / "a.txt").read_text() == "as it was"
    else:  # root, where nothing can be mounted: told instead of prevented
        assert done.changed == ("data/a.txt",)
        assert not isolation.prefix


def test_printed_joins_what_cells_wrote():
    cells = [{"outputs": [{"output_type": "stream", "text": ["a\n", "b"]}, {"output_type": "display_data"}]}, {}]
    assert printed(cells) == ["a", "b"]


def test_without_a_notebook_client_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(sessions, "find_spec", lambda name: None if name == "nbclient" else sys)
    with pytest.raises(DependencyError, match=r"needs nbclient: pip install 'kaggle-kit\[kernel\]'"):
        sessions.require_client()


def test_a_folder_without_a_kernel_is_named(world, tmp_path):
    with pytest.raises(MissingFileError, match="kk kernel build"):
        kernel.test_kernel(tmp_path, world.setup)


def test_a_hidden_test_set_differs_in_all_but_the_images(world, tmp_path):
    visible = visible_images(world.competition, world.data, None)
    hidden = hidden_images(visible)
    assert not {image.id for image in hidden} & {image.id for image in visible}
    assert len({image.id for image in hidden}) == len(hidden) != len(visible)
    assert len({image.origin for image in hidden if image.origin}) < len(visible)
    assert sum(image.origin is None for image in hidden) == 1
    write_test_data(tmp_path / "d", hidden, world.config.competition, world.data)
    header, *rows = (tmp_path / "d/sample_submission.csv").read_text().splitlines()
    assert header == (world.data / "sample_submission.csv").read_text().splitlines()[0]
    assert [row.partition(",")[0] for row in rows] == [image.id for image in hidden]
    assert hidden_images(visible) == hidden


@pytest.fixture
def digits(tmp_path):
    """A competition whose images are rows of tables, in a workspace."""
    rng, names = np.random.default_rng(0), [f"pixel{at}" for at in range(64)]
    (tmp_path / "data").mkdir()
    for part, count in (("train", 12), ("test", 8)):
        frame = pd.DataFrame(rng.integers(0, 256, (count, 64)), columns=names)
        labels = {"label": [row % 3 for row in range(count)]} if part == "train" else {}
        pd.concat([pd.DataFrame(labels), frame], axis=1).to_csv(tmp_path / f"data/{part}.csv", index=False)
    pd.DataFrame({"ImageId": range(1, 9), "Label": 0}).to_csv(tmp_path / "data/sample_submission.csv", index=False)
    (tmp_path / "work").mkdir()
    init_workspace(tmp_path / "data", tmp_path / "work")
    return open_setup(Workspace(tmp_path / "work"))


def test_a_hidden_table_of_pixels_has_other_rows_of_which_each_is_a_copy(digits, tmp_path):
    config = digits.config.competition
    assert is_packed(digits.competition, config)
    visible = visible_images(digits.competition, digits.data_dir, None)
    hidden = write_hidden_rows(tmp_path / "input/digits", visible, config, tmp_path / "data")
    assert len({image.origin for image in hidden}) == len(hidden) == 6
    assert [image.id for image in hidden] == [str(at) for at in range(1, 7)]
    assert [image.origin for image in hidden] != [image.id for image in hidden]
    found = find_test_set(tmp_path / "input", config, scratch=tmp_path / "scratch")
    assert [row_id for row_id, _ in found.rows] == [image.id for image in hidden]
    at_home = {row.id: row.path for row in digits.competition.test}
    for image, (_, path) in zip(hidden, found.rows, strict=True):
        np.testing.assert_array_equal(decode_image(path), decode_image(at_home[image.origin]))


def test_a_hidden_test_set_of_several_images_an_id_has_fewer_ids_with_all_their_images(tmp_path):
    data = tmp_path / "data"
    for place, count in (("train", 6), ("test", 8)):
        views = [(f"{place}{number}_{at}", f"{place[0]}{number}") for number in range(count) for at in range(1 + number % 2)]
        for name, _ in views:
            write_image(data / place / f"{name}.png", len(name))
        frame = pd.DataFrame({"view": [name for name, _ in views], "lesion": [lesion for _, lesion in views]})
        if place == "train":
            frame["kind"] = ["benign" if int(lesion[1:]) % 2 else "malignant" for lesion in frame["lesion"]]
        files.write_table(data / f"{place}.csv", frame)
    sample = pd.DataFrame({"lesion": [f"t{number}" for number in range(8)], "malignant": 0.5})
    files.write_table(data / "sample_submission.csv", sample)
    (tmp_path / "work").mkdir()
    init_workspace(data, tmp_path / "work", choices={"label_column": "kind"})
    setup = open_setup(Workspace(tmp_path / "work"))
    config, competition = setup.config.competition, setup.competition
    assert is_packed(competition, config)
    hidden = write_hidden_ids(tmp_path / "input/lesions", competition, config, setup.data_dir)
    assert len(hidden) == 6
    assert [image.id for image in hidden] != sorted(image.id for image in hidden)
    found = find_test_set(tmp_path / "input", config, scratch=tmp_path / "scratch")
    assert [row_id for row_id, _ in found.rows] == [image.id for image in hidden]
    images = {row.id: [path.name for path in row.paths] for row in competition.test}
    assert {row.id: [path.name for path in row.paths] for row in found.image_rows()} == {
        image.id: images[image.id] for image in hidden
    }


def test_a_packed_test_set_is_given_as_it_lies(digits, tmp_path):
    config = digits.config.competition
    copy_test_data(tmp_path / "input/digits", config, tmp_path / "data")
    assert sorted(path.name for path in (tmp_path / "input/digits").iterdir()) == ["sample_submission.csv", "test.csv"]
    found = find_test_set(tmp_path / "input", config, scratch=tmp_path / "scratch")
    assert [row_id for row_id, _ in found.rows] == [row.id for row in digits.competition.test]


def test_a_kernel_is_tested_on_a_visible_and_a_hidden_test_set(built, world):
    """The whole thing, in about half a minute: two fresh environments, two sessions without a network."""
    proof = kernel.test_kernel(built.folder, world.setup)
    status = {check.name: (check.status, check.evidence) for check in proof.report.checks}
    assert proof.passed, status
    for name in ("visible: notebook", "visible: kk blend", "hidden: kk blend", "hidden: unreadable image", "hidden: form: ids"):
        assert status[name][0] == "passed"
    assert [session.name for session in proof.sessions] == ["visible", "hidden"]
    assert any(line.startswith("installed: ttach") for line in proof.sessions[0].lines)
    record = json.loads((built.folder / "test.json").read_text())
    assert record["passed"]
    assert record["build"] == built.build
    assert record["sessions"]["visible"]["peak_bytes"] > 1e8


def test_a_kernel_that_is_built_anew_while_it_is_tested_has_no_verdict(built, world, tmp_path, monkeypatch):
    folder = tmp_path / "kernel"
    shutil.copytree(built.folder, folder, ignore=shutil.ignore_patterns("test.json"))
    ended = SimpleNamespace(name="visible", environment=None, seconds=1.0, peak_bytes=1)

    def rebuilt(*_):
        yield ended, []
        kernel.build_kernel(world.setup, folder, kernel.Address("somebody"), kernel.Content(runs=["a"]))

    monkeypatch.setitem(testing._STEPS, "inference", rebuilt)
    monkeypatch.setattr(testing, "_packages", lambda *_: testing.Check("packages", "passed", "all"))
    with pytest.raises(ConfigError, match="built anew while it was tested"):
        kernel.test_kernel(folder, world.setup)
    assert not (folder / "test.json").exists()


ESCAPES = """
import os, pathlib, json
def attempt(action):
    try:
        action()
    except OSError as error:
        return type(error).__name__
    return "done"
outside, inputs = pathlib.Path(os.environ["OUTSIDE"]), pathlib.Path(os.environ["KK_INPUT_ROOT"])
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
print(json.dumps({
    "write outside": attempt(lambda: (outside / "made").write_text("x")),
    "write root": attempt(lambda: pathlib.Path("/kk-made").write_text("x")),
    "shadow": attempt(lambda: open("/etc/shadow").read()),
    "remount": os.system(f"mount -o remount,bind,rw {inputs} 2>/dev/null") and "refused" or "done",
    "change input": attempt(lambda: (inputs / "data" / "a.txt").write_text("changed")),
    "become root": attempt(lambda: os.setuid(0)),
    "secret": attempt(lambda: open(os.environ["SECRET"]).read()),
    "uid": os.getuid(), "capabilities": int(status["CapEff"], 16), "no new privileges": status["NoNewPrivs"].strip(),
}))
"""


def test_a_notebook_cannot_leave_the_sandbox(environment, tmp_path):
    isolation = find_isolation()
    if not isolation.prefix:
        pytest.skip("this machine allows no namespaces, and the result says so")
    root = tmp_path / "session"
    (root / "input" / "data").mkdir(parents=True)
    (root / "input" / "data" / "a.txt").write_text("as it was")
    secret = tmp_path / "secret"
    secret.write_text("key")
    secret.chmod(0o600)
    variables = {"OUTSIDE": str(tmp_path), "SECRET": str(secret)}
    notebook = write_notebook(tmp_path / "n.ipynb", ESCAPES)
    done = run_session("probe", notebook, root, environment=environment, isolation=isolation, timeout=60, variables=variables)
    assert not done.error
    answer = json.loads(done.lines[0])
    assert answer["no new privileges"] == "1"
    assert answer["capabilities"] == 0
    for attempt in ("remount", "change input", "write outside", "write root", "secret"):
        assert answer[attempt] != "done", attempt
    assert not (tmp_path / "made").exists()
    if os.getuid() == 0 and not done.missing:
        assert answer["uid"] != 0
        assert (answer["shadow"], answer["become root"]) == ("PermissionError", "PermissionError")


def test_what_the_machine_does_not_allow_is_told(environment, tmp_path, monkeypatch):
    (tmp_path / "input").mkdir()
    done = run_session(
        "probe",
        write_notebook(tmp_path / "n.ipynb", "1"),
        tmp_path,
        environment=environment,
        isolation=Isolation(()),
        timeout=60,
    )
    assert any("read-only file system" in text for text in done.missing)


def test_no_module_of_the_folder_one_stands_in_is_imported(environment, tmp_path, monkeypatch):
    """The programs that start the notebook, inside and outside the confinement, take Python's own modules."""
    planted = tmp_path / "here"
    planted.mkdir()
    for name in ("psutil", "json", "nbformat", "kaggle_kit"):
        (planted / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r})")
    root = tmp_path / "session"
    (root / "input").mkdir(parents=True)
    monkeypatch.chdir(planted)
    notebook = write_notebook(tmp_path / "n.ipynb", "print(1 + 1)")
    done = run_session("probe", notebook, root, environment=environment, isolation=find_isolation(), timeout=60)
    assert (done.lines, done.error) == (("2",), "")
    assert not (tmp_path / "ran").exists()


def test_sessions_see_the_same_paths_and_the_second_what_the_first_has_left(tmp_path, monkeypatch):
    """Where pretrained weights lie is part of a run, which the second session is to go on with."""
    seen = []

    def run(name, place, variables):
        working, told = place / "working", place / "told"
        working.mkdir()
        told.mkdir()
        (working / "made").write_text(name)
        (told / "executed.ipynb").write_text(name)
        seen.append((place, sorted(path.name for path in (place / "input").rglob("*")), variables))
        return sessions.Session(name, working, "", 1.0, 1, (), (), (), told / "executed.ipynb", None)

    monkeypatch.setattr(testing, "write_dataset", lambda _, target: target.mkdir(parents=True))
    monkeypatch.setattr(testing, "write_all_data", lambda target, _: target.mkdir(parents=True))
    common = SimpleNamespace(slugs=("data", "leaves"), root=tmp_path, folder=tmp_path, source=tmp_path, run=run)
    first = testing._session(common, "first", {"a": "1"})
    assert (first.working / "made").read_text() == "first session"
    second = testing._session(common, "second", {}, after=first)
    assert seen[0][0] == seen[1][0]
    assert seen[0][1:] == (["data", "leaves"], {"a": "1"})
    assert seen[1][1:] == (["data", "leaves", "made", "notebooks", "output"], {})
    assert [one.executed.read_text() for one in (first, second)] == ["first session", "second session"]
