"""Pages of a list: what a page holds, and the opaque token that says where the next one begins."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import orjson
from hearth_runtime.errors import FieldViolation, InvalidArgument
from hearth_runtime.events import StreamId

# A page ends early rather than grow past this, since a gRPC message is bounded.
PAGE_BYTES = 8 * 1024 * 1024
MAX_DIGITS = 9


@dataclass(frozen=True, kw_only=True)
class Page[T]:
    """Items in their order, and the token of the next page: empty on the last one."""

    items: Sequence[T]
    next_token: str


def token_of_id(last_id: str) -> str:
    """The token of the page after the item with this UUID."""
    return _encode(UUID(last_id).bytes)


def id_of_token(token: str) -> UUID | None:
    """The UUID after which the page begins; None for the first page. Raises InvalidArgument for a token not ours."""
    if not token:
        return None
    try:
        return UUID(bytes=_decode(token))
    except ValueError as error:
        raise _garbled() from error


def token_of_place(place: StreamId) -> str:
    """The token of the page after the event at `place`."""
    return _encode(str(place).encode())


def place_of_token(token: str) -> StreamId | None:
    """The place after which the page begins; None for the first page. Raises InvalidArgument for a token not ours."""
    if not token:
        return None
    try:
        return StreamId.parse(_decode(token).decode())
    except ValueError as error:
        raise _garbled() from error


def token_of_number(number: int) -> str:
    """The token of the page after the item with this number."""
    return _encode(str(number).encode())


def number_of_token(token: str) -> int | None:
    """The number after which the page begins; None for the first page. Raises InvalidArgument for a token not ours."""
    if not token:
        return None
    try:
        text = _decode(token).decode("ascii")
    except ValueError as error:
        raise _garbled() from error
    if not text.isdigit() or len(text) > MAX_DIGITS:
        raise _garbled()
    return int(text)


def token_of_text(text: str) -> str:
    """The token of the page after the item with this name."""
    return _encode(text.encode())


def text_of_token(token: str) -> str | None:
    """The name after which the page begins; None for the first page. Raises InvalidArgument for a token not ours."""
    if not token:
        return None
    try:
        return _decode(token).decode()
    except ValueError as error:
        raise _garbled() from error


def token_of_moment(moment: datetime, last_id: str) -> str:
    """The token of the page after the item that was made at this moment and has this UUID."""
    return _encode(UUID(last_id).bytes + moment.astimezone(UTC).isoformat().encode())


def moment_of_token(token: str) -> tuple[datetime, UUID] | None:
    """The moment and the UUID after which the page begins; None for the first page. Raises InvalidArgument for a token
    not ours."""
    if not token:
        return None
    try:
        key = _decode(token)
        moment, last_id = datetime.fromisoformat(key[16:].decode()), UUID(bytes=key[:16])
    except ValueError as error:
        raise _garbled() from error
    if moment.tzinfo is None:
        raise _garbled()
    return moment, last_id


def token_of_checkpoint(checkpoint_id: str, task_id: str, namespace: str) -> str:
    """The token of the page after this checkpoint."""
    return _encode(UUID(task_id).bytes + orjson.dumps([checkpoint_id, namespace]))


def checkpoint_of_token(token: str) -> tuple[str, UUID, str] | None:
    """The id, task and namespace after which the page begins; None for the first page. Raises InvalidArgument for a
    token not ours."""
    if not token:
        return None
    try:
        key = _decode(token)
        task_id, rest = UUID(bytes=key[:16]), orjson.loads(key[16:])
    except ValueError as error:
        raise _garbled() from error
    match rest:
        case [str() as checkpoint_id, str() as namespace]:
            return checkpoint_id, task_id, namespace
        case _:
            raise _garbled()


def _encode(key: bytes) -> str:
    return base64.urlsafe_b64encode(key).decode().rstrip("=")


def _decode(token: str) -> bytes:
    try:
        key = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from error
    # One key has one token: no other spelling passes.
    if _encode(key) != token:
        raise ValueError("another spelling of a token")
    return key


def _garbled() -> InvalidArgument:
    return InvalidArgument(
        "The cursor is not one that this list gave. Take next_cursor from the page before, or begin without one.",
        fields=[FieldViolation(field="cursor", message="not a cursor of this list")],
    )
