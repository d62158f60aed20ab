"""Arguments of RPCs: what a field must be, and InvalidArgument that names the field where it is not."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from hearth_runtime.codec import from_message
from hearth_runtime.errors import FieldViolation, InvalidArgument
from hearth_runtime.events import StreamId
from hearth_runtime.identifiers import is_id

DEFAULT_PAGE_SIZE = 50
NAME_CHARACTERS = 255
SPAN_LIMIT = timedelta(days=30)


def invalid(field: str, message: str) -> InvalidArgument:
    """The error about one field: `message` says what it must be."""
    return InvalidArgument(f"{field} {message}.", fields=[FieldViolation(field=field, message=message)])


def uuid(text: str, field: str) -> str:
    """A UUID as text."""
    if not is_id(text):
        raise invalid(field, "must be a UUID")
    return text


def uuids(texts: Iterable[str], field: str) -> None:
    """UUIDs as text."""
    for text in texts:
        uuid(text, field)


def known(values: Iterable[object], field: str) -> None:
    """Members of an enumeration, of which the codec makes None where they are not."""
    if None in values:
        raise invalid(field, "must be values that this version knows")


def name(text: str, field: str) -> str:
    """A text that is there and short enough for an index."""
    if not 0 < len(text) <= NAME_CHARACTERS:
        raise invalid(field, f"must have 1 to {NAME_CHARACTERS} characters")
    return text


def page_size(value: int, *, limit: int) -> int:
    """The size of a page; 0 leaves it to us."""
    if not 0 <= value <= limit:
        raise invalid("page_size", f"must be 1 to {limit}")
    return value or DEFAULT_PAGE_SIZE


def span(value: Duration, field: str, *, positive: bool = False) -> timedelta:
    """A time span from 0, or from more than that, to 30 days."""
    try:
        span = value.ToTimedelta()
    except (ValueError, OverflowError) as error:
        raise invalid(field, "must be a duration") from error
    if span < timedelta() or (positive and not span) or span > SPAN_LIMIT:
        raise invalid(field, f"must be {'more than 0 and' if positive else '0 or more and'} at most 30 days")
    return span


def time(request: Any, field: str) -> datetime | None:
    """The time in the field, in UTC; None where it is not set."""
    if not request.HasField(field):
        return None
    try:
        moment: datetime = getattr(request, field).ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise invalid(field, "must be a time") from error
    return moment


def place(text: str, field: str) -> StreamId:
    """A stream id."""
    try:
        return StreamId.parse(text)
    except ValueError as error:
        raise invalid(field, "must have the form 1764000000000-0") from error


def json_object(value: Any, field: str) -> None:
    """What was decoded from JSON: an object."""
    if not isinstance(value, dict):
        raise invalid(field, "must be a JSON object")


def value_of[T](message: Message, value_type: type[T], field: str = "request") -> T:
    """The dataclass that the message holds; `field` is where the message stands."""
    try:
        return from_message(message, value_type)
    except (ValueError, OverflowError) as error:
        raise invalid(field, f"cannot be read: {error}") from error
