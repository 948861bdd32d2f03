"""The fixture itself: what it must notice."""

import pytest

FAULTS = {
    "error": ("<script>console.error('no')</script>", "console error: no"),
    "exception": ("<script>throw new Error('oh')</script>", "exception: oh"),
    "network": ("<img src='http://192.0.2.1/a.png'>", "request to http://192.0.2.1/a.png"),
    "dialog": ("<script>alert('fired')</script>", "dialog: fired"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_page_with_a_fault_is_noticed(open_page, tmp_path, kind):
    source, fault = FAULTS[kind]
    page = tmp_path / "page.html"
    page.write_text(f"<!DOCTYPE html><title>page</title>{source}")
    tab = open_page(page)
    with pytest.raises(AssertionError, match=fault):
        tab.require_faultless()
    tab.faults.clear()
    tab.page.close()


def test_a_sound_page_has_no_fault_and_is_shown_as_asked(open_page, window, tmp_path):
    page = tmp_path / "page.html"
    page.write_text(
        "<!DOCTYPE html><title>page</title><style>:root{color-scheme:light dark}"
        "@media(prefers-color-scheme:dark){p{color:rgb(1,2,3)}}</style><p>text"
    )
    tab = open_page(page, **window)
    assert tab.page.evaluate("window.innerWidth") == window["width"]
    colour = tab.page.evaluate("getComputedStyle(document.querySelector('p')).color")
    assert (colour == "rgb(1, 2, 3)") == (window["scheme"] == "dark")
    assert tab.overflow == 0


def test_a_page_that_is_too_wide_is_measured(open_page, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("<!DOCTYPE html><title>page</title><body style='margin:0'><div style='width:500px'>wide</div>")
    assert open_page(page, width=390).overflow == 110
