"""Where references within a document lead, for everything that follows them."""

from typing import Any

import pytest
from agent_service.references import target_of
from agent_service.schema_cost import check_cost
from agent_service.secret_fields import secret_places
from agent_service.tool_schemas import resolved

ROOT: dict[str, Any] = {
    "$defs": {"a/b": {"type": "string"}, "c~d": {"type": "integer"}, "{e f}": {"type": "boolean"}},
    "anyOf": [{"type": "null"}, {"type": "string"}],
}


@pytest.mark.parametrize(
    ("reference", "target"),
    [
        ("#", ROOT),
        ("#/$defs/a~1b", {"type": "string"}),
        ("#/$defs/c~0d", {"type": "integer"}),
        ("#/$defs/%7Be%20f%7D", {"type": "boolean"}),
        ("#/anyOf/1/type", "string"),
    ],
)
def test_a_reference_leads_to_a_part(reference: str, target: Any) -> None:
    assert target_of(ROOT, reference) == target


@pytest.mark.parametrize("reference", ["#/nowhere", "#/anyOf/2", "#/anyOf/-1", "#/anyOf/²", "#/anyOf/1/type/x"])
def test_a_reference_may_lead_to_nothing(reference: str) -> None:
    with pytest.raises(KeyError):
        target_of(ROOT, reference)
    assert resolved(ROOT, {"$ref": reference}) == {}
    with pytest.raises(ValueError, match="not there"):
        check_cost({**ROOT, "$ref": reference}, {})


@pytest.mark.parametrize("reference", ["", "#anchor", "https://elsewhere.test/#/$defs/x", "other.json"])
def test_a_reference_that_leads_elsewhere_is_not_followed(reference: str) -> None:
    with pytest.raises(ValueError, match=r"^" + reference.replace("$", r"\$")):
        target_of(ROOT, reference)
    assert resolved(ROOT, {"$ref": reference}) == {"$ref": reference}
    with pytest.raises(ValueError, match="only references"):
        check_cost({**ROOT, "$ref": reference}, {})


def test_a_secret_is_one_wherever_its_schema_stands() -> None:
    schema = {"$defs": {"some": [{"writeOnly": True}]}, "properties": {"key": {"$ref": "#/$defs/some/0"}}}
    assert secret_places(schema, {"key": "s3cret"}) == (("key",),)
