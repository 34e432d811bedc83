"""Measurements of the service, in the text format of Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class ServiceMetrics:
    """Counts requests, and measures their seconds and the sizes of batches."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "dpt_serve_requests", "Requests by path and status.", ["path", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "dpt_serve_request_seconds",
            "Seconds from the request to its answer.",
            ["path"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._batches = Histogram(
            "dpt_serve_batch_images", "Images computed together.", buckets=_IMAGES, registry=self._registry
        )
        self._computing = Counter(
            "dpt_serve_computing_seconds", "Seconds in which batches were computed.", registry=self._registry
        )
        self._held = Gauge(
            "dpt_serve_held_requests", "Requests being received, waiting or computed.", registry=self._registry
        )
        self.answered = 0
        """Requests that were answered with images or classes."""

    def note_request(self, path: str, status: int, seconds: float) -> None:
        """Count a request.

        Args:
            path: of a route; requests for anything else share one, so that nobody can fill the memory with paths.
            status: of the answer.
            seconds: until the answer.
        """
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)
        self.answered += status == 200 and path.startswith("/api/") and path != "/api/models"

    def note_batch(self, images: int, seconds: float) -> None:
        """Count a batch of some images, computed in some seconds."""
        self._batches.observe(images)
        self._computing.inc(seconds)

    def text(self, held: int) -> bytes:
        """Return all measurements, with the number of requests held now."""
        self._held.set(held)
        return generate_latest(self._registry)
