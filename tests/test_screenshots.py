"""The pictures of the documentation: there is one of each page, small, and shown somewhere."""

import importlib.util
import io
import re
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "screenshots"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("screenshots", ROOT / "docs" / "screenshots.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["screenshots"] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


def test_there_is_a_picture_of_each_page_and_it_is_small(script):
    there = {path.stem: path for path in PICTURES.iterdir()}
    assert set(there) == set(script.SHOTS)
    for path in there.values():
        assert Image.open(path).size[0] == script.WIDTH
    assert sum(path.stat().st_size for path in there.values()) < 500_000


def test_each_picture_is_shown_and_what_is_shown_is_there(script):
    shown = set()
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for name in re.findall(r"!\[[^\]]+\]\(([^)]+\.webp)\)", path.read_text(encoding="utf-8")):
            assert (path.parent / name).is_file(), f"{path.name}: {name}"
            shown.add(Path(name).stem)
    assert shown == set(script.SHOTS)


def test_a_picture_is_reduced(script, tmp_path):
    png = io.BytesIO()
    Image.new("RGB", (1200, 800), "white").save(png, "png")
    script.keep(png.getvalue(), tmp_path / "page.webp")
    assert Image.open(tmp_path / "page.webp").size == (900, 600)
