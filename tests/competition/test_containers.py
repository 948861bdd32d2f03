"""Containers: each gives its pictures back as files, goes on after a stop, and is unpacked again only when it has changed."""

from __future__ import annotations

import io
import json
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from kaggle_kit.choices import CONTAINERS
from kaggle_kit.competition.containers import unpack
from kaggle_kit.competition.containers.base import encoded, read, recognise, shape_of, value_range
from kaggle_kit.competition.containers.unpacking import FOLDER
from kaggle_kit.config import ContainerConfig
from kaggle_kit.errors import DataError

COUNT = 7
PICTURES = np.random.default_rng(0).integers(0, 256, (COUNT, 12, 12), dtype=np.uint8)
SMOOTH = cv2.GaussianBlur(PICTURES.transpose(1, 2, 0), (5, 5), 2).transpose(2, 0, 1)


def png(pixels: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".png", pixels)[1].tobytes())


def pixel_table(path: Path) -> None:
    frame = pd.DataFrame(SMOOTH.reshape(COUNT, -1), columns=[f"pixel{at}" for at in range(144)])
    frame.insert(0, "label", range(COUNT))
    frame.to_csv(path, index=False)


def json_arrays(path: Path) -> None:
    rows = [{"id": f"a{at}", "band": picture.ravel().tolist(), "label": at} for at, picture in enumerate(SMOOTH)]
    path.write_text(json.dumps(rows))


def parquet(path: Path) -> None:
    frame = pd.DataFrame({"id": [f"a{at}" for at in range(COUNT)], "image": [png(picture) for picture in SMOOTH]})
    frame.assign(label=range(COUNT)).to_parquet(path)


def bson_file(path: Path) -> None:
    bson = pytest.importorskip("bson")
    documents = [{"_id": at, "label": at, "imgs": [{"picture": png(picture)}]} for at, picture in enumerate(SMOOTH)]
    path.write_bytes(b"".join(map(bson.encode, documents)))


def hdf5(path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as handle:
        handle["images"], handle["label"] = SMOOTH, np.arange(COUNT)


def dicom(path: Path) -> None:
    pytest.importorskip("pydicom")
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    path.mkdir()
    for at, picture in enumerate(SMOOTH):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        found = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        found.Rows, found.Columns = picture.shape
        found.SamplesPerPixel, found.BitsAllocated, found.BitsStored = 1, 8, 8
        found.HighBit, found.PixelRepresentation, found.PhotometricInterpretation = 7, 0, "MONOCHROME2"
        found.PixelData = picture.tobytes()
        found.save_as(path / f"a{at}.dcm")


def channels(path: Path) -> None:
    path.mkdir()
    for at, picture in enumerate(SMOOTH):
        for name in ("red", "green", "blue"):
            (path / f"a{at}_{name}.png").write_bytes(png(picture))


def archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as handle:
        for at, picture in enumerate(SMOOTH):
            handle.writestr(f"{at}.png", png(picture))


WRITERS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "archive": ("train.zip", archive),
    "pixel-table": ("train.csv", pixel_table),
    "json": ("train.json", json_arrays),
    "array": ("train.npy", lambda path: np.save(path, SMOOTH)),
    "parquet": ("train.parquet", parquet),
    "bson": ("train.bson", bson_file),
    "hdf5": ("train.h5", hdf5),
    "dicom": ("train", dicom),
    "channels": ("train", channels),
}


def made(kind: str, root: Path) -> ContainerConfig:
    """Write a container of a kind to ``root``/data; returns its entry of kk.yaml."""
    name, write = WRITERS[kind]
    (root / "data").mkdir(exist_ok=True)
    write(root / "data" / name)
    options = recognise(CONTAINERS[kind], root / "data" / name)
    assert options is not None
    return ContainerConfig(path=name, kind=kind, to="train", options=json.loads(json.dumps(options)))


