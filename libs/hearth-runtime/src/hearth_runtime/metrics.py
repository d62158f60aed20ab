"""This process's metrics by HTTP, where Prometheus asks each replica; and labels of which there are never too many."""

from collections.abc import Callable

from prometheus_client import start_http_server

from hearth_runtime.settings import RuntimeSettings

OTHER = "other"


class Bounded:
    """Labels that users choose: the first `limit` of them have rows of their own, all others share that of OTHER."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: set[tuple[str, ...]] = set()

    def __call__(self, *values: str) -> tuple[str, ...]:
        """The values, each cut to 100 characters, or as many times OTHER."""
        cut = tuple(value[:100] for value in values)
        if cut not in self._known:
            if len(self._known) >= self._limit:
                return (OTHER,) * len(values)
            self._known.add(cut)
        return cut


def serve_metrics(settings: RuntimeSettings) -> Callable[[], None]:
    """Serves GET /metrics in a thread, if the settings name an address. Returns what ends it. Raises OSError where the
    address is taken."""
    if not settings.metrics_address:
        return lambda: None
    host, _, port = settings.metrics_address.rpartition(":")
    server, thread = start_http_server(int(port), addr=host.strip("[]"))

    def end() -> None:
        server.shutdown()
        server.server_close()
        thread.join(1)

    return end
