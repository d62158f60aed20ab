"""Types of fields that more than one schema has, and the base of every body."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from hearth_runtime.events import StreamId
from hearth_runtime.identifiers import is_id
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from gateway.validation import UNKNOWN_FIELDS, unknown_name

# A list of ids or words in a query or a filter.
MAX_VALUES = 100
MAX_CONTEXT_FIELDS = 20


class Body(BaseModel):
    """What a client sends: types are not guessed, and an unknown field is refused with the nearest known name."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_fields(cls, data: Any) -> Any:
        if isinstance(data, dict):
            known = [field.alias or name for name, field in cls.model_fields.items()]
            unknown = [str(name) for name in data if name not in known]
            if unknown:
                fields = {name: unknown_name(name, known, what="field") for name in unknown[:20]}
                raise PydanticCustomError(UNKNOWN_FIELDS, "unknown fields", {"fields": fields})
        return data


class Answer(BaseModel):
    """What Hearth answers."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


@dataclass(frozen=True)
class _Storable:
    """What a text must be besides its bounds."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(_storable, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "pattern": r"^[^\u0000]*$"}


def _storable(value: str) -> str:
    # PostgreSQL stores no NUL, and UTF-8 has no surrogates.
    if "\x00" in value:
        raise ValueError("holds a NUL character, which cannot be stored: leave it out")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("holds half of a surrogate pair, which is no character: leave it out") from None
    return value


def _id(value: str) -> str:
    if not is_id(value):
        raise ValueError("is not a UUID, such as 0199f0a4-5b1e-7c3a-9d2e-6f1a2b3c4d5e")
    return value.lower()


def _stream_id(value: str) -> str:
    return str(StreamId.parse(value))


def _whole(value: Any) -> Any:
    # To JSON 3.0 is an integer; to Python it is not.
    return int(value) if isinstance(value, float) and value.is_integer() else value


_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[ +-]\d\d:\d\d)", re.ASCII)


def _rfc3339(value: Any) -> Any:
    if isinstance(value, str):
        if not _TIME.fullmatch(value):
            raise ValueError("is not a time with a zone as in RFC 3339, such as 2026-01-31T08:00:00Z")
        if value[-6] == " ":  # an unescaped "+" in a query
            return f"{value[:-6]}+{value[-5:]}"
    return value


def _utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("is before the year 1 or after the year 9999") from None


def _split(values: Any) -> Any:
    return [part for value in values for part in value.split(",")] if isinstance(values, list) else values


def limited(maximum: int) -> Callable[[list[str]], list[str]]:
    """A check that a list has at most `maximum` values: after it was split at commas, unlike Pydantic's own."""

    def check(values: list[str]) -> list[str]:
        if len(values) > maximum:
            raise ValueError(f"has {len(values)} values; at most {maximum} are taken")
        return values

    return check


# After the bounds of a text, as in Annotated[str, Field(max_length=200), STORABLE].
STORABLE = _Storable()
WHOLE = BeforeValidator(_whole)
Id = Annotated[str, AfterValidator(_id), Field(json_schema_extra={"format": "uuid"})]
EventId = Annotated[str, AfterValidator(_stream_id), Field(json_schema_extra={"pattern": r"^\d{1,16}-\d{1,18}$"})]
Time = Annotated[AwareDatetime, BeforeValidator(_rfc3339), AfterValidator(_utc)]
# Values of a query parameter that may be repeated, or separated by commas, or both.
CommaSeparated = BeforeValidator(_split)
AtMostManyValues = AfterValidator(limited(MAX_VALUES))
Contains = Annotated[str, Field(min_length=1, max_length=1000), STORABLE]
SubscriptionName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
ModelName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=200,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$",
        description="The model, as its host names it",
        examples=["smollm2:135m", "llama3.2:3b"],
    ),
]

MemoryScope = Literal["agent", "session", "user"]
UserName = Annotated[str, Field(min_length=1, max_length=255), STORABLE]
TaskStatus = Literal["pending", "running", "waiting", "completed", "failed", "cancelled"]
Outcome = Literal["completed", "failed", "cancelled", "retried", "handed_over", "worker_lost", "waiting"]
Level = Literal["debug", "info", "warning", "error"]
Kind = Literal["status", "log", "step", "delta", "message", "tool_call", "tool_result", "usage", "sub_task"]

CONTEXT_NAME = re.compile(r"[^\x00]{1,100}", re.DOTALL)
CONTEXT_VALUE = re.compile(r"[^\x00]{0,1000}", re.DOTALL)
