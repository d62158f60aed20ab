"""Live streams of events: opened with a check, resumed underneath when the log service restarts, counted and ended.

SSE and WebSocket are two ways to write what an `EventStream` reads.
"""

import asyncio
import random
import time
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any, Literal

from hearth.log.v1 import log_service_pb2
from hearth_runtime.deadlines import bounded, detached
from hearth_runtime.errors import Cancelled, HearthError, TooManyStreams, Unauthenticated, Unavailable
from loguru import logger
from prometheus_client import Counter, Gauge

from gateway.caller import current_caller
from gateway.callers import Callers
from gateway.settings import GatewaySettings

if TYPE_CHECKING:
    from hearth.log.v1.log_service_pb2_grpc import LogServiceAsyncStub

type Transport = Literal["sse", "task_socket", "log_socket"]
type Message = log_service_pb2.StreamEventsResponse

STREAMS_OPEN = Gauge("hearth_streams_open", "Live streams that are being served", ["transport"])
RESUMES = Counter("hearth_stream_resumes_total", "Times that a live stream was cut off by the log service and resumed")

FIRST_DELAY_SECONDS = 0.05
MAX_DELAY_SECONDS = 2.0
CLOCK_MARGIN_SECONDS = 1.0


class EventStream:
    """The events that match a filter, from a place on, each once and in order."""

    def __init__(
        self,
        logs: "LogServiceAsyncStub",
        settings: GatewaySettings,
        *,
        events: log_service_pb2.EventFilter,
        after: str | None,
        until_end: bool,
    ) -> None:
        self._logs = logs
        self._settings = settings
        self._filter = events
        self._until_end = until_end
        self._place = after
        # Where a stream "from now on" resumes before it had an event.
        self._start = None if until_end else just_now()
        self._messages = self._read()
        self._pending: asyncio.Task[Message | None] | None = None
        self.caller = current_caller()
        # Why it was stopped, where that is no restart.
        self.error: HearthError | None = None
        self.stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def place(self) -> str | None:
        """The id after which a new stream would go on where this one has begun."""
        return self._place or self._start

    async def open(self) -> None:
        """Returns once the log service serves the stream. Raises what it answers instead, Unavailable for nothing."""
        self._pending = self._begin_next()
        await asyncio.wait((self._pending,), timeout=bounded(self._settings.rpc_timeout_seconds))
        if not self._pending.done():
            raise Unavailable("The log service does not answer. Try again; GET /health shows what is down.")
        message = self._pending.result()
        if message is None or message.HasField("heartbeat"):
            # It has told what it was for.
            self._pending = None

    async def next(self, *others: asyncio.Future[Any], timeout: float) -> Message | None:
        """The next message; None when `timeout` is over, `stop` was called or one of `others` is done. Nothing is
        lost by that: the next call waits on. Raises HearthError when the stream ends by an error.
        """
        if self._pending is None:
            self._pending = self._begin_next()
        waited: list[asyncio.Future[Any]] = [self._pending, self.stopped, *others]
        await asyncio.wait(waited, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if self.stopped.done() or not self._pending.done():
            return None
        pending, self._pending = self._pending, None
        return pending.result()

    def stop(self, error: HearthError | None = None) -> None:
        """Wakes whoever waits in `next`, since the process ends or for this `error`."""
        self.error = self.error or error
        if not self.stopped.done():
            self.stopped.set_result(None)

    async def aclose(self) -> None:
        """Ends the call to the log service."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.cancel()
            await asyncio.wait((pending,))
            if not pending.cancelled():
                pending.exception()  # that nobody saw it is no news
        await self._messages.aclose()

    def _begin_next(self) -> "asyncio.Task[Message | None]":
        # The stream goes on when the request that opened it has had its time.
        return asyncio.create_task(self._next_message(), context=detached())

    async def _next_message(self) -> Message | None:
        return await anext(self._messages, None)

    async def _read(self) -> AsyncGenerator[Message]:
        place, opened = self._place, False
        failing_since: float | None = None
        delay = FIRST_DELAY_SECONDS
        while True:
            request = log_service_pb2.StreamEventsRequest(
                filter=self._filter, after_stream_id=place, until_end=self._until_end
            )
            call = self._logs.StreamEvents(request)
            messages = aiter(call)
            try:
                while True:
                    async with asyncio.timeout(self._patience(failing_since)):
                        message = await anext(messages, None)
                    if message is None:
                        raise Unavailable("The log service ended the stream before its time.")
                    opened, failing_since, delay = True, None, FIRST_DELAY_SECONDS
                    if message.HasField("event"):
                        place = message.event.stream_id
                    yield message
                    if message.HasField("end"):
                        return
            except TimeoutError:
                error: HearthError = Unavailable("The log service has said nothing for too long.")
            except HearthError as caught:
                error = caught
            finally:
                call.cancel()
            if not opened or not (error.retryable or isinstance(error, Cancelled)):
                raise error
            failing_since = failing_since or time.monotonic()
            if self._patience(failing_since) <= 0:
                raise error
            logger.info("resuming an event stream", after=place, error=error.code)
            RESUMES.inc()
            place = place or self._start
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load, guards nothing
            delay = min(delay * 2, MAX_DELAY_SECONDS)

    def _patience(self, failing_since: float | None) -> float:
        """How long the log service may be silent, which it is all the time while it is away."""
        if failing_since is None:
            return self._settings.stream_idle_seconds
        return failing_since + self._settings.stream_resume_seconds - time.monotonic()


def just_now() -> str:
    """A place in the events a moment ago: an id begins with Redis' time, from which this clock may differ a little."""
    return f"{int((time.time() - CLOCK_MARGIN_SECONDS) * 1000)}-0"


class Streams:
    """The streams that this process serves."""

    def __init__(self, logs: "LogServiceAsyncStub", settings: GatewaySettings) -> None:
        self._logs = logs
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
        stream = EventStream(self._logs, self._settings, events=events, after=after, until_end=until_end)
        self._open[stream] = transport
        STREAMS_OPEN.labels(transport).inc()
        try:
            await stream.open()
        except BaseException:
            await self.close(stream)
            raise
        return stream

    async def close(self, stream: EventStream) -> None:
        """Ends `stream`. Repeating it is harmless."""
        transport = self._open.pop(stream, None)
        if transport is not None:
            STREAMS_OPEN.labels(transport).dec()
            await stream.aclose()

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