def pictures(folder: Path) -> list[np.ndarray]:
    """Return the files of a folder as grey pixels of 0..255, in the order of their numbers."""
    files = [path for path in folder.iterdir() if path.suffix == ".png"]
    paths = sorted(files, key=lambda path: "".join(filter(str.isdigit, path.stem)))
    found = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in paths]
    return [np.rint(one / 257).astype(np.uint8) if one.dtype == np.uint16 else one for one in found]


def test_every_container_is_tried() -> None:
    assert set(WRITERS) == set(CONTAINERS)


@pytest.mark.parametrize("kind", WRITERS)
class TestEveryContainer:
    def test_its_pictures_become_files(self, kind: str, tmp_path: Path) -> None:
        one = made(kind, tmp_path)
        folder = unpack(tmp_path, tmp_path / "data", [one])
        found = pictures(folder / "train")
        assert len(found) == COUNT
        for picture, expected in zip(found, SMOOTH, strict=True):
            grey = picture if picture.ndim == 2 else picture[:, :, 0]
            assert np.abs(grey.astype(int) - expected).max() <= 1
        if not (CONTAINERS[kind].folder or CONTAINERS[kind].archive or kind == "array"):
            table = pd.read_csv(folder / "train.csv", dtype=str)
            assert list(table["label"]) == list(map(str, range(COUNT)))

    def test_what_is_unpacked_is_not_done_again(self, kind: str, tmp_path: Path) -> None:
        one = made(kind, tmp_path)
        folder = unpack(tmp_path, tmp_path / "data", [one])
        first = sorted((folder / "train").iterdir())[0]
        first.write_bytes(b"mine")
        unpack(tmp_path, tmp_path / "data", [one])
        assert first.read_bytes() == b"mine"

    def test_another_content_is_unpacked_anew(self, kind: str, tmp_path: Path) -> None:
        one = made(kind, tmp_path)
        folder = unpack(tmp_path, tmp_path / "data", [one])
        first = sorted((folder / "train").iterdir())[0]
        first.write_bytes(b"stale")
        source = tmp_path / "data" / one.path
        if source.is_dir():
            next(iter(sorted(source.iterdir()))).touch()
        elif kind == "archive":
            with zipfile.ZipFile(source, "a") as handle:
                handle.writestr("more.png", png(SMOOTH[0]))
        else:
            before = source.stat().st_mtime_ns
            source.unlink()
            WRITERS[kind][1](source)
            content = bytearray(source.read_bytes())
            os.utime(source, ns=(before + 10**9, before + 10**9))
            if kind in ("pixel-table", "json", "array"):
                content[-2 if kind != "json" else content.rindex(b"0")] ^= 1
                source.write_bytes(bytes(content))
            else:
                pytest.skip("the same pictures give the same bytes, which is the same content")
        unpack(tmp_path, tmp_path / "data", [one])
        assert first.read_bytes() != b"stale"


