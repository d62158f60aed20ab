"""Which parts of a tool's configuration are secrets: those whose schema says `"writeOnly": true`, however deep."""

import re
from collections.abc import Iterator
from typing import Any

from agent_service.references import target_of

# What stands in the place of a secret that is kept.
MARKER = "********"

# Each step is a name or an index.
type Place = tuple[str | int, ...]

MAX_DEPTH = 32
_SAME_VALUE = ("allOf", "anyOf", "oneOf")
_SAME_VALUE_IF = ("if", "then", "else", "not")
_EACH_PROPERTY = ("additionalProperties", "unevaluatedProperties")
_EACH_ITEM = ("items", "unevaluatedItems", "contains")


def secret_places(schema: dict[str, Any], config: Any) -> tuple[Place, ...]:
    """Where `config` has values that `schema` marks as write-only. A mark under any branch counts, whether or not the
    branch applies: rather too much is kept secret than too little."""
    return tuple(dict.fromkeys(_places(schema, schema, config, (), MAX_DEPTH)))


def value_at(config: Any, place: Place) -> Any:
    """The value at `place`. Raises KeyError where there is none."""
    for step in place:
        match config:
            case dict() if step in config:
                config = config[step]
            case list() if isinstance(step, int) and step < len(config):
                config = config[step]
            case _:
                raise KeyError(place)
    return config


def replaced(config: Any, values: dict[Place, Any]) -> Any:
    """A copy of `config` with these values in their places; one whose place is not there is passed over."""
    return _replaced(config, values, ())


def _replaced(value: Any, values: dict[Place, Any], place: Place) -> Any:
    if place in values:
        return values[place]
    match value:
        case dict():
            return {key: _replaced(item, values, (*place, key)) for key, item in value.items()}
        case list():
            return [_replaced(item, values, (*place, number)) for number, item in enumerate(value)]
        case _:
            return value


def _places(root: dict[str, Any], schema: Any, value: Any, place: Place, depth: int) -> Iterator[Place]:
    if not isinstance(schema, dict) or depth == 0:
        return
    if schema.get("writeOnly") is True:
        if value is not None:
            yield place
        return
    reference = schema.get("$ref")
    if isinstance(reference, str):
        yield from _places(root, _target(root, reference), value, place, depth - 1)
    for keyword in _SAME_VALUE:
        for branch in _list(schema.get(keyword)):
            yield from _places(root, branch, value, place, depth - 1)
    for keyword in _SAME_VALUE_IF:
        yield from _places(root, schema.get(keyword), value, place, depth - 1)
    for child, step in _children(schema, value):
        yield from _places(root, child, value[step], (*place, step), depth - 1)


def _children(schema: dict[str, Any], value: Any) -> Iterator[tuple[Any, str | int]]:
    """Each schema of a part of the value, and which part that is."""
    match value:
        case dict():
            for name in value:
                named = _dict(schema.get("properties"))
                patterns = _dict(schema.get("patternProperties"))
                fitting = [child for pattern, child in patterns.items() if re.search(pattern, name)]
                if name in named:
                    fitting.append(named[name])
                for child in fitting or [schema.get(keyword) for keyword in _EACH_PROPERTY]:
                    yield child, name
        case list():
            first = _list(schema.get("prefixItems"))
            for number in range(len(value)):
                yield first[number] if number < len(first) else None, number
                for keyword in _EACH_ITEM:
                    yield schema.get(keyword), number


def _target(root: dict[str, Any], reference: str) -> Any:
    """What a reference into the schema itself leads to; None where it leads elsewhere."""
    try:
        return target_of(root, reference)
    except (KeyError, ValueError):
        return None


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
