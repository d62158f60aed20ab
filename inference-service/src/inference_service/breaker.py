"""The circuit breaker of a model host: what keeps failing is left alone, and is found again when it works.

It is our own: the libraries for asyncio (aiobreaker, pybreaker, purgatory) half-open on whatever call comes after a
fixed time. Here a background probe comes first, so that no request waits for a host that is not even there; then one
real request is the trial, since a host that answers a probe may still fail to generate.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from hearth_runtime.errors import HearthError, ModelHostUnavailable, ModelTimeout
from loguru import logger

# A refused request, an unknown model, too much to do or a bad answer come from a host that works.
_FAILURES = (ModelHostUnavailable, ModelTimeout)


class State(StrEnum):
    """Open: requests are refused. Half open: one at a time is let through, as a trial."""

    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"


@dataclass(frozen=True, kw_only=True)
class Report:
    """A breaker as it is now. The times are None, and the reason is empty, while it is closed."""

    state: State
    reason: str  # the host's last failure
    since_time: datetime | None  # when it opened
    next_probe_time: datetime | None  # None also while half open, when the next request is the probe


class Breaker:
    """Opens after `failures` failures of the host `name` in a row.

    Then `probe` is called after a time that grows from `first_seconds` to `max_seconds` with full jitter; once it does
    not raise HearthError, the breaker is half open.
    """

    def __init__(
        self,
        *,
        name: str,
        probe: Callable[[], Awaitable[object]],
        failures: int,
        first_seconds: float,
        max_seconds: float,
    ) -> None:
        self._name = name
        self._probe = probe
        self._limit = failures
        self._first_seconds = first_seconds
        self._max_seconds = max_seconds
        self.state = State.CLOSED
        self._failures = 0  # in a row
        self._probes = 0  # since it last worked
        self._opened = 0  # how often: a call that began before it last opened says nothing about now
        self._reason = ""
        self._since: datetime | None = None
        self._next_probe: datetime | None = None
        self._trial: asyncio.Event | None = None  # set when the trial is over
        self._probing: asyncio.Task[None] | None = None

    @property
    def on_trial(self) -> bool:
        """Whether a request is the trial just now, so that others wait for what becomes of it."""
        return self._trial is not None

    def report(self) -> Report:
        """How it is now."""
        return Report(state=self.state, reason=self._reason, since_time=self._since, next_probe_time=self._next_probe)

    def refusal(self) -> ModelHostUnavailable:
        """What to raise instead of asking the host while the breaker is open."""
        wait = max(0.0, (self._next_probe - datetime.now(UTC)).total_seconds()) if self._next_probe else 0.0
        return ModelHostUnavailable(
            f"{self._name} is given no requests since {self._since:%H:%M:%S} UTC, as it kept failing: "
            f"{self._reason} The next probe is in {wait:.1f} seconds.",
            retry_after_seconds=wait,
        )

    @asynccontextmanager
    async def call(self) -> AsyncIterator[Callable[[], None]]:
        """Around a request to the host, whose outcome counts; call what it gives when the answer begins.

        Waits while another request is the trial. Raises ModelHostUnavailable while the breaker is open.
        """
        while self._trial is not None:
            await self._trial.wait()
        if self.state is State.OPEN:
            raise self.refusal()
        opened = self._opened
        trial: asyncio.Event | None = None
        if self.state is State.HALF_OPEN:
            trial = self._trial = asyncio.Event()

        def begins() -> None:
            if opened == self._opened and self.state is State.HALF_OPEN:
                # Who waits need not wait for the answer's end; but if this one fails yet, that is one failure enough.
                self._close(failures=self._limit - 1)
            self._end(trial)

        try:
            yield begins
        except _FAILURES as error:
            if opened == self._opened:
                self.failed(error)
            raise
        else:
            if opened == self._opened:
                self._probes = 0
                self._close(failures=0)
        finally:
            self._end(trial)

    def failed(self, error: HearthError) -> None:
        """The host was seen to fail."""
        if self.state is State.OPEN or not isinstance(error, _FAILURES):
            return
        self._failures += 1
        if self.state is State.HALF_OPEN or self._failures >= self._limit:
            self._open(error)

    async def close(self) -> None:
        """Stops probing."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)

    def _open(self, error: HearthError) -> None:
        self.state = State.OPEN
        self._opened += 1
        self._since = self._since or datetime.now(UTC)
        self._reason = error.detail
        self._end(self._trial)
        delay = self._plan()
        logger.warning(
            "a model host's breaker opened", host=self._name, failures=self._failures, code=error.code, probe_in=delay
        )
        self._probing = asyncio.create_task(self._half_open(delay))

    def _plan(self) -> float:
        """In how many seconds the next probe is; full jitter, as in tries.py."""
        bound = min(self._max_seconds, self._first_seconds * 2 ** min(self._probes, 32))
        self._probes += 1
        delay = random.uniform(0, bound)  # noqa: S311
        self._next_probe = datetime.now(UTC) + timedelta(seconds=delay)
        return delay

    async def _half_open(self, delay: float) -> None:
        while True:
            await asyncio.sleep(delay)
            try:
                await self._probe()
            except HearthError as error:
                self._reason = error.detail
                delay = self._plan()
            else:
                self.state = State.HALF_OPEN
                self._next_probe = None
                logger.info("a model host's breaker is half open", host=self._name)
                return

    def _close(self, *, failures: int) -> None:
        if self.state is not State.CLOSED:
            logger.info("a model host's breaker closed", host=self._name)
        self.state = State.CLOSED
        self._failures = failures
        self._reason, self._since, self._next_probe = "", None, None

    def _end(self, trial: asyncio.Event | None) -> None:
        if trial is not None:
            trial.set()
            if self._trial is trial:
                self._trial = None
