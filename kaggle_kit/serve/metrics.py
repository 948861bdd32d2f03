"""What the server counts, as text that Prometheus reads (exposition format 0.0.4)."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_IMAGES = (1, 2, 4, 8, 16, 32, 64)


class Histogram:
    """How often values fell up to each of some bounds."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds, self._counts, self._sum = bounds, [0] * (len(bounds) + 1), 0.0
        self._lock = threading.Lock()

    def add(self, value: float) -> None:
        """Count a value."""
        with self._lock:
            self._counts[bisect_left(self._bounds, value)] += 1
            self._sum += value

    def lines(self, name: str) -> list[str]:
        """Return the lines of a metric called ``name``."""
        with self._lock:
            counts, total = list(self._counts), self._sum
        upto = [sum(counts[: place + 1]) for place in range(len(counts))]
        marks = [*(f"{bound:g}" for bound in self._bounds), "+Inf"]
        buckets = [f'{name}_bucket{{le="{mark}"}} {count}' for mark, count in zip(marks, upto, strict=True)]
        return [*buckets, f"{name}_sum {total:g}", f"{name}_count {upto[-1]}"]


class Metrics:
    """All counts of a server.

    Attributes:
        seconds: from a request's first byte to its answer, of predictions.
        batch: images computed together.
        waiting: a function that returns how many images wait now.
    """

    def __init__(self) -> None:
        self.seconds, self.batch = Histogram(_SECONDS), Histogram(_IMAGES)
        self.waiting: Callable[[], int] = lambda: 0
        self._requests: Counter[tuple[str, int]] = Counter()
        self._images: Counter[str] = Counter()
        self._lock = threading.Lock()

    def answered(self, path: str, status: int) -> None:
        """Count an answer."""
        with self._lock:
            self._requests[path, status] += 1

    def image(self, outcome: str) -> None:
        """Count an image: predicted, or unreadable."""
        with self._lock:
            self._images[outcome] += 1

    @property
    def predicted(self) -> int:
        """Images that were predicted."""
        return self._images["predicted"]

    def text(self) -> str:
        """Return all metrics."""
        with self._lock:
            requests, images = sorted(self._requests.items()), sorted(self._images.items())
        answers = [f'kk_requests_total{{path="{path}",status="{status}"}} {count}' for (path, status), count in requests]
        outcomes = [f'kk_images_total{{outcome="{outcome}"}} {count}' for outcome, count in images]
        parts = [
            ("kk_requests_total", "counter", "answers by path and status", answers),
            ("kk_images_total", "counter", "images by what became of them", outcomes),
            ("kk_waiting", "gauge", "images that wait to be computed", [f"kk_waiting {self.waiting()}"]),
            ("kk_predict_seconds", "histogram", "seconds of a prediction request", self.seconds.lines("kk_predict_seconds")),
            ("kk_batch_images", "histogram", "images computed together", self.batch.lines("kk_batch_images")),
        ]
        lines = [[f"# HELP {name} {help}", f"# TYPE {name} {kind}", *lines] for name, kind, help, lines in parts]
        return "\n".join(line for some in lines for line in some) + "\n"
