"""What an agent's `output_schema` must be: a JSON Schema, small enough to send with every request."""

import json
from typing import Any

import jsonschema_rs

MAX_BYTES = 64 * 1024


def check_output_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """`schema` itself; raises ValueError where it is too large, cannot be stored or is no JSON Schema."""
    try:
        text = json.dumps(schema, ensure_ascii=False, allow_nan=False)
        size = len(text.encode())
    except RecursionError:
        raise ValueError("is nested too deep") from None
    except ValueError:
        raise ValueError("holds NaN, an infinity or half of a surrogate pair, which JSON in UTF-8 lacks") from None
    if size > MAX_BYTES:
        raise ValueError(f"has {size} bytes; at most {MAX_BYTES} are taken")
    if "\\u0000" in text.replace("\\\\", ""):
        raise ValueError("holds a NUL character, which cannot be stored: leave it out")
    try:
        # Looks at patterns and references as well, and is what the answers will be checked by.
        jsonschema_rs.validator_for(schema, retriever=_no_other_document)
    except jsonschema_rs.ValidationError as error:
        place = ".".join(map(str, error.instance_path))
        raise ValueError(f"is no JSON Schema{f' at {place}' if place else ''}: {error.message[:300]}") from None
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        raise ValueError(f"is no JSON Schema: {str(error)[:300]}") from None
    return schema


def _no_other_document(address: str) -> Any:
    raise ValueError(f"only references into the schema itself are followed, not {address[:200]}")
