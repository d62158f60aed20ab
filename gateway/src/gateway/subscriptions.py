"""Subscriptions of /ws/logs: what a client wants to see, the place it is at, and that place kept under a name."""

import contextlib
import time
from typing import TYPE_CHECKING

from hearth.log.v1 import log_service_pb2
from hearth_runtime.errors import HearthError, SubscriptionNotFound
from loguru import logger

from gateway.feeds import just_now
from gateway.schemas.logs import Filters, SubscribeFrame
from gateway.translation import event_filter

if TYPE_CHECKING:
    from hearth.log.v1.log_service_pb2_grpc import LogServiceAsyncStub

SAVE_EVERY_SECONDS = 1.0


class Subscription:
    """What one client of /ws/logs sees, which it may change, and the last event that it was sent."""

    def __init__(self, logs: "LogServiceAsyncStub") -> None:
        self._logs = logs
        self.name: str | None = None
        self.filter = log_service_pb2.EventFilter()
        self.place: str | None = None
        self._saved_place: str | None = None
        self._saved_at = 0.0

    async def begin(self, wanted: SubscribeFrame) -> None:
        """Takes the first message of a client. A name that is known brings its place, unless the message has one, and
        its filter, unless the message has one.

        Raises HearthError where the log service cannot read or keep the subscription.
        """
        self.filter = event_filter(**wanted.subscribe.model_dump()) if wanted.subscribe is not None else self.filter
        self.place = wanted.after
        if wanted.name is None:
            return
        self.name = wanted.name
        with contextlib.suppress(SubscriptionNotFound):
            request = log_service_pb2.GetSubscriptionRequest(name=wanted.name)
            stored = (await self._logs.GetSubscription(request)).subscription
            if wanted.subscribe is None or not wanted.subscribe.model_fields_set:
                self.filter = stored.filter
            self.place = self.place or stored.last_seen_stream_id or None
        # A new name is at this moment, also for its next visit, whether or not an event comes before that.
        self.place = self.place or just_now()
        await self._store(place=self.place, events=self.filter)

    async def change(self, wanted: Filters) -> None:
        """Takes another filter, from the same place on. Raises HearthError where it cannot be kept."""
        self.filter = event_filter(**wanted.model_dump())
        if self.name is not None:
            await self._store(place=None, events=self.filter)

    def seconds_to_save(self, limit: float) -> float:
        """After how long `save` is due, at most `limit`."""
        if self.name is None or self.place == self._saved_place:
            return limit
        return min(limit, max(0.0, self._saved_at + SAVE_EVERY_SECONDS - time.monotonic()))

    async def save_if_due(self) -> None:
        """Keeps the place where it moved and was not kept within the last second."""
        if self.seconds_to_save(1.0) <= 0:
            await self.save()

    async def save(self) -> None:
        """Keeps the place. If that fails, the client's next visit repeats some events: no reason to end this one."""
        if self.name is None or self.place is None or self.place == self._saved_place:
            return
        self._saved_at = time.monotonic()
        try:
            await self._store(place=self.place, events=None)
        except HearthError as error:
            logger.warning("a subscription's place was not kept", name=self.name, error=error.code)

    async def _store(self, *, place: str | None, events: log_service_pb2.EventFilter | None) -> None:
        await self._logs.SaveSubscription(
            log_service_pb2.SaveSubscriptionRequest(name=self.name or "", filter=events, last_seen_stream_id=place)
        )
        if place is not None:
            self._saved_place = place
