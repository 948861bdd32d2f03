"""Files are written whole or not at all, and CSV cells survive as text."""

from __future__ import annotations

import errno
import hashlib
import multiprocessing
import os
import re
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaggle_kit import files
from kaggle_kit.errors import DataError, ImageError, MissingFileError, StorageError
from kaggle_kit.images.decode import decode_image, image_size
from kaggle_kit.runs.model_header import read_safetensors_header
from kaggle_kit.tables import read_prediction_meta, read_predictions

CELLS = ["0001", "NA", "None", "nan", "", "1e5", "true", "a,b", 'say "x"', "é ü", " padded ", "two\nlines", "007.50"]


class TestAtomicPath:
    def test_success_leaves_only_the_file(self, tmp_path: Path) -> None:
        files.write_text(tmp_path / "new" / "a.txt", "né\n")
        assert (tmp_path / "new" / "a.txt").read_bytes() == "né\n".encode()
        assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.txt"]

    @pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt()])
    def test_failure_keeps_the_previous_version(self, tmp_path: Path, error: BaseException) -> None:
        path = tmp_path / "a.txt"
        path.write_text("old")

        def write() -> None:
            with files.atomic_path(path) as temporary:
                temporary.write_text("half")
                raise error

        with pytest.raises(type(error)):
            write()
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]

    def test_suffix_is_kept(self, tmp_path: Path) -> None:
        with files.atomic_path(tmp_path / "a.parquet") as temporary:
            assert temporary.suffix == ".parquet"
            assert temporary.parent == tmp_path
            temporary.touch()

    @pytest.mark.parametrize(
        ("number", "message"),
        [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "read-only"), (errno.EACCES, "permission denied")],
    )
    def test_a_full_or_locked_disk_is_explained(self, tmp_path: Path, number: int, message: str) -> None:
        path = tmp_path / "a.txt"
        path.write_text("old")

        def write() -> None:
            with files.atomic_path(path) as temporary:
                temporary.write_bytes(b"x" * 1234)
                raise OSError(number, os.strerror(number))

        with pytest.raises(StorageError, match=rf"cannot write .*a\.txt \(1,234 bytes so far\): .*{message}"):
            write()
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]

    def test_a_file_in_the_way_of_a_folder_is_explained(self, tmp_path: Path) -> None:
        (tmp_path / "runs").write_text("not a folder")
        with pytest.raises(StorageError, match="a folder on the way there is a file"):
            files.write_text(tmp_path / "runs" / "a.txt", "x")

    def test_a_folder_in_the_way_of_a_file_is_explained(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").mkdir()
        with pytest.raises(StorageError, match="it is a folder"):
            files.write_text(tmp_path / "a.txt", "x")

    def test_other_errors_are_not_hidden(self, tmp_path: Path) -> None:
        with pytest.raises(ConnectionError), files.atomic_path(tmp_path / "a.txt"):
            raise ConnectionResetError("unrelated")

    def test_concurrent_writers_leave_one_whole_file(self, tmp_path: Path) -> None:
        path = tmp_path / "a.txt"
        context = multiprocessing.get_context("fork")
        writers = [context.Process(target=_write_often, args=(path, letter)) for letter in "ab"]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert path.read_text() in ("a" * 10_000, "b" * 10_000)
        assert list(tmp_path.iterdir()) == [path]


def _write_often(path: Path, letter: str) -> None:
    for _ in range(10):
        files.write_text(path, letter * 10_000)


class TestTables:
    @given(st.lists(st.sampled_from(CELLS), min_size=1, max_size=8))
    @settings(max_examples=40, deadline=None)
    def test_cells_survive(self, tmp_path_factory: pytest.TempPathFactory, cells: list[str]) -> None:
        path = tmp_path_factory.mktemp("tables") / "a.csv"
        files.write_table(path, pd.DataFrame({"id": [str(row) for row in range(len(cells))], "label": cells}))
        assert list(files.read_table(path)["label"]) == cells

    def test_line_ends_are_the_same_everywhere(self, tmp_path: Path) -> None:
        files.write_table(tmp_path / "a.csv", pd.DataFrame({"id": ["1"], "n": [2]}))
        assert (tmp_path / "a.csv").read_bytes() == b"id,n\n1,2\n"

    def test_byte_order_mark_and_windows_lines(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfid,label\r\n01,x\r\n")
        assert files.read_table(tmp_path / "a.csv").to_dict("list") == {"id": ["01"], "label": ["x"]}

    def test_short_rows_have_empty_cells(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("a,b\n1\n2,3\n")
        assert files.read_table(tmp_path / "a.csv")["b"].tolist() == ["", "3"]

    @pytest.mark.parametrize("content", ["a,b\n1,2,3\n4,5,6\n", "a,b\n1,2,\n", "a,b\n1,2,3\n4,5\n"])
    def test_columns_never_slide(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "a.csv").write_text(content)
        with pytest.raises(DataError, match="more cells than its header"):
            files.read_table(tmp_path / "a.csv")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "is empty; expected a CSV with a header"),
            (b"a,b\n1,2\n1,2,3,4\n", "cannot be read as a UTF-8 CSV"),
            (b"a\n\xff\xfe\n", "cannot be read as a UTF-8 CSV"),
        ],
    )
    def test_bad_files(self, tmp_path: Path, content: bytes, message: str) -> None:
        (tmp_path / "a.csv").write_bytes(content)
        with pytest.raises(DataError, match=message):
            files.read_table(tmp_path / "a.csv")

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(MissingFileError, match=r"none\.csv does not exist"):
            files.read_table(tmp_path / "none.csv")


