from __future__ import annotations

import pytest

from kaggle_kit.choices import VIEWS
from kaggle_kit.errors import ConfigError
from kaggle_kit.views import POOL, is_auto, mix_text, parse_views, pool_of, require_views


@pytest.mark.parametrize("name", VIEWS)
def test_a_name_alone_has_all_the_weight(name):
    assert parse_views(name) == {name: 1}


def test_sums_and_weights():
    assert parse_views("hflip+stretched") == {"hflip": 0.5, "stretched": 0.5}
    assert parse_views(" 3*none + 1*larger ") == {"none": 0.75, "larger": 0.25}
    assert parse_views("none+none+hflip") == pytest.approx({"none": 2 / 3, "hflip": 1 / 3})


@pytest.mark.parametrize("text", ["", "hflop", "none+", "x*none", "0*none", "-1*none", "nan*none", "inf*none", "*none", "2*"])
def test_what_cannot_be_read_is_refused(text):
    with pytest.raises(ConfigError, match=r"unknown views|a weight must be"):
        parse_views(text)


def test_a_text_is_read_as_the_weights_it_was_written_from():
    assert parse_views(mix_text({"none": 0.7, "hflip": 0.3})) == pytest.approx({"none": 0.7, "hflip": 0.3})
    assert mix_text({"none": 0.0, "hflip": 1.0}) == "hflip"
    assert mix_text({"none": 0.01, "hflip": 0.99}) == "hflip"


def test_pools():
    assert pool_of("auto") == POOL
    assert pool_of("auto:d4, hflip") == ("none", "d4", "hflip")
    assert is_auto("auto:d4")
    assert not is_auto("automatic")
    with pytest.raises(ConfigError, match="Did you mean 'hflip'"):
        pool_of("auto:hflop")


def test_auto_is_refused_where_nothing_can_be_chosen_and_for_other_merges():
    assert require_views("auto") == "auto"
    with pytest.raises(ConfigError, match="name the views here"):
        require_views("auto", auto=False)
    with pytest.raises(ConfigError, match="leave --merge at mean"):
        require_views("auto", "gmean")
