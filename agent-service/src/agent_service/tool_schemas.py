"""Schemas of tools' arguments: what a value must fulfil, and the part of it that holds a model's answer."""

from typing import Any

from agent_service.json_schema import MAX_MESSAGE, violations

MAX_DEPTH = 8
# What hosts of models turn into a grammar alike; the rest is left to validation.
HELD = ("type", "enum", "const", "format", "minimum", "maximum", "minItems", "maxItems", "description")
FORMATS = ("date", "time", "date-time", "uuid")
MAX_ITEMS = 20


def violation(schema: dict[str, Any], value: Any) -> str | None:
    """What is wrong with `value`, for a model to read; None where it is valid.

    A schema that is none itself allows no value.
    """
    try:
        found = violations(schema, value)
    except ValueError as error:
        return f"the tool's schema cannot be used: it {error}"[:MAX_MESSAGE]
    return str(found[0])[:MAX_MESSAGE] if found else None


def properties_of(schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The named arguments, each with its own schema, references into `schema` followed."""
    given = schema.get("properties")
    if not isinstance(given, dict):
        return {}
    return {name: resolved(schema, value) for name, value in given.items() if isinstance(value, dict)}


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
        if not isinstance(reference, str) or not reference.startswith("#"):
            break
        target: Any = root
        for part in reference.removeprefix("#").split("/")[1:]:
            target = target.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(target, dict) else None
        if not isinstance(target, dict):
            return {}
        schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
    return schema


def held(root: dict[str, Any], schema: dict[str, Any], *, depth: int = 0) -> dict[str, Any]:
    """The part of a schema that every host can hold an answer by: closed objects, bounded lists, no references."""
    if depth > MAX_DEPTH:
        return {}
    schema = resolved(root, schema)
    options = schema.get("anyOf") or schema.get("oneOf")
    if isinstance(options, list) and options and "type" not in schema:
        return {"anyOf": [held(root, option, depth=depth + 1) for option in options if isinstance(option, dict)]}
    part = {key: schema[key] for key in HELD if key in schema}
    if part.get("format") not in FORMATS:
        part.pop("format", None)
    kind = type_of(schema)
    if kind == "object" and isinstance(schema.get("properties"), dict) and schema["properties"]:
        part["properties"] = {
            name: held(root, value, depth=depth + 1)
            for name, value in schema["properties"].items()
            if isinstance(value, dict)
        }
        part["required"] = [name for name in required_of(schema) if name in part["properties"]]
        part["additionalProperties"] = False
    if kind == "array":
        items = schema.get("items")
        part["items"] = held(root, items, depth=depth + 1) if isinstance(items, dict) else {"type": "string"}
        part["maxItems"] = min(MAX_ITEMS, part.get("maxItems", MAX_ITEMS))
    return part
