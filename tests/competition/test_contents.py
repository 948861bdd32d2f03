import os
import time

import numpy as np
import pytest

from kaggle_kit.competition import ImageRow, contents
from kaggle_kit.competition.contents import (
    UNREADABLE,
    Contents,
    contents_of,
    describe_change,
    keep_contents,
    kept_contents,
)

LONG_AGO = time.time() - 1000


@pytest.fixture
def rows(tmp_path):
    made = [ImageRow(f"{number:02}", tmp_path / f"{number:02}.png") for number in range(20)]
    for row in made:
        row.path.write_bytes(row.id.encode() * 50)
    return made


@pytest.fixture
def settled(monkeypatch):
    """Files are taken to be older than the clock's steps, so that they are remembered at once."""
    monkeypatch.setattr(contents, "_SETTLED_NS", -(10**12))


def spied(monkeypatch):
    opened = []

    class Spy:
        def __call__(self, path, *options, **more):
            opened.append(path)
            return open(path, *options, **more)

    monkeypatch.setattr(contents, "open", Spy(), raising=False)
    return opened


def test_the_fingerprint_is_of_ids_and_bytes_whatever_the_order(rows, tmp_path):
    first = contents_of(rows, None)
    assert contents_of(rows[::-1], None, workers=1).fingerprint == first.fingerprint
    rows[0].path.write_bytes(b"other")
    assert contents_of(rows, None).fingerprint != first.fingerprint
    renamed = [ImageRow(f"x{row.id}", row.path) for row in rows]
    assert contents_of(renamed, None).fingerprint != contents_of(rows, None).fingerprint


def test_exchanged_images_are_named(rows):
    before = contents_of(rows, None)
    one, other = rows[3].path.read_bytes(), rows[7].path.read_bytes()
    rows[3].path.write_bytes(other)
    rows[7].path.write_bytes(one)
    assert contents_of(rows, None).changed_since(before) == ("03", "07")


def test_new_and_missing_ids_are_changes(rows):
    everything = contents_of(rows, None)
    assert everything.changed_since(everything.take(["00", "01"]))[0] == "02"
    assert everything.take(row.id for row in rows[1:]).changed_since(everything) == ("00",)


def test_files_are_read_once(rows, tmp_path, settled, monkeypatch):
    cache = tmp_path / "cache"
    first = contents_of(rows, cache)
    opened = spied(monkeypatch)
    assert contents_of(rows, cache) == first
    assert opened == []


@pytest.mark.parametrize("change", ["size", "time", "exchange"])
def test_a_changed_file_is_read_again(change, rows, tmp_path, settled):
    """Also when two files of one size and one time are exchanged by renaming, as unpacked archives hold them."""
    for row in rows:
        os.utime(row.path, (LONG_AGO, LONG_AGO))
    cache = tmp_path / "cache"
    before = contents_of(rows, cache)
    if change == "size":
        rows[0].path.write_bytes(b"longer than it was" * 10)
        os.utime(rows[0].path, (LONG_AGO, LONG_AGO))
    elif change == "time":
        rows[0].path.write_bytes(b"99" * 50)
    else:
        time.sleep(0.05)
        rows[0].path.rename(tmp_path / "aside")
        rows[1].path.rename(rows[0].path)
        (tmp_path / "aside").rename(rows[1].path)
    expected = ("00", "01") if change == "exchange" else ("00",)
    assert contents_of(rows, cache).changed_since(before) == expected


def test_a_file_that_was_just_written_is_not_remembered(rows, tmp_path, monkeypatch):
    """Within one step of the file system's clock another change would not show."""
    cache = tmp_path / "cache"
    contents_of(rows, cache)
    opened = spied(monkeypatch)
    contents_of(rows, cache)
    assert len(opened) == len(rows)


def held(cache):
    return np.load(cache / contents.CACHE_NAME)["path"].tolist()


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "longer", "other numbers", "objects", "a table"])
def test_a_damaged_cache_is_made_anew(damage, rows, tmp_path, settled):
    cache = tmp_path / "cache"
    first = contents_of(rows, cache)
    path, good = cache / contents.CACHE_NAME, (cache / contents.CACHE_NAME).read_bytes()
    if damage in ("other numbers", "objects", "a table"):
        other = {"other numbers": np.arange(100), "objects": np.array([{}, None]), "a table": np.load(path).reshape(4, -1)}
        np.save(path, other[damage])
    else:
        path.write_bytes({"empty": b"", "text": b"{}", "cut": good[:-5], "longer": good.replace(b"(20,)", b"(9**9,)")}[damage])
    assert contents_of(rows, cache) == first
    assert len(held(cache)) == len(rows)


def test_the_cache_is_bounded_and_keeps_what_was_asked_for_last(rows, tmp_path, settled, monkeypatch):
    monkeypatch.setattr(contents, "MAX_CACHED", 12)
    cache = tmp_path / "cache"
    contents_of(rows[:10], cache)
    contents_of(rows[10:], cache)
    assert held(cache) == [contents._short(str(row.path)) for row in rows[8:]]


def test_a_name_that_cannot_be_one_of_a_file_does_not_matter(rows, tmp_path, settled):
    odd = ImageRow("odd", tmp_path / "\ud800.png")
    found = contents_of([*rows, odd], tmp_path / "cache")
    assert found.hashes["odd"] == UNREADABLE
    assert len(held(tmp_path / "cache")) == len(rows)


def test_what_is_no_regular_file_is_never_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "endless.png").symlink_to("/dev/zero")
    rows = [ImageRow(name, tmp_path / f"{name}.png") for name in ("pipe", "endless", "gone", "\0")]
    assert set(contents_of(rows, None).hashes.values()) == {UNREADABLE}


def test_hashes_do_without_a_cache_that_cannot_be_written(rows, tmp_path, settled):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")
    assert contents_of(rows, blocked) == contents_of(rows, None)


def test_a_change_is_told_by_id_as_long_as_the_list_is_there(rows, tmp_path):
    before = contents_of(rows, None)
    run = tmp_path / "run"
    assert keep_contents(run, before) == before.fingerprint
    assert kept_contents(run, before.fingerprint) == before
    rows[5].path.write_bytes(b"other")
    now = contents_of(rows, None)
    assert describe_change(before, run, before.fingerprint, what="test images") == ""
    assert "contents of 1 of 20 test images have changed: 05" in describe_change(
        now, run, before.fingerprint, what="test images"
    )
    (run / contents.FOLDER / f"{before.fingerprint[:16]}.json").write_text('{"hashes": {"05": "1"}}')
    assert "which ones is not known" in describe_change(now, run, before.fingerprint, what="test images")


def test_nothing_is_said_of_records_without_a_fingerprint(tmp_path):
    assert describe_change(Contents({"a": "0"}), tmp_path, None, what="test images") == ""