class TestJson:
    def test_round_trip(self, tmp_path: Path) -> None:
        value = {"b": [1, 2.5, None], "a": {"é": "x"}, "nan": float("inf")}
        files.write_json(tmp_path / "a.json", value)
        assert files.read_json(tmp_path / "a.json", made_by="kk folds") == value
        assert list(files.read_json(tmp_path / "a.json", made_by="kk folds")) == list(value)

    @pytest.mark.parametrize(
        ("content", "message"), [("{", "is not valid JSON"), ("[1]", "should hold a JSON object, found list")]
    )
    def test_damaged(self, tmp_path: Path, content: str, message: str) -> None:
        (tmp_path / "a.json").write_text(content)
        with pytest.raises(DataError, match=message):
            files.read_json(tmp_path / "a.json", made_by="kk folds")

    def test_missing_names_the_command(self, tmp_path: Path) -> None:
        with pytest.raises(MissingFileError, match="Run `kk folds` first"):
            files.read_json(tmp_path / "a.json", made_by="kk folds")


class TestFingerprints:
    def test_keys_may_be_in_any_order_and_lists_may_not(self) -> None:
        assert files.fingerprint({"a": 1, "b": [1, 2]}) == files.fingerprint({"b": [1, 2], "a": 1})
        assert files.fingerprint([1, 2]) != files.fingerprint([2, 1])
        assert files.fingerprint(["ab", "c"]) != files.fingerprint(["a", "bc"])

    def test_of_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"x" * 100_000)
        assert files.file_fingerprint(tmp_path / "a") == hashlib.sha256(b"x" * 100_000).hexdigest()


def test_versions_hold_what_shapes_a_result() -> None:
    found = files.versions()
    assert {"python", "torch", "timm", "numpy"} <= set(found)
    assert all(found.values())


def test_leftovers_of_killed_writers_are_removed_and_nothing_else(tmp_path):
    names = [".hidden", "model.tmp", ".0123456789ab.tmp.ckpt", ".0123456789ab.tmp"]
    for name in names:
        (tmp_path / name).touch()
    with files.atomic_path(tmp_path / "new.csv") as temporary:
        temporary.touch()
        files.remove_leftovers(tmp_path)
        assert not temporary.exists()
        temporary.touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "model.tmp", "new.csv"]
    files.remove_leftovers(tmp_path / "not there")