def test_a_stopped_table_goes_on_and_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kaggle_kit.competition.containers.unpacking._STEP", 2)
    monkeypatch.setattr("kaggle_kit.competition.containers.unpacking._AT_ONCE", 2)
    one = made("pixel-table", tmp_path)
    whole = (unpack(tmp_path / "whole", tmp_path / "data", [one]) / "train.csv").read_text()

    class Enough(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done >= 4:
            raise Enough

    with pytest.raises(Enough):
        unpack(tmp_path / "cut", tmp_path / "data", [one], progress=stop)
    images = tmp_path / "cut" / FOLDER / "images" / "train"
    kept = {path.name: path.stat().st_mtime_ns for path in images.iterdir()}
    assert 0 < len(kept) < COUNT
    folder = unpack(tmp_path / "cut", tmp_path / "data", [one])
    assert (folder / "train.csv").read_text() == whole
    assert len(list(images.iterdir())) == COUNT
    assert sum((images / name).stat().st_mtime_ns == time for name, time in kept.items()) >= 4


def test_other_files_stand_beside_as_links(tmp_path: Path) -> None:
    one = made("pixel-table", tmp_path)
    (tmp_path / "data/more").mkdir()
    (tmp_path / "data/more/x.txt").write_text("x")
    (tmp_path / "data/sample.csv").write_text("id\n1\n")
    folder = unpack(tmp_path, tmp_path / "data", [one])
    assert (folder / "more/x.txt").read_text() == "x"
    assert (folder / "sample.csv").read_text() == "id\n1\n"
    assert list(pd.read_csv(folder / "train.csv").columns) == ["image", "label"]


def test_a_range_is_kept_in_16_bits() -> None:
    bands = np.random.default_rng(1).normal(-20, 5, (4, 10, 10, 1))
    options = value_range(bands)
    assert options == {"low": bands.min(), "high": bands.max()}
    suffix, content = encoded(bands[0], options)
    stored = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert (suffix, stored.dtype) == (".png", np.uint16)
    back = stored / 65535 * (options["high"] - options["low"]) + options["low"]
    assert np.abs(back - bands[0, :, :, 0]).max() <= (options["high"] - options["low"]) / 65535


@pytest.mark.parametrize("shape", [(28, 28, 1), (20, 36, 1), (16, 16, 3)])
def test_the_shape_of_flat_pictures_is_found(shape: tuple[int, int, int]) -> None:
    noise = np.random.default_rng(2).normal(0, 1, (16, *shape))
    smooth = np.stack([cv2.GaussianBlur(one, (9, 9), 3).reshape(shape) for one in noise])
    assert shape_of(smooth.reshape(16, -1)) == shape


@pytest.mark.parametrize("name", ["../out.png", "/tmp/out.png", "a/../../out.png"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_archives_write_nowhere_else(tmp_path: Path, kind: str, name: str) -> None:
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / f"train.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as handle:
            handle.writestr(name, b"x")
    else:
        with tarfile.open(path, "w") as tar:
            entry = tarfile.TarInfo(name)
            entry.size = 1
            tar.addfile(entry, io.BytesIO(b"x"))
    with pytest.raises(DataError, match="leave its folder"):
        unpack(tmp_path, tmp_path / "data", [ContainerConfig(path=path.name, kind="archive", to="train")])
    assert not (tmp_path / "out.png").exists()


def test_links_in_archives_are_no_members(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with tarfile.open(tmp_path / "data/train.tar", "w") as tar:
        link = tarfile.TarInfo("passwd.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    assert recognise(CONTAINERS["archive"], tmp_path / "data/train.tar") is None


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "train.npy", np.array([{"a": 1}, SMOOTH], dtype=object), allow_pickle=True)
    assert recognise(CONTAINERS["array"], tmp_path / "train.npy") is None


def test_names_that_leave_the_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    rows = [{"id": "../../evil", "band": SMOOTH[0].ravel().tolist()}]
    (tmp_path / "data/train.json").write_text(json.dumps(rows))
    options = recognise(CONTAINERS["json"], tmp_path / "data/train.json")
    with pytest.raises(DataError, match="would leave its folder"):
        unpack(tmp_path, tmp_path / "data", [ContainerConfig(path="train.json", kind="json", to="train", options=options)])
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.parametrize("kind", ["pixel-table", "json", "array", "parquet", "bson", "hdf5", "archive"])
def test_damaged_files_are_no_containers(kind: str, tmp_path: Path) -> None:
    name, write = WRITERS[kind]
    write(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    for cut in (b"", content[: len(content) // 3], b"\xff" * 200, content[:40] + b"\0" * 400):
        (tmp_path / name).write_bytes(cut)
        try:
            found = recognise(CONTAINERS[kind], tmp_path / name)
            if found is not None:
                list(read(CONTAINERS[kind], tmp_path / name, found))
        except DataError:
            pass
