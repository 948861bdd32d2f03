from __future__ import annotations

from collections.abc import Callable

import pytest
from blended_case import Blended


@pytest.mark.parametrize("form", ["label", "labels", "probability"])
def test_like_shares_pass(blended: Callable[..., Blended], form: str) -> None:
    assert blended(form=form, n_test=120).line("distribution").status == "passed"


def test_a_favoured_class_is_a_warning_in_plain_words(blended: Callable[..., Blended]) -> None:
    case = blended(n_test=120)
    frame = case.frame()
    frame.loc[:90, "label"] = "class 2"
    case.write(frame)
    line = case.line("distribution")
    assert line.status == "warning"
    assert "'class 2' " in line.evidence
    assert "of training labels" in line.evidence
