"""A worked example of a tool's arguments, made from its schema alone."""

from collections.abc import Sequence
from typing import Any

from agent_service.tool_schemas import properties_of, resolved, type_of

WORDS = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta")
NUMBERS = (7, 12, 3, 25, 40, 18)


def example(schema: dict[str, Any], names: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """A request that names a value for each of the arguments `names`, and those arguments."""
    values = {
        name: _value(schema, value, place)
        for place, (name, value) in enumerate(properties_of(schema).items())
        if name in names
    }
    said = ", ".join(f"{_words(name)} {_said(value)}" for name, value in values.items())
    return f"Use {said}.", values


def _value(root: dict[str, Any], schema: dict[str, Any], place: int) -> Any:
    schema = resolved(root, schema)
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return schema["enum"][-1]
    if "const" in schema:
        return schema["const"]
    match type_of(schema):
        case "integer":
            return NUMBERS[place % len(NUMBERS)]
        case "number":
            return NUMBERS[place % len(NUMBERS)] + 0.5
        case "boolean":
            return True
        case "array":
            items = schema.get("items")
            inner = items if isinstance(items, dict) else {}
            return [_value(root, inner, place), _value(root, inner, place + 1)]
        case "object":
            return {
                name: _value(root, value, place + n) for n, (name, value) in enumerate(properties_of(schema).items())
            }
        case _:
            return "2031-05-09" if schema.get("format") == "date" else WORDS[place % len(WORDS)]


def _words(name: str) -> str:
    return name.replace("_", " ")


def _said(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case list():
            return " and ".join(_said(item) for item in value)
        case dict():
            return ", ".join(f"{key} {_said(item)}" for key, item in value.items())
        case _:
            return str(value)
