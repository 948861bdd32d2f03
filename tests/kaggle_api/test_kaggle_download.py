"""Downloading: resumed, never joined from two versions, and unpacked without leaving the folder."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_kaggle import FakeKaggle, Fault, Timed

from kaggle_kit.errors import ConfigError, DataError, LockedError, RemoteError, StorageError
from kaggle_kit.kaggle_api import download, downloading
from kaggle_kit.kaggle_api.archive import unpack

CONTENT = {"train.csv": b"id,label\n1,cat\n", "train/cat/1.png": b"\x89PNG" * 1_200_000, "test/2.png": bytes(range(256)) * 400}


def zipped(content: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def written(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and ".kk" not in str(path.relative_to(folder))]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def server(kaggle: FakeKaggle) -> FakeKaggle:
    kaggle.archive = zipped(CONTENT)
    return kaggle


def test_fetches_and_unpacks(server: FakeKaggle, timed: Timed, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = download("digits", tmp_path / "data", show_bar=True, patience=timed.patience)
    assert written(folder) == CONTENT
    assert {path.name for path in folder.iterdir()} == {"train.csv", "train", "test", ".kk-download.json", ".kk-download.lock"}
    out, err = capfd.readouterr()
    assert out == ""
    assert "100%" in err


def test_nothing_is_fetched_twice(server: FakeKaggle, timed: Timed, tmp_path: Path) -> None:
    folder = download("digits", tmp_path, patience=timed.patience)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")}
    (folder / "train.csv").write_text("edited")
    download("digits", tmp_path, patience=timed.patience)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")} == before
    assert (folder / "train.csv").read_text() == "edited"
    (folder / "train.csv").unlink()
    download("digits", tmp_path, resume=False, patience=timed.patience)
    assert written(tmp_path / "train") == {"cat/1.png": CONTENT["train/cat/1.png"]}
    assert (folder / "train.csv").read_bytes() == CONTENT["train.csv"]


def test_a_second_download_into_the_folder_is_refused(
    server: FakeKaggle, timed: Timed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, begun, go_on = tmp_path / "data", threading.Event(), threading.Event()

    def slowly(*arguments: object, **options: object) -> object:
        begun.set()
        go_on.wait(60)
        return unpack(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(downloading, "unpack", slowly)
    monkeypatch.setattr(downloading, "_PATIENCE", 0.1)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(download, "digits", folder, patience=timed.patience)
        assert begun.wait(60)
        for resume in (True, False):
            with pytest.raises(LockedError, match=r"another process is changing .*data and did not end"):
                download("digits", folder, resume=resume, patience=timed.patience)
        go_on.set()
        assert first.result(60) == folder
    assert written(folder) == CONTENT
    assert server.calls.count("GET") == 1


def test_goes_on_within_one_call(server: FakeKaggle, timed: Timed, tmp_path: Path) -> None:
    server.faults["GET"] = [Fault("half"), Fault("status", 503)]
    folder = download("digits", tmp_path / "data", patience=timed.patience)
    assert written(folder) == CONTENT
    assert "GET 206" in server.calls


def test_goes_on_in_the_next_call(server: FakeKaggle, timed: Timed, tmp_path: Path) -> None:
    server.faults["GET"] = [Fault("half"), *[Fault("drop")] * 20]
    with pytest.raises(RemoteError, match="connection broke"):
        download("digits", tmp_path / "data", patience=timed.patience)
    here = (tmp_path / "data" / ".kk-download" / "digits.zip").stat().st_size
    assert 0 < here <= len(server.archive) // 2
    server.faults["GET"] = []
    server.calls.clear()
    download("digits", tmp_path / "data", patience=timed.patience)
    assert written(tmp_path / "data") == CONTENT
    assert "GET 206" in server.calls


@pytest.mark.parametrize("validators", [True, False])
def test_two_versions_are_never_joined(server: FakeKaggle, timed: Timed, tmp_path: Path, validators: bool) -> None:
    server.validators = validators
    server.faults["GET"] = [Fault("half"), *[Fault("drop")] * 20]
    with pytest.raises(RemoteError):
        download("digits", tmp_path / "data", patience=timed.patience)
    other = {name: data[::-1] for name, data in CONTENT.items()}  # of the same length
    server.faults["GET"], server.archive = [], zipped(other)
    assert written(download("digits", tmp_path / "data", patience=timed.patience)) == other


def test_killed_between_fetching_and_unpacking(
    server: FakeKaggle, timed: Timed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("kaggle_kit.kaggle_api.downloading.unpack", killed)
        with pytest.raises(KeyboardInterrupt):
            download("digits", tmp_path / "data", patience=timed.patience)
    path = tmp_path / "data" / ".kk-download" / "digits.zip"
    before = path.stat().st_ino, path.stat().st_ctime_ns
    with monkeypatch.context() as patch:
        patch.setattr(zipfile, "is_zipfile", lambda archive: zip_found(archive, before))
        download("digits", tmp_path / "data", patience=timed.patience)
    assert written(tmp_path / "data") == CONTENT


def zip_found(archive: Path, before: tuple[int, int]) -> bool:
    """Stand in for zipfile.is_zipfile: the archive has not been written again."""
    if archive.name == "digits.zip":
        assert (archive.stat().st_ino, archive.stat().st_ctime_ns) == before
    return archive.suffix == ".zip"


def test_a_changed_competition_is_fetched_anew(server: FakeKaggle, timed: Timed, tmp_path: Path) -> None:
    download("digits", tmp_path / "data", patience=timed.patience)
    server.archive = zipped({**CONTENT, "new.csv": b"x\n"})
    assert "new.csv" in written(download("digits", tmp_path / "data", patience=timed.patience))


def test_a_single_file_keeps_its_name(server: FakeKaggle, timed: Timed, tmp_path: Path) -> None:
    server.archive, server.archive_name = b"id,label\n", "train.csv"
    assert written(download("digits", tmp_path / "data", patience=timed.patience)) == {"train.csv": b"id,label\n"}


def test_damaged_archive_is_deleted(server: FakeKaggle, timed: Timed, tmp_path: Path) -> None:
    good = server.archive
    server.archive = good[:200] + b"\0" * 50 + good[250:]
    with pytest.raises(DataError, match="damaged"):
        download("digits", tmp_path / "data", patience=timed.patience)
    server.archive = b"<html>sorry</html>"
    with pytest.raises(DataError, match="damaged"):
        download("digits", tmp_path / "data", patience=timed.patience)
    server.archive = good
    assert written(download("digits", tmp_path / "data", patience=timed.patience)) == CONTENT


def test_rules_not_accepted(server: FakeKaggle, timed: Timed, tmp_path: Path) -> None:
    server.faults["DownloadDataFiles"] = [Fault("status", 403, "You must accept this competition's rules")]
    with pytest.raises(RemoteError, match=r"not joined.*/digits/rules"):
        download("digits", tmp_path / "data", patience=timed.patience)


@pytest.mark.parametrize("slug", ["", "c/digits", "../up"])
def test_slug_is_no_path(home: Path, tmp_path: Path, slug: str) -> None:
    with pytest.raises(ConfigError, match="as in its address"):
        download(slug, tmp_path)


def test_no_room_for_the_archive(server: FakeKaggle, timed: Timed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(StorageError, match="1,000 free"):
        download("digits", tmp_path / "data", patience=timed.patience)


# Unpacking by itself.


def archive_of(tmp_path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    path = tmp_path / "evil.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def special(name: str, kind: int) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.create_system, member.external_attr = 3, (kind | 0o777) << 16
    return member


@pytest.mark.parametrize(
    ("member", "why"),
    [
        ("../out.txt", "leaves the folder"),
        ("a/../../out.txt", "leaves the folder"),
        ("/tmp/out.txt", "absolute"),
        ("C:/out.txt", "absolute"),
        ("..\\out.txt", "leaves the folder"),
        ("\\\\host\\out.txt", "absolute"),
        ("a\\b.txt", "backslash"),
        (special("link", stat.S_IFLNK), "symbolic link"),
        (special("pipe", stat.S_IFIFO), "neither file nor folder"),
    ],
)
def test_no_member_leaves_the_folder(tmp_path: Path, member: str | zipfile.ZipInfo, why: str) -> None:
    archive = archive_of(tmp_path, ("good.txt", b"x"), (member, b"/etc/passwd"))
    with pytest.raises(DataError, match=why):
        unpack(archive, tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []  # not even the good one
    assert {path.name for path in tmp_path.iterdir()} == {"evil.zip", "data"}


def test_a_link_in_the_folder_is_not_followed(tmp_path: Path) -> None:
    outside, data = tmp_path / "outside", tmp_path / "data"
    outside.mkdir()
    data.mkdir()
    (data / "train").symlink_to(outside)
    with pytest.raises(DataError, match="through a link"):
        unpack(archive_of(tmp_path, ("train/1.png", b"x")), data)
    (data / "train").unlink()
    (data / "file.csv").symlink_to(outside / "target")
    with pytest.raises(DataError, match="through a link"):
        unpack(archive_of(tmp_path, ("file.csv", b"x")), data)
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize(("names", "why"), [(("a", "./a"), "twice"), (("a", "a/b"), "file and folder")])
def test_paths_that_collide(tmp_path: Path, names: tuple[str, ...], why: str) -> None:
    with pytest.raises(DataError, match=why):
        unpack(archive_of(tmp_path, *((name, b"x") for name in names)), tmp_path / "data")


def test_a_bomb_is_bounded_by_the_free_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = archive_of(tmp_path, ("zeros", bytes(5_000_000)))
    assert bomb.stat().st_size < 10_000
    monkeypatch.setattr("kaggle_kit.kaggle_api.archive.RESERVE", 0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=4_000_000))
    with pytest.raises(StorageError, match="unpacks to 5,000,000 bytes"):
        unpack(bomb, tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []


def test_a_bomb_that_lies_about_its_size(tmp_path: Path) -> None:
    bomb = archive_of(tmp_path, ("zeros", bytes(5_000_000)))
    raw = bomb.read_bytes()
    bomb.write_bytes(raw.replace((5_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(DataError):
        unpack(bomb, tmp_path / "data")
    assert sum(path.stat().st_size for path in (tmp_path / "data").rglob("*")) == 0


def test_archives_inside(tmp_path: Path) -> None:
    inner, own_top = zipped({"1.png": b"one"}), zipped({"test/2.png": b"two"})
    found = unpack(archive_of(tmp_path, ("train.zip", inner), ("test.zip", own_top), ("a.csv", b"")), tmp_path / "data")
    assert written(tmp_path / "data") == {"train/1.png": b"one", "test/2.png": b"two", "a.csv": b""}
    assert sorted(found) == ["a.csv", "test/2.png", "train/1.png"]


def test_an_archive_inside_must_not_leave_either(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="leaves the folder"):
        unpack(archive_of(tmp_path, ("train.zip", zipped({"../../out.txt": b"x"}))), tmp_path / "data")
    assert not (tmp_path / "out.txt").exists()


def test_encrypted(tmp_path: Path) -> None:
    path = archive_of(tmp_path, ("a", b"x"))
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(raw)
    with pytest.raises(DataError, match="encrypted"):
        unpack(path, tmp_path / "data")


def test_record_holds_no_link(server: FakeKaggle, timed: Timed, tmp_path: Path) -> None:
    record = json.loads((download("digits", tmp_path / "data", patience=timed.patience) / ".kk-download.json").read_text())
    assert set(record["files"]) == set(CONTENT)
    assert "signature" not in str(record)


# Nothing that an earlier download did not write is replaced.


def test_what_lies_there_is_not_replaced(server: FakeKaggle, timed: Timed, tmp_path: Path) -> None:
    (tmp_path / "train" / "cat").mkdir(parents=True)
    (tmp_path / "train" / "cat" / "1.png").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"1\.png.*Nothing was replaced.*Move these away"):
        download("digits", tmp_path, patience=timed.patience)
    assert written(tmp_path) == {"train/cat/1.png": b"mine"}
    (tmp_path / "train" / "cat" / "1.png").write_bytes(CONTENT["train/cat/1.png"])  # the very same bytes are no loss
    assert written(download("digits", tmp_path, patience=timed.patience)) == CONTENT


def test_a_new_version_replaces_what_the_old_one_brought_but_no_edits(server: FakeKaggle, timed: Timed, tmp_path: Path) -> None:
    download("digits", tmp_path, patience=timed.patience)
    server.archive = zipped({**CONTENT, "train.csv": b"id,label\n1,dog\n"})
    assert written(download("digits", tmp_path, patience=timed.patience))["train.csv"] == b"id,label\n1,dog\n"
    (tmp_path / "train.csv").write_text("my corrections")
    server.archive = zipped({**CONTENT, "train.csv": b"id,label\n1,cow\n"})
    with pytest.raises(DataError, match=r"train\.csv"):
        download("digits", tmp_path, patience=timed.patience)
    assert (tmp_path / "train.csv").read_text() == "my corrections"


def test_a_single_file_replaces_nothing_either(server: FakeKaggle, timed: Timed, tmp_path: Path) -> None:
    server.archive, server.archive_name = b"id,label\n", "train.csv"
    (tmp_path / "train.csv").write_text("mine")
    with pytest.raises(DataError, match=r"train\.csv is in the way"):
        download("digits", tmp_path, patience=timed.patience)
    assert (tmp_path / "train.csv").read_text() == "mine"


def test_a_workspace_is_no_place_for_data(server: FakeKaggle, timed: Timed, tmp_path: Path) -> None:
    (tmp_path / "kk.yaml").write_text("seed: 0\n")
    server.archive = zipped({"kk.yaml": b"seed: 1\n", "runs/base/run.json": b"{}"})
    with pytest.raises(ConfigError, match="folder of its own"):
        download("digits", tmp_path, patience=timed.patience)
    assert written(tmp_path) == {"kk.yaml": b"seed: 0\n"}


def test_archives_inside_replace_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "train").mkdir(parents=True)
    (data / "train" / "1.png").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"1\.png"):
        unpack(archive_of(tmp_path, ("train.zip", zipped({"1.png": b"one"}))), data)
    assert (data / "train" / "1.png").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("name", "why"),
    [("x" * 300, "name too long"), ("é" * 200, "name too long"), ("a/" * 2100 + "b", "path too long"), (".", "no name"),
     (".kk-download.json", "keeps for itself")],
)  # fmt: skip
def test_names_that_cannot_be_written(tmp_path: Path, name: str, why: str) -> None:
    with pytest.raises(DataError, match=why):
        unpack(archive_of(tmp_path, ("good.txt", b"x"), (name, b"x")), tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []


def test_an_empty_name(tmp_path: Path) -> None:
    path = archive_of(tmp_path, ("q", b"x"))
    raw = bytearray(path.read_bytes())
    at = raw.index(b"PK\x01\x02") + 28
    raw[at : at + 4] = bytes([0, 0, 1, 0])  # the name's only byte belongs to the extra field now
    path.write_bytes(raw)
    with pytest.raises(DataError, match="no name"):
        unpack(path, tmp_path / "data")


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train").write_text("mine")
    with pytest.raises(DataError, match="a file where a folder should be"):
        unpack(archive_of(tmp_path, ("train/1.png", b"x")), tmp_path / "data")


def test_no_room_while_it_is_unpacked(
    server: FakeKaggle, timed: Timed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was there stays, no half file has a name of Kaggle's, and the same call goes on."""
    (tmp_path / "mine.txt").write_text("mine")
    real, calls = os.replace, [0]

    def full(*arguments: str) -> None:
        calls[0] += 1
        if calls[0] == 2:
            raise OSError(28, "No space left on device")
        real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(StorageError, match="the disk is full"):
            download("digits", tmp_path, patience=timed.patience)
    assert calls[0] >= 2
    assert all(CONTENT.get(name, b"mine") == data for name, data in written(tmp_path).items())
    download("digits", tmp_path, patience=timed.patience)
    assert written(tmp_path) == {**CONTENT, "mine.txt": b"mine"}
