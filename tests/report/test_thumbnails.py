import base64

import cv2
import numpy as np
import pytest
from PIL import Image

from kaggle_kit.report.thumbnails import data_uri, make_album, make_thumbnail, make_thumbnails


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    for number, (height, width) in enumerate([(300, 200), (40, 90), (7, 5)]):
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    return tmp_path


def rows(folder, *names):
    return [(name, folder / f"{name}.png") for name in names]


def test_thumbnails_keep_the_aspect_and_are_never_enlarged(images):
    made, _ = make_thumbnails(rows(images, "0", "1", "2"), side=100)
    assert [(one.width, one.height) for one in made.values()] == [(67, 100), (90, 40), (5, 7)]
    for one in made.values():
        decoded = cv2.imdecode(np.frombuffer(one.data, np.uint8), cv2.IMREAD_COLOR)
        assert decoded.shape[:2] == (one.height, one.width)
        assert one.data[:4] == b"RIFF"


def test_colours_stay_in_their_channels():
    red = np.zeros((20, 20, 3), np.uint8)
    red[..., 0] = 255
    blue, _, seen = cv2.imdecode(np.frombuffer(make_thumbnail(red).data, np.uint8), cv2.IMREAD_COLOR)[10, 10]
    assert seen > 200 > 50 > blue


def test_what_cannot_be_read_is_named_and_left_out(images):
    said = []
    made, unreadable = make_thumbnails(rows(images, "bad", "2", "missing"), progress=lambda *counts: said.append(counts))
    assert list(made) == ["2"]
    assert list(unreadable) == ["bad", "missing"]
    assert "no such file" in unreadable["missing"]
    assert said[-1] == (3, 3)
    album = make_album(images / "page.html", made, unreadable)
    assert "no such file" in album.picture("missing", "m").note
    assert album.picture("missing", "m").src == ""


def test_a_page_holds_its_thumbnails_up_to_the_budget(images):
    made, _ = make_thumbnails(rows(images, "0", "1"))
    album = make_album(images / "page.html", made)
    assert not album.beside
    assert album.sources["0"][0] == data_uri(made["0"])
    assert base64.b64decode(data_uri(made["0"]).partition(",")[2]) == made["0"].data
    assert not (images / "page_images").exists()


def test_above_the_budget_they_lie_beside_the_page_and_leave_with_it(images):
    page = images / "my page.html"
    made, _ = make_thumbnails(rows(images, "0", "1"))
    album = make_album(page, made, budget=100)
    assert album.beside
    assert album.size == sum(len(one.data) for one in made.values())
    folder = images / "my page_images"
    (folder / "notes.txt").write_text("mine")
    kept = {path.read_bytes() for path in folder.glob("*.webp")}
    assert kept == {one.data for one in made.values()}
    assert all(source.startswith("my%20page_images/") for source, _, _ in album.sources.values())
    make_album(page, {"1": made["1"]}, budget=100)
    assert len(list(folder.glob("*.webp"))) == 1
    make_album(page, made)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
