"""What all tests share."""

import logging

import pytest
from hypothesis import HealthCheck, settings

# Times are never asserted, and a test that fails once in a hundred runs tells nobody anything.
settings.register_profile("kaggle_kit", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("kaggle_kit")


@pytest.fixture(autouse=True)
def _no_log_handlers_left():
    """A command sets up logging to the error stream of its test, which is closed when the next one runs."""
    yield
    logger = logging.getLogger("kaggle_kit")
    logger.handlers.clear()
    logger.propagate = True
