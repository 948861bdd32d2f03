import csv
import hashlib
import io
import subprocess
import sys
import zipfile
from base64 import urlsafe_b64encode
from importlib import metadata

import pytest

from kaggle_kit.errors import DependencyError
from kaggle_kit.kernel import wheels
from kaggle_kit.kernel.image import ImageList, load_image
from kaggle_kit.kernel.sandbox.environment import make_environment
from kaggle_kit.kernel.wheels import INFERENCE_NEEDS, TRAINING_NEEDS, collect_wheels, missing_from, own_wheel

EMPTY = ImageList("", "", False, "3.12", {})
IMPORTS = {
    INFERENCE_NEEDS: "import kaggle_kit.kernel.runtime, kaggle_kit.inference.run, kaggle_kit.blending.stacking",
    TRAINING_NEEDS: "import kaggle_kit.kernel.training, kaggle_kit.training, kaggle_kit.training.fold, albumentations",
}


def records(path):
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith("/RECORD"))
        lines = list(csv.reader(io.StringIO(archive.read(name).decode())))
        return {line[0]: line[1:] for line in lines}, {one: archive.read(one) for one in archive.namelist()}


@pytest.mark.parametrize("make", [own_wheel, lambda target: collect_wheels(["ttach"], target, EMPTY)[0]])
def test_a_wheel_records_each_file_and_is_the_same_each_time(tmp_path, make):
    wheel = make(tmp_path / "one")
    record, members = records(wheel.path)
    assert set(record) == set(members)
    for name, content in members.items():
        if not name.endswith("/RECORD"):
            digest = urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            assert record[name] == [f"sha256={digest}", str(len(content))]
    assert any("LICENSE" in name for name in members)
    assert make(tmp_path / "two").path.read_bytes() == wheel.path.read_bytes()


def test_pip_installs_the_wheels_without_a_network(tmp_path):
    made = [own_wheel(tmp_path / "w"), *collect_wheels(["ttach"], tmp_path / "w", EMPTY)]
    target = tmp_path / "target"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(target)]
    subprocess.run([*pip, *(str(wheel.path) for wheel in made)], check=True, capture_output=True)
    assert (target / "kaggle_kit" / "kernel" / "image.json").is_file()
    assert (target / "kaggle_kit" / "py.typed").is_file() == (
        wheels.Path(wheels.kaggle_kit.__file__).parent / "py.typed"
    ).is_file()
    found = {one.metadata["Name"]: one.version for one in metadata.distributions(path=[str(target)])}
    assert found["kaggle-kit"] == metadata.version("kaggle-kit")
    assert found["ttach"] == "0.0.3"
    assert not list(target.rglob("tests"))


def test_only_what_the_image_lacks_is_shipped():
    assert missing_from(load_image(), INFERENCE_NEEDS) == ["ttach"]
    assert set(missing_from(load_image(), TRAINING_NEEDS)) == {"ttach", "lightning-fabric", "lightning-utilities"}


def test_requirements_of_what_is_shipped_are_shipped_too():
    image = ImageList("", "", False, "3.12", {"torch": None, "packaging": None, "typing-extensions": None, "numpy": None})
    found = missing_from(image, ["lightning-fabric"])
    assert {"lightning-fabric", "lightning-utilities", "fsspec", "aiohttp"} <= set(found)  # fsspec[http] requires aiohttp
    assert "deepspeed" not in found


def test_a_package_that_is_not_here_is_named():
    with pytest.raises(DependencyError, match="nowhere is not installed here; run `pip install nowhere`"):
        missing_from(EMPTY, ["nowhere"])


def test_a_compiled_package_that_cannot_be_had_is_named(tmp_path, monkeypatch):
    def fail(command, **_):
        assert "--only-binary=:all:" in command
        return subprocess.CompletedProcess(command, 1, "", "ERROR: no network\n")

    monkeypatch.setattr(wheels.subprocess, "run", fail)
    with pytest.raises(DependencyError, match=r"Kaggle's image lacks numpy.*no network.*wheels_dir"):
        collect_wheels(["numpy"], tmp_path, EMPTY)


def test_wheels_that_the_user_brings_come_first(tmp_path):
    brought = tmp_path / "brought"
    brought.mkdir()
    (brought / "numpy-2.0.2-cp312-cp312-manylinux_2_17_x86_64.whl").write_bytes(b"wheel")
    wheel = collect_wheels(["numpy"], tmp_path / "to", EMPTY, wheels_dir=brought)[0]
    assert (wheel.version, wheel.path.read_bytes()) == ("2.0.2", b"wheel")


def test_unfitting_versions_of_the_image_are_named():
    image = ImageList("", "", False, "3.12", {"numpy": "1.20.0", "pandas": "2.2.2", "optuna": "1.0"})
    found = wheels.unlike(image, INFERENCE_NEEDS)
    assert len(found) == 1
    assert found[0].startswith("numpy 1.20.0")


@pytest.mark.parametrize("needs", list(IMPORTS))
def test_what_a_kernel_imports_is_among_its_needs(needs, tmp_path):
    """In an environment that holds the needs, what they require, and nothing else."""
    image = ImageList("", "", False, "3.12", dict.fromkeys(map(wheels.canonical, needs)))
    environment = make_environment(tmp_path / "venv", image, block_network=False)
    own = str(wheels.Path(wheels.kaggle_kit.__file__).parent.parent)
    code = IMPORTS[needs] + "; import sklearn.metrics, scipy.special, ttach"
    done = subprocess.run(
        [environment.python, "-c", code], env={"PYTHONPATH": own}, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
