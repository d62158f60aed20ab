"""Arguments of RPCs: what a field must be, and InvalidArgument that names the field where it is not."""

from typing import Any

import orjson
from hearth_runtime.errors import FieldViolation, InvalidArgument


def json_object(text: str, field: str) -> dict[str, Any]:
    """The JSON object that stands in the field."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise no_object(field)
    return value


def no_object(field: str) -> InvalidArgument:
    """The error about a field that holds no JSON object."""
    message = "must be a JSON object"
    return InvalidArgument(f"{field} {message}", fields=[FieldViolation(field=field, message=message)])
