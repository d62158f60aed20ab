"""Dead letters: entries of the event stream that could not be persisted, kept in `hearth.dead` to be looked at."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from hearth_runtime.errors import DeadLetterNotFound, FieldViolation, HearthError, InvalidArgument, Unavailable
from hearth_runtime.events import EventKind, StreamId
from hearth_runtime.redis_streams import DEAD_STREAM
from loguru import logger
from redis.asyncio import Redis
from redis.exceptions import RedisError

from log_service.entries import NotAnEvent, StreamEntry, place_of
from log_service.persistence import REFUSALS
from log_service.storage import StoredEvents

PAGE_SIZE = 100
AWAY = "Redis does not answer. Check that it runs and that HEARTH_REDIS_URL names it, then try again."


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """An entry: its id in `hearth.dead`, the one it had in `hearth.events`, why it is here, and its field `event`."""

    id: str
    stream_id: str
    reason: str
    value: bytes


class DeadLetters:
    """Lists them, and tries again to persist them. Every method raises Unavailable where Redis is away."""

    def __init__(self, redis: Redis, events: StoredEvents) -> None:
        self._redis = redis
        self._events = events

    async def page(self, *, size: int, token: str) -> tuple[tuple[DeadLetter, ...], str]:
        """The oldest first, without their values, and the token of the next page."""
        after = f"({_id(token, 'page_token')}" if token else "-"
        with _reachable():
            found = _letters(await self._redis.xrange(DEAD_STREAM, min=after, count=size + 1))
        shown = tuple(replace(letter, value=b"") for letter in found[:size])
        return shown, shown[-1].id if len(found) > size else ""

    async def get(self, letter_id: str) -> DeadLetter:
        """Raises DeadLetterNotFound."""
        _id(letter_id, "id")
        with _reachable():
            found = _letters(await self._redis.xrange(DEAD_STREAM, min=letter_id, max=letter_id))
        if not found:
            raise DeadLetterNotFound(f"There is no dead letter {letter_id}. `hearth-admin dead list` lists them.")
        return found[0]

    async def requeue(self, ids: Sequence[str]) -> tuple[int, tuple[DeadLetter, ...]]:
        """Persists these, or all that are there now, at the places that they had in the event stream.

        Returns how many are persisted, and so no dead letters any more, and those that still cannot be, with their new
        reasons and ids. Raises DeadLetterNotFound, and what storage-service raises while it is away: what was done by
        then stays done, and doing it again is harmless.
        """
        count = 0
        refused: list[DeadLetter] = []
        async for letter in self._chosen(ids):
            reason = await self._persist(letter)
            if reason is None:
                count += 1
                with _reachable():
                    await self._redis.xdel(DEAD_STREAM, letter.id)
            else:
                refused.append(await self._put_back(letter, reason))
        logger.info("dead letters were tried again", persisted=count, refused=len(refused))
        return count, tuple(refused)

    async def _chosen(self, ids: Sequence[str]) -> AsyncIterator[DeadLetter]:
        if ids:
            for letter_id in ids:
                yield await self.get(letter_id)
            return
        with _reachable():
            last = await self._redis.xrevrange(DEAD_STREAM, count=1)
        if not last:
            return
        # Those that are put back come after it.
        start, end = "-", str(place_of(last[0][0]))
        while True:
            with _reachable():
                found = _letters(await self._redis.xrange(DEAD_STREAM, min=start, max=end, count=PAGE_SIZE))
            for letter in found:
                yield letter
            if len(found) < PAGE_SIZE:
                return
            start = f"({found[-1].id}"

    async def _persist(self, letter: DeadLetter) -> str | None:
        """Why it can't be; None where it is."""
        try:
            event = StreamEntry(place=StreamId.parse(letter.stream_id), value=letter.value).event()
            if event.kind is EventKind.DELTA:
                return "it is a piece of an answer, and only whole ones are kept"
            await self._events.append([event])
        except (NotAnEvent, ValueError) as error:
            return str(error)
        except HearthError as error:
            if error.retryable and error.status not in REFUSALS:
                raise
            return f"storage-service refused it: {error.code}: {error.detail}"
        return None

    async def _put_back(self, letter: DeadLetter, reason: str) -> DeadLetter:
        fields: Any = {"event": letter.value, "reason": reason, "id": letter.stream_id}
        with _reachable():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.xadd(DEAD_STREAM, fields)
                pipe.xdel(DEAD_STREAM, letter.id)
                new_id, _ = await pipe.execute()
        return DeadLetter(id=new_id.decode(), stream_id=letter.stream_id, reason=reason, value=b"")


@contextmanager
def _reachable() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError) as error:
        raise Unavailable(AWAY) from error


def _letters(entries: Any) -> list[DeadLetter]:
    return [
        DeadLetter(
            id=str(place_of(raw_id)),
            stream_id=fields.get(b"id", b"").decode(errors="replace"),
            reason=fields.get(b"reason", b"").decode(errors="replace"),
            value=fields.get(b"event", b""),
        )
        for raw_id, fields in entries
    ]


def _id(text: str, field: str) -> str:
    try:
        return str(StreamId.parse(text))
    except ValueError as error:
        raise InvalidArgument(str(error), fields=[FieldViolation(field=field, message=str(error))]) from error
