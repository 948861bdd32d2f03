"""What all tests share."""

from hypothesis import HealthCheck, settings

# Times are never asserted, and a test that fails once in a hundred runs tells nobody anything.
settings.register_profile("kaggle_kit", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("kaggle_kit")
