"""Dead letters: entries of the event stream that could not be persisted, kept in `hearth.dead` to be looked at."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

from hearth_runtime.errors import (
    Cancelled,
    DeadLetterNotFound,
    FieldViolation,
    HearthError,
    InvalidArgument,
    Unavailable,
)
from hearth_runtime.events import EVENTS_STREAM, EventKind, StreamId
from hearth_runtime.redis_streams import DEAD_STREAM
from loguru import logger
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from log_service.entries import NotAnEvent, StreamEntry, place_of
from log_service.storage import StoredEvents

# Letters are read a few at a time, since one may be large.
FEW = 10
AWAY = "Redis does not answer. Check that it runs and that HEARTH_REDIS_URL names it, then try again."
REFUSES = "Redis does not do this. Look into its log, then try again."
STOPPED = "storage-service stopped meanwhile. Try again."


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
        self._put_back_script = redis.register_script(files("log_service").joinpath("put_back.lua").read_text())

    async def page(self, *, size: int, token: str) -> tuple[tuple[DeadLetter, ...], str]:
        """The oldest first, without their values, and the token of the next page."""
        start = f"({_id(token, 'page_token')}" if token else "-"
        shown: list[DeadLetter] = []
        async for letter in self._walk(start, "+"):
            if len(shown) == size:
                return tuple(shown), shown[-1].id
            shown.append(replace(letter, value=b""))
        return tuple(shown), ""

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

        Returns how many are no dead letters any more, and those that still cannot be persisted, with their new reasons
        and ids. What somebody else requeues at the same time is counted there or here. Raises DeadLetterNotFound
        before anything is done, and Unavailable while storage-service is away: what was done by then stays done, and
        doing it again is harmless.
        """
        for letter_id in ids:
            await self.get(letter_id)
        count = 0
        refused: list[DeadLetter] = []
        async for letter in self._chosen(tuple(dict.fromkeys(ids))):
            reason = await self._persist(letter)
            if reason is None:
                with _reachable():
                    count += await self._redis.xdel(DEAD_STREAM, letter.id)
            elif (put_back := await self._put_back(letter, reason)) is not None:
                refused.append(put_back)
        logger.info("dead letters were tried again", persisted=count, refused=len(refused))
        return count, tuple(refused)

    async def _chosen(self, ids: Sequence[str]) -> AsyncIterator[DeadLetter]:
        """These, or all if there are none; those that are gone by then are passed over."""
        if ids:
            for letter_id in ids:
                async for letter in self._walk(letter_id, letter_id):
                    yield letter
            return
        with _reachable():
            last = await self._redis.xrevrange(DEAD_STREAM, count=1)
        if last:
            # Those that are put back come after it.
            async for letter in self._walk("-", str(place_of(last[0][0]))):
                yield letter

    async def _walk(self, start: str, end: str) -> AsyncIterator[DeadLetter]:
        while True:
            with _reachable():
                found = _letters(await self._redis.xrange(DEAD_STREAM, min=start, max=end, count=FEW))
            for letter in found:
                yield letter
            if len(found) < FEW:
                return
            start = f"({found[-1].id}"

    async def _persist(self, letter: DeadLetter) -> str | None:
        """Why it can't be; None where nothing is left to do, as for a delta, which is never kept."""
        try:
            event = StreamEntry(place=StreamId.parse(letter.stream_id), value=letter.value).event()
            if event.kind is not EventKind.DELTA:
                await self._events.append([event])
        except (NotAnEvent, ValueError) as error:
            return str(error)
        except Cancelled as error:
            raise Unavailable(STOPPED) from error
        except HearthError as error:
            if error.retryable:
                raise
            return f"storage-service refused it: {error.code}: {error.detail}"
        return None

    async def _put_back(self, letter: DeadLetter, reason: str) -> DeadLetter | None:
        """The letter as it is now; None where somebody else removed it meanwhile."""
        fields = ("event", letter.value, "reason", reason, "stream", EVENTS_STREAM, "id", letter.stream_id)
        with _reachable():
            new_id = await self._put_back_script(keys=[DEAD_STREAM], args=[letter.id, *fields])
        if new_id is None:
            return None
        return DeadLetter(id=str(place_of(new_id)), stream_id=letter.stream_id, reason=reason, value=b"")


@contextmanager
def _reachable() -> Iterator[None]:
    try:
        yield
    except ResponseError as error:
        logger.error("Redis refuses what dead letters need", error=str(error))
        raise Unavailable(REFUSES) from error
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
