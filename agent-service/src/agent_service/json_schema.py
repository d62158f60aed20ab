"""Values by JSON Schemas (2020-12 unless a schema says otherwise): what is wrong with them, and where."""

from dataclasses import dataclass
from typing import Any, NoReturn

import jsonschema_rs

from agent_service.schema_cost import check_cost

MAX_VIOLATIONS = 5
MAX_MESSAGE = 300


@dataclass(frozen=True, kw_only=True)
class Violation:
    """One thing that is wrong: where in the value, and what. `str()` of it is a line for people and models."""

    place: tuple[str | int, ...]
    message: str

    @property
    def field(self) -> str:
        """The place as errors name fields: `headers.accept`; empty for the value itself."""
        return ".".join(str(step) for step in self.place)

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.place else self.message


def violations(schema: dict[str, Any], value: Any, *, mask: str | None = None) -> list[Violation]:
    """The first few; empty where `value` is what `schema` allows. `mask` stands in messages where the value would.

    References into the schema itself are followed, others are not. Raises ValueError where `schema` is none, or asks
    for too much work.
    """
    check_cost(schema, value)
    try:
        validator = jsonschema_rs.validator_for(schema, retriever=_no_other_document, validate_formats=True, mask=mask)
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        message = error.message if isinstance(error, jsonschema_rs.ValidationError) else str(error)
        raise ValueError(f"is no JSON Schema: {message[:MAX_MESSAGE]}") from error
    found = []
    for wrong in validator.iter_errors(value):
        found.append(Violation(place=tuple(wrong.instance_path), message=wrong.message[:MAX_MESSAGE]))
        if len(found) == MAX_VIOLATIONS:
            break
    return found


def _no_other_document(address: str) -> NoReturn:
    raise ValueError(f"refers to {address[:200]}, and may not refer to other documents")
