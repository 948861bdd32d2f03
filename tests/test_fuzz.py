"""Damaged input of every kind ends in a message; and the fuzzer notices what it is there for."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import fuzz

from kaggle_kit import files

GUARD = fuzz.Guard()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz") / "base"
    fuzz.prepare(folder)
    return folder


@pytest.fixture(autouse=True)
def alarm() -> Iterator[None]:
    def ring(*_: Any) -> None:
        raise fuzz._TooLong

    before = signal.signal(signal.SIGALRM, ring)
    yield
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("number", range(10), ids=[*(area.name for area in fuzz.AREAS), "options", "archives"])
def test_damaged_input_ends_in_a_message(base: Path, tmp_path: Path, number: int) -> None:
    wrong = []
    for case in range(number, 120, 10):
        outcome = fuzz.run_case(case, 7, base, tmp_path / "case", GUARD)
        if outcome.kind != "fine":
            wrong.append(json.dumps(asdict(outcome)))
    assert not wrong, "\n".join(wrong)


def test_an_unexpected_exception_is_a_defect(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(files, "read_json", broken)
    kinds = {fuzz.run_case(case, 7, base, tmp_path / "case", GUARD).kind for case in range(3, 80, 10)}
    assert "defect" in kinds


def test_a_changed_submission_that_passes_is_noticed(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "run_command", lambda _: (0, "PASSED"))
    assert fuzz.run_case(7, 7, base, tmp_path / "case", GUARD).kind == "accepted"


def test_a_write_outside_is_noticed(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stray(_: list[str]) -> tuple[int, str]:
        (tmp_path / "stray.txt").write_text("x")
        return 0, ""

    monkeypatch.setattr(fuzz, "run_command", stray)
    outcome = fuzz.run_case(3, 7, base, tmp_path / "case", GUARD)
    assert (outcome.kind, "stray.txt" in outcome.told) == ("outside", True)


def test_a_hang_is_noticed(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "LONGEST", 1)
    monkeypatch.setattr(fuzz, "run_command", lambda _: signal.pause())
    assert fuzz.run_case(3, 7, base, tmp_path / "case", GUARD).kind == "hang"
