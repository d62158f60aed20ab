"""Schemas of tools' arguments: what a value must fulfil, and the part of it that holds a model's answer."""

from typing import Any

from agent_service.json_schema import MAX_MESSAGE, violations
from agent_service.references import target_of

MAX_DEPTH = 8
# What hosts of models turn into a grammar alike; the rest is left to validation.
HELD = ("type", "enum", "const", "format", "minimum", "maximum", "minItems", "maxItems", "description")
FORMATS = ("date", "time", "date-time", "uuid")
MAX_ITEMS = 20
# Schemas within one that is held.
MAX_PARTS = 1000


def violation(schema: dict[str, Any], value: Any) -> str | None:
    """What is wrong with `value`, for a model to read; None where it is valid.

    A schema that is none itself allows no value.
    """
    try:
        found = violations(schema, value)
    except ValueError as error:
        return f"the tool's schema cannot be used: it {error}"[:MAX_MESSAGE]
    return str(found[0])[:MAX_MESSAGE] if found else None


def properties_of(schema: dict[str, Any], root: dict[str, Any] | None = None) -> dict[str, dict[str, Any]]:
    """The named arguments, each with its own schema, references followed into `root`, which is `schema` itself if left
    out."""
    given = schema.get("properties")
    if not isinstance(given, dict):
        return {}
    whole = schema if root is None else root
    return {name: resolved(whole, value) for name, value in given.items() if isinstance(value, dict)}


def required_of(schema: dict[str, Any]) -> list[str]:
    """The names of the arguments that must be there."""
    given = schema.get("required")
    return [name for name in given if isinstance(name, str)] if isinstance(given, list) else []


def type_of(schema: dict[str, Any]) -> str:
    """The one type that matters of a schema: of several, the first that is not null; "any" where none is said."""
    match schema.get("type"):
        case str(name):
            return name
        case [*names]:
            return next((str(name) for name in names if name != "null"), "any")
    values = schema.get("enum")
    if isinstance(values, list) and values and all(isinstance(v, str) for v in values):
        return "string"
    if isinstance(schema.get("properties"), dict):
        return "object"
    for key in ("anyOf", "oneOf", "allOf"):
        for option in schema.get(key) or ():
            if isinstance(option, dict) and option.get("type") != "null":
                return type_of(option)
    return "any"


def resolved(root: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """`schema`, or what it refers to within `root`."""
    for _ in range(MAX_DEPTH):
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            break
        try:
            target = target_of(root, reference)
        except KeyError:
            return {}
        except ValueError:
            break
        if not isinstance(target, dict):
            return {}
        schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
    return schema


def held(root: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """The part of a schema that every host can hold an answer by: closed objects, bounded lists, no references.

    It is as deep as it can be with `MAX_PARTS`: schemas that refer to themselves have no end, and those that do so many
    times are large at any depth.
    """
    for depth in range(MAX_DEPTH, -1, -1):
        part = _Holding(root).part(schema, depth)
        if part is not None:
            return part
    return {}


class _Holding:
    """Makes what is held; None is what has more than MAX_PARTS."""

    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._room = MAX_PARTS

    def part(self, schema: dict[str, Any], depth: int) -> dict[str, Any] | None:
        self._room -= 1
        if self._room < 0:
            return None
        if depth < 0:
            return {}
        schema = resolved(self._root, schema)
        options = schema.get("anyOf") or schema.get("oneOf")
        if isinstance(options, list) and options and "type" not in schema:
            held_options = self._all(dict(enumerate(options)), depth)
            return None if held_options is None else {"anyOf": list(held_options.values())}
        part = {key: schema[key] for key in HELD if key in schema}
        if part.get("format") not in FORMATS:
            part.pop("format", None)
        kind = type_of(schema)
        if kind == "object" and isinstance(schema.get("properties"), dict) and schema["properties"]:
            properties = self._all(schema["properties"], depth)
            if properties is None:
                return None
            part["properties"] = properties
            part["required"] = [name for name in required_of(schema) if name in properties]
            part["additionalProperties"] = False
        if kind == "array":
            items = schema.get("items")
            part["items"] = self.part(items, depth - 1) if isinstance(items, dict) else {"type": "string"}
            if part["items"] is None:
                return None
            part["maxItems"] = min(MAX_ITEMS, part.get("maxItems", MAX_ITEMS))
        return part

    def _all[K](self, schemas: dict[K, Any], depth: int) -> dict[K, dict[str, Any]] | None:
        made: dict[K, dict[str, Any]] = {}
        for name, schema in schemas.items():
            if isinstance(schema, dict):
                part = self.part(schema, depth - 1)
                if part is None:
                    return None
                made[name] = part
        return made
