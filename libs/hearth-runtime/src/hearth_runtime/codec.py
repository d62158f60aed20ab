"""Frozen dataclasses to protobuf messages and back, by their field names.

| dataclass field       | message field                                      |
| --------------------- | -------------------------------------------------- |
| `str`, `int`, …       | the same                                           |
| `T or None`           | `optional`, or a message: absent is `None`         |
| `StrEnum`             | enum: `"running"` is `STATUS_RUNNING`              |
| `datetime` (UTC)      | `google.protobuf.Timestamp`                        |
| `timedelta`           | `google.protobuf.Duration`                         |
| `dict[str, Any]`      | `string`: a JSON object as text                    |
| `dict[str, str]`      | `map<string, string>`                              |
| `tuple[T, ...]`       | `repeated`                                         |
| another dataclass     | message                                            |

A field of the dataclass that the message lacks is an error; one of the message that the dataclass lacks is left alone.
"""

import dataclasses
import re
import types
import typing
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cache
from typing import Any

import orjson
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

type Convert = Callable[[Any], Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_message[M: Message](value: Any, message_type: type[M]) -> M:
    """`value`, a dataclass, as a message of `message_type`."""
    # Any, since mypy takes a class of messages for unhashable.
    key: Any = (type(value), message_type)
    encoders = _encoders(*key)
    fields = {}
    for name, encode in encoders:
        field = getattr(value, name)
        if field is not None:
            fields[name] = encode(field)
    return message_type(**fields)


def from_message[T](message: Message, value_type: type[T]) -> T:
    """The dataclass `value_type` that `message` holds. Raises ValueError where it holds none such."""
    fields: dict[str, Any] = {}
    key: Any = (value_type, type(message))
    for name, optional, presence, decode in _decoders(*key):
        if presence and not message.HasField(name):
            if not optional:
                raise ValueError(f"{message.DESCRIPTOR.full_name}.{name} is missing")
            fields[name] = None
            continue
        field = decode(getattr(message, name))
        if field is None and not optional:
            raise ValueError(f"{message.DESCRIPTOR.full_name}.{name} is missing")
        fields[name] = field
    return value_type(**fields)


def timestamp(value: datetime) -> Timestamp:
    """An aware datetime as a Timestamp."""
    # A third of the time that protobuf's own conversion takes, of which there are many in every run.
    since = value - _EPOCH
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1000)


def duration(value: timedelta) -> Duration:
    """A timedelta as a Duration."""
    message = Duration()
    message.FromTimedelta(value)
    return message


@cache
def _encoders(value_type: type, message_type: type[Message]) -> list[tuple[str, Convert]]:
    hints = typing.get_type_hints(value_type)
    return [(f.name, _encoder(_plain(hints[f.name])[0], message_type, f.name)) for f in dataclasses.fields(value_type)]


@cache
def _decoders(value_type: type, message_type: type[Message]) -> list[tuple[str, bool, bool, Convert]]:
    hints = typing.get_type_hints(value_type)
    plan = []
    for f in dataclasses.fields(value_type):
        plain, optional = _plain(hints[f.name])
        field = message_type.DESCRIPTOR.fields_by_name[f.name]
        plan.append((f.name, optional, field.has_presence, _decoder(plain, message_type, f.name)))
    return plan


def _plain(hint: Any) -> tuple[Any, bool]:
    """The type without `| None`, and whether that was there."""
    if isinstance(hint, types.UnionType):
        args = [arg for arg in typing.get_args(hint) if arg is not types.NoneType]
        return args[0], len(args) < len(typing.get_args(hint))
    return hint, False


def _encoder(hint: Any, message_type: type[Message], name: str) -> Convert:
    origin = typing.get_origin(hint)
    if origin is tuple:
        item = _encoder(typing.get_args(hint)[0], message_type, name)
        return lambda values: [item(v) for v in values]
    if origin is dict:
        return (lambda v: v) if typing.get_args(hint)[1] is str else (lambda v: orjson.dumps(v).decode())
    if hint is datetime:
        return timestamp
    if hint is timedelta:
        return duration
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        numbers = _enum_numbers(message_type.DESCRIPTOR.fields_by_name[name].enum_type)
        return lambda v: numbers[v.value]
    if dataclasses.is_dataclass(hint):
        nested = _message_class(message_type, name)
        return lambda v: to_message(v, nested)
    return lambda v: v


def _decoder(hint: Any, message_type: type[Message], name: str) -> Convert:
    origin = typing.get_origin(hint)
    if origin is tuple:
        item = _decoder(typing.get_args(hint)[0], message_type, name)
        return lambda values: tuple(item(v) for v in values)
    if origin is dict:
        return dict if typing.get_args(hint)[1] is str else (lambda v: orjson.loads(v) if v else {})
    if hint is datetime:
        return lambda v: v.ToDatetime(tzinfo=UTC)
    if hint is timedelta:
        return lambda v: v.ToTimedelta()
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        numbers = _enum_numbers(message_type.DESCRIPTOR.fields_by_name[name].enum_type)
        members = {number: hint(text) for text, number in numbers.items() if number}
        return members.get
    if dataclasses.is_dataclass(hint):
        return lambda v: from_message(v, typing.cast(type, hint))
    return lambda v: v


def _enum_numbers(enum: Any) -> dict[str, int]:
    prefix = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", enum.name).upper() + "_"
    return {v.name.removeprefix(prefix).lower(): v.number for v in enum.values}


def _message_class(message_type: type[Message], name: str) -> type[Message]:
    descriptor: Any = message_type.DESCRIPTOR.fields_by_name[name].message_type
    return typing.cast(type[Message], descriptor._concrete_class)