class TestOnlyRegularFilesAreOpened:
    @pytest.fixture
    def odd(self, tmp_path: Path) -> dict[str, Path]:
        """Files that would hang, never end, or cannot be opened at all."""
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "zero").symlink_to("/dev/zero")
        (tmp_path / "itself").symlink_to(tmp_path / "itself")
        (tmp_path / "folder").mkdir()
        with open(tmp_path / "huge", "wb") as handle:
            handle.truncate(files.LARGEST + 1)
        return {name: tmp_path / name for name in ("pipe", "zero", "itself", "folder", "huge")} | {
            "long": tmp_path / ("x" * 300)
        }

    @pytest.mark.parametrize(
        ("name", "why"),
        [
            ("pipe", "is a named pipe"),
            ("zero", "is a device"),
            ("itself", "cannot be opened: Too many levels"),
            ("folder", "is a folder"),
            ("huge", "is a file of"),
            ("long", "cannot be opened: File name too long"),
        ],
    )
    def test_the_reason_is_told(self, odd: dict[str, Path], name: str, why: str) -> None:
        for read in (
            files.read_bytes,
            files.read_table,
            files.file_fingerprint,
            lambda path: files.read_json(path, made_by="kk blend"),
            read_predictions,
            read_prediction_meta,
            read_safetensors_header,
        ):
            with pytest.raises(DataError, match=why):
                read(odd[name])

    @pytest.mark.parametrize("name", ["pipe", "zero", "itself", "folder", "huge"])
    def test_images_too(self, odd: dict[str, Path], name: str) -> None:
        with pytest.raises(ImageError, match=name):
            decode_image(odd[name])
        with pytest.raises(ImageError, match=name):
            image_size(odd[name])


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, '{"a": ' + "9" * 5000 + "}", "[]", "{", "\udcff", "\0"])
def test_deep_and_wrong_json_is_one_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DataError, match=r"a\.json.*Run `kk blend`"):
        files.read_json(tmp_path / "a.json", made_by="kk blend")


@pytest.mark.parametrize("number", [errno.ELOOP, errno.ENAMETOOLONG, errno.EFBIG, errno.EIO, errno.ENOTCONN])
def test_every_failure_to_write_is_a_storage_error(tmp_path: Path, number: int) -> None:
    def fail() -> None:
        raise OSError(number, os.strerror(number))

    with pytest.raises(StorageError, match=r"cannot write .*a\.txt"), files.atomic_path(tmp_path / "a.txt"):
        fail()
    with pytest.raises(StorageError, match=r"cannot write .*a\.txt"), files.storage_errors(tmp_path / "a.txt"):
        fail()


OPENS_FOR_ITSELF = {
    "files.py": "is the opener",
    "competition/contents.py": "looks at the kind first, and counts what cannot be read as content of its own",
    "config/safe_yaml.py": "looks at the kind and the size first",
    "competition/known.py": "reads the table that comes with it",
    "config/known.py": "reads the source of installed libraries",
    "config/recipes.py": "reads the recipes that come with it",
    "export/standalone.py": "is copied into exports, and reads there what was written with it",
    "runs/record.py": "looks at the kind and the size first",
}
"""Modules that read files without `files.open_regular`, and why that is right."""


def test_what_others_made_is_opened_by_one_opener() -> None:
    """Reading a path right away hangs on a pipe and never ends on a device, unless `is_file` was asked before."""
    root = Path(files.__file__).parent
    found = set()
    for path in sorted(root.rglob("*.py")):
        name, text = path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")
        if (
            name in OPENS_FOR_ITSELF
            or "is_file()" in text
            or name.startswith(("kernel/", "launch/", "report/", "machine/", "demo", "inference/workers"))
        ):
            continue  # those read what this very process wrote, or ask for a regular file
        if re.search(r"\.read_text\(|\.read_bytes\(\)|[^_.\w]open\([^)]*\"rb?\"", text):
            found.add(name)
    assert found == set()
