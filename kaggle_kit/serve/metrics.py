"""What the server counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

MEDIA_TYPE = CONTENT_TYPE_LATEST
_IMAGES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """All counts of one server.

    Attributes:
        seconds: from a request's first byte to its answer, of predictions.
        batch: images computed together.
        predicted: images so far.

    Args:
        waiting: returns how many images wait now.
    """

    def __init__(self, waiting: Callable[[], int]) -> None:
        self._all = CollectorRegistry()
        self.seconds = Histogram("kk_predict_seconds", "seconds of a prediction request", registry=self._all)
        self.batch = Histogram("kk_batch_images", "images computed together", registry=self._all, buckets=_IMAGES)
        self._requests = Counter("kk_requests", "answers by path and status", ["path", "status"], registry=self._all)
        self._images = Counter("kk_images", "images by what became of them", ["outcome"], registry=self._all)
        Gauge("kk_waiting", "images that wait to be computed", registry=self._all).set_function(waiting)
        self.predicted = 0

    def answered(self, path: str, status: int) -> None:
        """Count an answer."""
        self._requests.labels(path, status).inc()

    def image(self, outcome: str) -> None:
        """Count an image: predicted, or unreadable."""
        self._images.labels(outcome).inc()
        self.predicted += outcome == "predicted"

    def text(self) -> bytes:
        """Return all metrics in Prometheus' exposition format."""
        return generate_latest(self._all)
