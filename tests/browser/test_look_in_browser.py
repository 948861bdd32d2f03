"""The page about the data and the page for reviewing labels, in a real browser."""

import threading

import numpy as np
import pytest
from factories import make_workspace
from PIL import Image

from kaggle_kit.competition import Setup
from kaggle_kit.labels.issues import Suspect
from kaggle_kit.labels.server import Desk, ReviewServer
from kaggle_kit.report import thumbnails
from kaggle_kit.report.data_page import Wishes
from kaggle_kit.report.look import look_at_data
from kaggle_kit.reviews import read_review

XSS = ["<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "$x$"]

DECODED = "Promise.all([...document.images].map(image => { image.loading = 'eager'; return image.decode(); }))"
"""Fails where an image cannot be shown."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    built = make_workspace(tmp_path_factory.mktemp("browser"), class_names=XSS, n_train=36, n_test=12, n_runs=0)
    rng = np.random.default_rng(0)
    for row in (*built.competition.train, *built.competition.test):
        tiny = rng.integers(0, 256, (6, 9, 3), dtype=np.uint8)
        Image.fromarray(tiny).resize((90, 60), Image.Resampling.BICUBIC).save(row.path)
    return built


@pytest.fixture(scope="module")
def page(made):
    return look_at_data(Setup(made.workspace, made.config, made.competition), Wishes(network=False)).path


def test_the_page_about_the_data_is_sound_at_any_width(page, open_page, window):
    tab = open_page(page, **window)
    assert tab.overflow == 0
    assert tab.page.locator("section#classes svg[role=img]").count() == 1
    tab.page.evaluate(DECODED)
    tab.page.locator("nav a", has_text="Folds").click()
    assert tab.page.evaluate("location.hash") == "#folds"


def test_a_page_shows_thumbnails_that_lie_beside_it(made, open_page, monkeypatch):
    monkeypatch.setattr(thumbnails, "BUDGET", 100)
    path = look_at_data(Setup(made.workspace, made.config, made.competition), Wishes(network=False)).path
    assert path.with_name("data_images").is_dir()
    tab = open_page(path)
    assert tab.page.locator("img").count() > 20
    tab.page.evaluate(DECODED)


@pytest.fixture
def server(made, tmp_path):
    rows = made.competition.train[:5]
    suspects = [Suspect(row.id, row.path, row.labels, 0.1, True, tuple((name, 0.3) for name in XSS)) for row in rows]
    desk = Desk(tmp_path / "labels" / "review.csv", made.competition.classes, suspects, multilabel=False)
    with ReviewServer(desk, "Labels to review") as started:
        threading.Thread(target=started.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield started
        started.shutdown()


def press(tab, key, place):
    """Press a key and wait until the page has gone to another row."""
    tab.page.keyboard.press(key)
    tab.page.get_by_text(f"{place} of 5;").wait_for()


def test_labels_are_reviewed_by_keyboard_and_kept(server, made, open_page):
    tab = open_page(server.address, allow=(server.address,))
    suspects = server.desk.suspects
    wrong = next(number for number, name in enumerate(XSS) if (name,) != suspects[0].labels)
    press(tab, str(wrong + 1), 2)
    press(tab, "r", 3)
    press(tab, "d", 4)
    press(tab, "u", 5)
    press(tab, "z", 4)
    entries = read_review(server.desk.path, made.competition.classes).entries
    assert [(one.id, one.decision) for one in entries.values()] == [
        (suspects[0].id, "wrong"),
        (suspects[1].id, "right"),
        (suspects[2].id, "drop"),
    ]
    assert entries[suspects[0].id].labels == (XSS[wrong],)


def test_an_image_is_not_shown_beside_the_next_rows_words(server, open_page):
    tab, held = open_page(server.address, allow=(server.address,)), []
    image = tab.page.locator("#image")
    image.wait_for(state="visible")
    tab.page.route("**/image/1", lambda route: held.append(route))  # it wants a function of Python
    press(tab, "ArrowRight", 2)
    image.wait_for(state="hidden")  # on a busy machine not at once
    held[0].continue_()
    image.wait_for(state="visible")
    assert image.evaluate("image => image.currentSrc").endswith("/image/1")


def test_labels_are_reviewed_by_mouse_and_another_class_by_its_name(server, made, open_page, window):
    tab = open_page(server.address, allow=(server.address,), **window)
    assert tab.overflow == 0
    tab.page.get_by_role("button", name="Unsure (U)").click()
    tab.page.get_by_text("2 of 5;").wait_for()
    name = next(name for name in XSS if (name,) != server.desk.suspects[1].labels)
    tab.page.keyboard.press("c")
    tab.page.locator("#other").fill(name)
    tab.page.keyboard.press("Enter")
    tab.page.get_by_text("3 of 5;").wait_for()
    entries = read_review(server.desk.path, made.competition.classes).entries
    assert [(one.decision, one.labels) for one in entries.values()][1] == ("wrong", (name,))
