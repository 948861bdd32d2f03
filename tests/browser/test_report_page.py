"""Pages of ``kk report`` as a reader meets them: at three widths, light and dark, clicked and typed at."""

import pytest
from report_world import EVIL, make_world, setup_of

from kaggle_kit.report.make import make_report


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    made = make_world(tmp_path_factory.mktemp("browser"), class_names=EVIL)
    many = make_world(tmp_path_factory.mktemp("many"), n_classes=153, n_train=400, n_runs=1, n_test=160)
    found = {"run": make_report(setup_of(made), ["run0"]), "two": make_report(setup_of(made), ["run0", "mix"])}
    return {key: result.path for key, result in {**found, "many": make_report(setup_of(many), ["run0"])}.items()}


@pytest.mark.parametrize("kind", ["run", "two", "many"])
def test_pages_open_without_a_fault_and_fit_the_window(open_page, window, pages, kind):
    tab = open_page(pages[kind], **window)
    assert tab.overflow == 0
    assert tab.page.title()


def test_a_cell_opens_its_images(open_page, pages):
    page = open_page(pages["run"]).page
    button = page.locator(".confusion td:not(.diagonal) button").first
    count = int(button.inner_text())
    button.click()
    assert page.locator("#cell").is_visible()
    assert "taken for" in page.locator("#cell-heading").inner_text()
    assert any(name in page.locator("#cell-heading").inner_text() for name in EVIL)  # as text
    pictures = page.locator("#cell-images img")
    assert pictures.count() == count
    assert pictures.first.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    page.locator("#cell-close").click()
    assert not page.locator("#cell").is_visible()


def test_cells_are_opened_by_keyboard_too(open_page, pages):
    page = open_page(pages["run"]).page
    page.locator(".pairs button").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("#cell").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#cell").is_visible()


def test_the_heat_map_of_many_classes_opens_cells(open_page, pages):
    page = open_page(pages["many"]).page
    key = page.locator(".pairs button").first.get_attribute("data-cell")
    truth, taken = map(int, key.split("-"))
    heat = page.locator("#heat")
    heat.scroll_into_view_if_needed()
    box = heat.bounding_box()
    place = {"x": (taken + 0.5) / 153 * box["width"], "y": (truth + 0.5) / 153 * box["height"]}
    heat.hover(position=place)
    assert f"class {truth} taken for class {taken}: " in page.locator("#heat-status").inner_text()
    heat.click(position=place)
    assert page.locator("#cell-images .picture").count() > 0
