import json

import pytest

from kaggle_kit.errors import DataError, MissingFileError
from kaggle_kit.kernel.bundle import MANIFEST, find_bundle, read_bundle, search, write_manifest


def make(folder, kind="inference", content=b"weights"):
    folder.mkdir(parents=True)
    (folder / "a.bin").write_bytes(content)
    (folder / "w.whl").write_bytes(b"wheel")
    return write_manifest(folder, kind, ["w.whl"])


def test_sound_files_are_not_damaged(tmp_path):
    bundle = make(tmp_path / "d")
    assert read_bundle(tmp_path / "d") == bundle
    assert bundle.damaged(bundle.files) == {}
    assert bundle.wheels == ("w.whl",)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda path: path.unlink(), "not there"),
        (lambda path: path.write_bytes(b"weight"), "6 bytes instead of 7"),
        (lambda path: path.write_bytes(b"wEights"), "its sha256 is"),
    ],
)
def test_damage_is_told(tmp_path, change, reason):
    bundle = make(tmp_path / "d")
    change(tmp_path / "d" / "a.bin")
    assert reason in bundle.damaged(["a.bin", "w.whl"])["a.bin"]
    assert "w.whl" not in bundle.damaged(["a.bin", "w.whl"])


@pytest.mark.parametrize("place", ["x", "datasets/owner/x", "datasets/owner/x/versions/3"])
def test_it_is_found_wherever_it_is_mounted(tmp_path, place):
    bundle = make(tmp_path / "input" / place)
    assert find_bundle(tmp_path / "input", "inference").build == bundle.build


def test_other_manifests_are_passed_over(tmp_path):
    for name, text in (("one", "{"), ("two", '{"made_by": "somebody else"}'), ("three", "[]")):
        (tmp_path / name).mkdir()
        (tmp_path / name / MANIFEST).write_text(text)
    make(tmp_path / "training", "training", b"other")
    bundle = make(tmp_path / "deep" / "er")
    lines = []
    assert find_bundle(tmp_path, "inference", say=lines.append).folder == bundle.folder
    assert any("passed over" in line for line in lines)


def test_the_build_of_the_notebook_is_preferred(tmp_path):
    old, new = make(tmp_path / "a", content=b"old"), make(tmp_path / "b", content=b"new")
    assert find_bundle(tmp_path, "inference", new.build).folder == new.folder
    lines = []
    assert find_bundle(tmp_path, "inference", "another", say=lines.append).folder == old.folder
    assert "made for build another" in lines[0]


def test_nothing_attached_says_what_is(tmp_path):
    (tmp_path / "digits").mkdir()
    with pytest.raises(MissingFileError, match=r"digits.*Attach"):
        find_bundle(tmp_path, "inference")


def test_another_format_is_refused(tmp_path):
    make(tmp_path / "d")
    content = json.loads((tmp_path / "d" / MANIFEST).read_text())
    (tmp_path / "d" / MANIFEST).write_text(json.dumps({**content, "format": 99}))
    with pytest.raises(DataError, match="kk kernel build"):
        read_bundle(tmp_path / "d")


def test_search_goes_no_deeper_than_it_must(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "x").touch()
    (tmp_path / "a" / "b" / "x").touch()
    assert search(tmp_path, "x") == [tmp_path / "a" / "x"]
    assert search(tmp_path, "x", accept=lambda path: path.parent.name == "b") == [tmp_path / "a" / "b" / "x"]
    assert search(tmp_path, "x", deepest=0) == []
