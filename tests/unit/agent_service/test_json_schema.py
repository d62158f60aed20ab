"""Values by JSON Schemas, of which some are made to do harm."""

import time
from typing import Any

import pytest
from agent_service.json_schema import violations

TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            },
            "required": ["name"],
        }
    },
}


def bomb(depth: int) -> dict[str, Any]:
    """A schema whose check takes two to the power of `depth` steps."""
    defs: dict[str, Any] = {
        f"n{n}": {"allOf": [{"$ref": f"#/$defs/n{n + 1}"}, {"$ref": f"#/$defs/n{n + 1}"}]} for n in range(depth)
    }
    return {"$ref": "#/$defs/n0", "$defs": {**defs, f"n{depth}": {"type": ["object", "array"]}}}


def bomb_of_the_value() -> dict[str, Any]:
    """A schema whose check takes two to the power of the value's depth."""
    again = {"$ref": "#/$defs/n"}
    return {"$ref": "#/$defs/n", "$defs": {"n": {"properties": {"a": {"allOf": [again, again]}}}}}


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


def test_what_is_wrong_is_told_with_its_place() -> None:
    value = {"name": "a", "children": [{"name": "b"}, {"name": 5}, {}]}
    found = violations(TREE, value)
    assert [str(v) for v in found] == [
        'children.1.name: 5 is not of type "string"',
        'children.2: "name" is a required property',
    ]
    assert [v.field for v in found] == ["children.1.name", "children.2"]
    assert violations(TREE, {"name": "a"}) == []
    (masked,) = violations(TREE, {"name": 5}, mask="the value")
    assert masked.message == 'the value is not of type "string"'


def test_a_tree_that_refers_to_itself_is_checked_however_large() -> None:
    value = {"name": "a", "children": [{"name": "b", "children": [{"name": "c"}] * 20} for _ in range(50)]}
    assert violations(TREE, value) == []


@pytest.mark.parametrize(
    ("schema", "value", "words"),
    [
        (bomb(60), {}, "steps"),
        (bomb_of_the_value(), nested(60), "steps"),
        ({"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}, {}, "itself"),
        ({"$ref": "#"}, {}, "itself"),
        ({"items": {"$id": "https://x.test/", "$ref": "#/$defs/a"}}, [1], "inner $id"),
        ({"$dynamicRef": "#a"}, {}, "$dynamicRef"),
        ({"$ref": "#a"}, {}, "refers to #a"),
        ({"$ref": "https://x.test/schema"}, {}, "refers to https://x.test/schema"),
        ({"$ref": "#/$defs/none"}, {}, "not there"),
        ({"properties": {"a": {"$ref": "#"}}}, nested(500), "too deep"),
        ({"type": 7}, {}, "no JSON Schema"),
        ({"pattern": "("}, "x", "no JSON Schema"),
    ],
)
def test_a_schema_that_cannot_be_used_says_why_and_at_once(schema: dict[str, Any], value: Any, words: str) -> None:
    started = time.monotonic()
    with pytest.raises(ValueError, match=words.replace("$", r"\$")):
        violations(schema, value)
    assert time.monotonic() - started < 5


def test_what_is_far_from_the_bound_is_checked() -> None:
    assert violations(bomb(10), {}) == []
    assert violations({"properties": {"$id": {"type": "string"}, "$ref": {"type": "string"}}}, {"$id": "x"}) == []
