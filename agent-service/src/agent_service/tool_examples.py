"""A worked example of a tool's arguments, made from its schema alone."""

from collections.abc import Sequence
from typing import Any

from agent_service.tool_schemas import properties_of, resolved, type_of

WORDS = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta")
NUMBERS = (7, 12, 3, 25, 40, 18)
MAX_VALUES = 100


def example(schema: dict[str, Any], names: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """A request that names a value for each of the arguments `names`, and those arguments."""
    worked = _Example(schema)
    values = {
        name: worked.value(value, place)
        for place, (name, value) in enumerate(properties_of(schema).items())
        if name in names
    }
    said = ", ".join(f"{_words(name)} {_said(value)}" for name, value in values.items())
    return f"Use {said}.", values


class _Example:
    """Values for the parts of the schema `root`. A part within itself is left empty, and so is what is too much."""

    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._around = [root.get("properties")]
        self._room = MAX_VALUES

    def value(self, schema: dict[str, Any], place: int) -> Any:
        schema = resolved(self._root, schema)
        self._room -= 1
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
                inner = resolved(self._root, items) if isinstance(items, dict) else {}
                return [] if self._is_full(inner) else [self.value(inner, place), self.value(inner, place + 1)]
            case "object":
                return {} if self._is_full(schema) else self._object(schema, place)
            case _:
                return "2031-05-09" if schema.get("format") == "date" else WORDS[place % len(WORDS)]

    def _object(self, schema: dict[str, Any], place: int) -> dict[str, Any]:
        self._around.append(schema.get("properties"))
        made = {
            name: self.value(value, place + n)
            for n, (name, value) in enumerate(properties_of(schema, self._root).items())
        }
        self._around.pop()
        return made

    def _is_full(self, schema: dict[str, Any]) -> bool:
        named = schema.get("properties")
        return self._room <= 0 or (named is not None and any(named is one for one in self._around))


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
