"""Live streams of events: opened with a check, counted, and ended when the process or the caller's time ends.

SSE and WebSocket are two ways to write what an `EventStream` takes from its feed.
"""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from hearth.log.v1 import log_service_pb2
from hearth_runtime.deadlines import bounded
from hearth_runtime.errors import HearthError, TooManyStreams, Unauthenticated, Unavailable
from loguru import logger
from prometheus_client import Gauge

from gateway.caller import current_caller
from gateway.callers import Callers
from gateway.feeds import Feeds, LiveEvent, just_now
from gateway.settings import GatewaySettings

if TYPE_CHECKING:
    from hearth.log.v1.log_service_pb2_grpc import LogServiceAsyncStub

type Transport = Literal["sse", "task_socket", "log_socket"]

STREAMS_OPEN = Gauge("hearth_streams_open", "Live streams that are being served", ["transport"])


class EventStream:
    """The events that match a filter, from a place on, each once and in order, for one client."""

    def __init__(
        self, feeds: Feeds, *, events: log_service_pb2.EventFilter, after: str | None, until_end: bool
    ) -> None:
        self._feeds = feeds
        self._filter = events
        self._until_end = until_end
        self._news = asyncio.Event()
        self._feed, self._position = feeds.join(self, events=events, after=after, until_end=until_end)
        # The id after which a new stream would go on; without an event so far, that where this one has begun.
        self.place = after or (None if until_end else self._feed.last_id or just_now())
        self.caller = current_caller()
        self.is_stopped = False
        # Why it was stopped, where that is no restart.
        self.error: HearthError | None = None
        # The task's status, once all its events were taken.
        self.end: str | None = None

    async def open(self, seconds: float | None) -> None:
        """Returns once the log service serves the stream. Raises what it answers instead, Unavailable for nothing."""
        try:
            async with asyncio.timeout(bounded(seconds)):
                while not self._feed.is_open:
                    await self._news.wait()
                    self._news.clear()
                    self._feed.check()
        except TimeoutError:
            raise Unavailable("The log service does not answer. Try again; GET /health shows what is down.") from None

    async def next(self, *others: asyncio.Future[Any], timeout: float) -> Sequence[LiveEvent]:
        """The next events; none when `timeout` is over, all were taken up to the `end`, `stop` was called or one of
        `others` is done. Nothing is lost by that. Raises HearthError when the stream ends by an error.
        """
        events = self._take()
        if events or self.end is not None or self.is_stopped or (others and any(other.done() for other in others)):
            return events
        for other in others:
            other.add_done_callback(self._is_done)
        # Cheaper than a time-out around the wait, and there is one of these for each event and client.
        alarm = asyncio.get_running_loop().call_later(timeout, self.tell)
        try:
            await self._news.wait()
        finally:
            alarm.cancel()
            for other in others:
                other.remove_done_callback(self._is_done)
        return self._take()

    def tell(self) -> None:
        """Wakes whoever waits in `next`."""
        self._news.set()

    def _is_done(self, _: asyncio.Future[Any]) -> None:
        self._news.set()

    def stop(self, error: HearthError | None = None) -> None:
        """Gives nothing any more, since the process ends or for this `error`."""
        self.error = self.error or error
        self.is_stopped = True
        self.tell()

    def close(self) -> None:
        """Lets go of the feed."""
        self._feeds.leave(self, self._feed)

    def _take(self) -> Sequence[LiveEvent]:
        if self.is_stopped:
            return ()
        self._news.clear()
        events = self._feed.take(self._position)
        if events is None:
            # It was slower than the others: what it has not taken is not held any more.
            self._feeds.leave(self, self._feed)
            self._feed, self._position = self._feeds.join(
                self, events=self._filter, after=self.place, until_end=self._until_end, resumes=True
            )
            events = self._feed.take(self._position) or ()
        if events:
            self._position += len(events)
            self.place = events[-1].id
        else:
            self.end = self._feed.end
        return events


class Streams:
    """The streams that this process serves."""

    def __init__(self, logs: "LogServiceAsyncStub", settings: GatewaySettings) -> None:
        self._feeds = Feeds(logs, settings)
        self._settings = settings
        self._open: dict[EventStream, Transport] = {}
        self._stopping = False

    async def open(
        self, transport: Transport, *, events: log_service_pb2.EventFilter, after: str | None, until_end: bool
    ) -> EventStream:
        """A stream that the log service serves already; to be given to `close`, whatever becomes of it.

        Raises TooManyStreams, Unavailable, and what the log service answers: TaskNotFound for one.
        """
        if self._stopping:
            raise Unavailable("This gateway is stopping. Connect again.")
        if len(self._open) >= self._settings.max_streams:
            raise TooManyStreams(f"{self._settings.max_streams} live streams are open. Close some, or try again later.")
        stream = EventStream(self._feeds, events=events, after=after, until_end=until_end)
        self._open[stream] = transport
        STREAMS_OPEN.labels(transport).inc()
        try:
            await stream.open(self._settings.rpc_timeout_seconds)
        except BaseException:
            self.close(stream)
            raise
        return stream

    def close(self, stream: EventStream) -> None:
        """Ends `stream`. Repeating it is harmless."""
        transport = self._open.pop(stream, None)
        if transport is not None:
            STREAMS_OPEN.labels(transport).dec()
            stream.close()

    async def watch(self, callers: Callers, every_seconds: float) -> None:
        """Ends the streams of those who would be let in no more."""
        while True:
            await asyncio.sleep(every_seconds)
            for caller in {stream.caller for stream in self._open if stream.caller is not None}:
                try:
                    await callers.check(caller)
                except Unauthenticated as error:
                    logger.info("ending the streams of a caller that is let in no more", actor=caller.actor)
                    for stream in self._open:
                        if stream.caller == caller:
                            stream.stop(error)
                except HearthError as error:
                    logger.debug("whether a caller is still let in is asked later", error=error.detail)

    def stop(self) -> None:
        """Ends all streams in such a way that clients resume them elsewhere, and opens none any more."""
        self._stopping = True
        for stream in self._open:
            stream.stop()
