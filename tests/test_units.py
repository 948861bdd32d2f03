import pytest

from kaggle_kit.errors import ConfigError
from kaggle_kit.units import format_duration, parse_bytes, parse_count, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("45m", 2700), ("8h30m", 30600), ("1d", 86400), (" 2H ", 7200)]
)
def test_durations_are_read_as_written(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "h", "8:30", "-5m", "30m8h", "1.5h"])
def test_other_texts_are_refused_with_an_example(text):
    with pytest.raises(ConfigError, match="8h30m"):
        parse_duration(text)


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (61.4, "1:01"), (30600, "8:30:00")])
def test_durations_are_written_as_a_clock(seconds, text):
    assert format_duration(seconds) == text


@pytest.mark.parametrize("text", ["8GB", "8 g", "8000000000"])
def test_sizes_are_read_as_written(text):
    assert parse_bytes(text) == 8_000_000_000


@pytest.mark.parametrize("text", ["much", "-1", "9" * 400 + "GB"])
def test_other_sizes_are_refused(text):
    with pytest.raises(ConfigError, match="must be a number of bytes"):
        parse_bytes(text)


def test_counts_of_parameters():
    assert [parse_count(text, "--under") for text in ("50M", "1.5m", " 900K", "7", 12)] == [
        50_000_000,
        1_500_000,
        900_000,
        7,
        12,
    ]
    for text in ("", "M", "-1M", "1e9", "five", "1.M"):
        with pytest.raises(ConfigError, match="--under must be a number such as 50M"):
            parse_count(text, "--under")
