"""uvicorn's HTTP protocol, with a bound on how long a client may take to say what it wants.

As of uvicorn 0.54 a connection on which the head of a request never ends is held for ever, and so many of them hold all
file descriptors: https://en.wikipedia.org/wiki/Slowloris_(cyber_attack).
"""

import asyncio
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class HttpProtocol(HttpToolsProtocol):
    """Closes a connection whose first request, or one that has begun, has no whole head in time."""

    head_seconds: ClassVar[float]
    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """A client is there."""
        super().connection_made(transport)
        self._wait()

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._wait()

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._rest()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._rest()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self._patience is None:
            self._patience = self.loop.call_later(self.head_seconds, self.transport.close)

    def _rest(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None


def http_protocol(head_seconds: float) -> type[HttpProtocol]:
    """The protocol, which gives clients so many seconds for a head."""

    class Patient(HttpProtocol):
        pass

    Patient.head_seconds = head_seconds
    return Patient
