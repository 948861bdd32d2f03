"""BSON: documents one after the other, each with one picture or several as the bytes of image files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kaggle_kit.competition.containers.base import Container, Item, Options, is_picture, needs, opened, text


def _documents(path: Path) -> Iterator[Mapping[str, Any]]:
    bson = needs("pymongo", "bson")
    with opened(path) as handle:
        yield from bson.decode_file_iter(handle)


def _recognise(path: Path) -> Options | None:
    document = next(_documents(path), None)
    if document is None or not any(True for _ in _pictures(document)):
        return None
    ids = [key for key in document if key.lower() in ("_id", "id", "image_id")]
    return {"id": ids[0]} if ids else {}


def _pictures(value: Any) -> Iterator[bytes]:
    """All image files in a document, in its order."""
    if is_picture(value):
        yield bytes(value)
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _pictures(part)
    elif isinstance(value, list):
        for part in value:
            yield from _pictures(part)


def _read(path: Path, options: Options) -> Iterator[Item]:
    """A picture is called after its document; further ones of it have a number behind."""
    for number, document in enumerate(_documents(path), int(options.get("first", 1))):
        cells = {key: text(value) for key, value in document.items() if not isinstance(value, Mapping | list | bytes)}
        name = cells.get(str(options.get("id")), "") or str(number)
        for at, content in enumerate(_pictures(document)):
            yield Item(f"{name}_{at}", content, cells)


BSON = Container((".bson",), _recognise, _read)
