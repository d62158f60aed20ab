"""What Pydantic finds wrong with a request, in the words of the public contract."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

from hearth_runtime.errors import FieldViolation

UNKNOWN_FIELDS = "unknown_fields"
# Enough to mend a request by; a body of a megabyte may hold a great many errors.
MAX_VIOLATIONS = 50


def violations(errors: Sequence[Any]) -> list[FieldViolation]:
    """Pydantic's `errors()` as the fields that they name: "config.top_p", "input.messages[3].role", "limit"."""
    found: list[FieldViolation] = []
    for error in errors[:MAX_VIOLATIONS]:
        path = field_path(error["loc"])
        if error["type"] == UNKNOWN_FIELDS:
            inside = "" if path == "body" else f"{path}."
            found += [
                FieldViolation(field=inside + name, message=text) for name, text in error["ctx"]["fields"].items()
            ]
        else:
            found.append(FieldViolation(field=path, message=error["msg"].removeprefix("Value error, ")))
    return found[:MAX_VIOLATIONS]


def field_path(location: Iterable[str | int]) -> str:
    """The path of a field as a client writes it; "body" for the whole body."""
    path = ""
    for part in list(location)[1:]:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += f".{part}" if path else part
    return path or "body"


def unknown_name(name: str, known: Iterable[str], *, what: str) -> str:
    """What to say of `name`, which is none of `known`: the nearest of them, or all. `what` is "field"."""
    names = sorted(known)
    nearest = get_close_matches(name[:100], names, n=1, cutoff=0.5)
    if nearest:
        return f"unknown {what}; did you mean `{nearest[0]}`?"
    return f"unknown {what}; there are: {', '.join(names)}" if names else f"unknown {what}; there are none here"
