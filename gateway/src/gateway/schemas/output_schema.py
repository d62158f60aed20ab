"""What an agent's `output_schema` must be: a JSON Schema, small enough to send with every request."""

from typing import Any

import jsonschema_rs

from gateway.schemas.json_value import storable_json

MAX_BYTES = 64 * 1024

_storable = storable_json(MAX_BYTES)


def check_output_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """`schema` itself; raises ValueError where it is too large, cannot be stored or is no JSON Schema."""
    _storable(schema)
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
