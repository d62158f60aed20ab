"""Operations of OpenAPI documents, good and bad, as tools."""

import json
from typing import Any

import pytest
from agent_service.builtin.openapi import OpenApiKind, OpenApiTool
from agent_service.json_schema import violations
from agent_service.openapi_operations import BadDocument, base_url_of, operations_of, parsed
from agent_service.settings import ToolSettings
from agent_service.tool import ToolHost, ToolScope
from agent_service.web import Web
from agent_service.web_rules import WebRefused, WebRules
from hearth_runtime.errors import InvalidArgument

SHOP = """
openapi: 3.1.0
servers: [{url: https://shop.test/v1}]
paths:
  /orders/{id}:
    parameters:
      - {name: id, in: path, required: true, schema: {type: string}}
    get:
      operationId: getOrder
      summary: Reads an order
      parameters:
        - {name: fields, in: query, description: Only these, schema: {type: array, items: {type: string}}}
        - {name: X-Trace, in: header, schema: {type: string}}
    patch:
      operationId: updateOrder
      requestBody:
        required: true
        content: {application/json: {schema: {$ref: '#/components/schemas/Change'}}}
  /orders:
    post:
      x-hearth-repeatable: true
      description: Makes an order
      requestBody:
        content: {application/json: {schema: {type: array, items: {$ref: '#/components/schemas/Item'}}}}
components:
  schemas:
    Change:
      type: object
      required: [status]
      properties: {status: {enum: [open, closed]}, item: {$ref: '#/components/schemas/Item'}}
    Item: {type: object, properties: {name: {type: string}, part: {$ref: '#/components/schemas/Item'}}}
"""


def tool(name: str) -> OpenApiTool:
    document = parsed(SHOP)
    operation = next(o for o in operations_of(document) if o.name == name)
    web = Web(WebRules(allow=("https://shop.test/v1",)), timeout_seconds=1, max_bytes=10)
    return OpenApiTool(web, "https://shop.test/v1", operation, {"Authorization": "Bearer s"})


def test_each_operation_is_a_tool() -> None:
    found = {o.name: o for o in operations_of(parsed(SHOP))}
    assert set(found) == {"getOrder", "updateOrder", "post_orders"}
    assert found["getOrder"].description == "Reads an order"
    assert found["getOrder"].parameters["required"] == ["id"]
    assert found["getOrder"].parameters["properties"]["fields"]["description"] == "Only these"
    assert set(found["updateOrder"].parameters["properties"]) == {"id", "status", "item"}
    assert found["updateOrder"].parameters["required"] == ["id", "status"]
    assert [found[n].is_repeatable for n in ("getOrder", "updateOrder", "post_orders")] == [True, False, True]
    assert base_url_of(parsed(SHOP)) == "https://shop.test/v1"


def test_arguments_go_where_they_belong() -> None:
    request = tool("getOrder").request({"id": "a/b?c", "fields": ["x", "y z"], "X-Trace": "t"})
    assert (request.method, request.url) == ("GET", "https://shop.test/v1/orders/a%2Fb%3Fc?fields=x&fields=y+z")
    assert request.headers == {"Authorization": "Bearer s", "X-Trace": "t"}
    assert request.body is None
    change = tool("updateOrder").request({"id": "7", "status": "open"})
    assert (change.method, change.body) == ("PATCH", b'{"status":"open"}')
    assert tool("post_orders").request({"body": [{"name": "x"}]}).body == b'[{"name":"x"}]'


@pytest.mark.parametrize("arguments", [{"id": ".."}, {"id": "."}, {"id": ""}, {"id": "1", "X-Trace": "a\r\nb: c"}])
def test_no_argument_changes_more_than_its_place(arguments: dict[str, Any]) -> None:
    with pytest.raises(WebRefused):
        tool("getOrder").request(arguments)


def test_a_model_cannot_put_a_header_in_the_owners_place() -> None:
    document = parsed(SHOP)
    document["paths"]["/orders"]["get"] = {
        "operationId": "list",
        "parameters": [{"name": name, "in": "header", "schema": {}} for name in ("X-Key", "authorization", "Host")],
    }
    operation = next(o for o in operations_of(document) if o.name == "list")
    web = Web(WebRules(allow=("shop.test",)), timeout_seconds=1, max_bytes=10)
    made = OpenApiTool(web, "https://shop.test", operation, {"x-key": "s"})
    assert set(made.spec.parameters["properties"]) == {"X-Key"}
    assert made.request({"X-Key": "other"}).headers == {"x-key": "s"}


def test_only_the_operations_that_are_wanted() -> None:
    assert [o.name for o in operations_of(parsed(SHOP), ["getOrder"])] == ["getOrder"]
    with pytest.raises(BadDocument, match="no operations named dropTable"):
        operations_of(parsed(SHOP), ["getOrder", "dropTable"])


def test_operations_are_wanted_by_their_ids_or_by_the_names_of_their_tools() -> None:
    ids = ["repos/get", "repos_get", "repos/list"]
    paths = {f"/{n}": {"get": {"operationId": operation_id}} for n, operation_id in enumerate(ids)}
    document = {"openapi": "3.0.0", "paths": paths}

    def found(*wanted: str) -> list[tuple[str, str]]:
        return [(o.path, o.name) for o in operations_of(document, list(wanted))]

    assert found("repos/get") == [("/0", "repos_get")]
    assert found("repos_get") == [("/1", "repos_get")]
    assert found("repos_list") == [("/2", "repos_list")]
    assert found("repos/get", "repos_get") == [("/0", "repos_get"), ("/1", "repos_get_2")]
    with pytest.raises(BadDocument, match="no operations named repos/drop"):
        found("repos/get", "repos/drop")


def test_what_is_not_wanted_is_not_read() -> None:
    document = parsed(SHOP)
    body = {"content": {"application/json": {"schema": {"$ref": "https://elsewhere.test/schema"}}}}
    document["paths"]["/orders"]["put"] = {"operationId": "putOrders", "requestBody": body}
    assert [o.name for o in operations_of(document, ["getOrder"])] == ["getOrder"]
    with pytest.raises(BadDocument, match="only references within"):
        operations_of(document)


def _paths(schema: Any) -> str:
    body = {"content": {"application/json": {"schema": schema}}}
    return json.dumps({"openapi": "3.0.0", "paths": {"/x": {"post": {"requestBody": body}}}})


@pytest.mark.parametrize("levels", range(1, 30))
def test_a_schema_stays_one_wherever_it_is_cut_off(levels: int) -> None:
    # Each level has keywords whose values are no schemas.
    schema: dict[str, Any] = {"enum": ["a", "b"], "type": "string"}
    for _ in range(levels):
        schema = {"type": "object", "required": ["x"], "properties": {"x": schema}, "default": {"x": {"$ref": "no"}}}
    (operation,) = operations_of(parsed(_paths(schema)))
    assert violations(operation.parameters, {"x": {}} if levels > 1 else {"x": "a"}) is not None


def test_a_list_of_itself_is_a_schema() -> None:
    node = {
        "type": "object",
        "properties": {"children": {"type": "array", "items": {"$ref": "#/components/schemas/N"}}},
    }
    document = {**parsed(_paths({"$ref": "#/components/schemas/N"})), "components": {"schemas": {"N": node}}}
    (operation,) = operations_of(document)
    assert violations(operation.parameters, {"children": [{"children": [{}]}]}) == []
    assert violations(operation.parameters, {"children": [{"children": 5}]}) != []


def test_what_version_3_0_says_in_its_own_way_is_understood() -> None:
    price = {"type": "number", "minimum": 0, "exclusiveMinimum": True, "nullable": True}
    (operation,) = operations_of(parsed(_paths({"properties": {"price": price}})))
    assert [bool(violations(operation.parameters, {"price": p})) for p in (0, 1, None)] == [True, False, False]


def test_a_path_is_filled_in_whole_and_names_differ() -> None:
    text = "{openapi: 3.0.0, paths: {'/a/{id}': {get: {operationId: x.y}}, '/b': {get: {operationId: x/y}}}}"
    first, second = operations_of(parsed(text))
    assert first.parameters["required"] == ["id"]
    assert (first.name, second.name) == ("x_y", "x_y_2")


def test_a_date_of_yaml_is_a_text() -> None:
    parameters = "[{name: d, in: query, schema: {default: 2026-01-02}}]"
    (operation,) = operations_of(parsed(f"{{openapi: 3.0.0, paths: {{/a: {{get: {{parameters: {parameters}}}}}}}}}"))
    assert operation.parameters["properties"]["d"]["default"] == "2026-01-02"


@pytest.mark.parametrize(
    ("servers", "found_at", "base_url"),
    [
        ([], "https://a.test/docs/openapi.json", "https://a.test/"),
        ([{"url": "v1"}], "https://a.test/docs/openapi.json", "https://a.test/docs/v1"),
        ([{"url": "https://b.test/v1"}], "https://a.test/openapi.json", "https://b.test/v1"),
        ([{"url": "/v1"}], None, None),
        ([{"url": "https://{region}.test"}], None, None),
    ],
)
def test_where_an_api_is(servers: list[Any], found_at: str | None, base_url: str | None) -> None:
    assert base_url_of({"servers": servers}, found_at=found_at) == base_url


def test_a_schema_that_holds_itself_ends() -> None:
    operation = next(o for o in operations_of(parsed(SHOP)) if o.name == "updateOrder")
    assert len(json.dumps(operation.parameters)) < 2000


def _merged(*, levels: int) -> str:
    """Ten million members, unless somebody counts."""
    mappings = ["a0: &a0 {k: v}"]
    mappings += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, levels + 1)]
    return "\n".join(mappings)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no OpenAPI document"),
        ("[1]", "no OpenAPI document"),
        ('{"swagger": "2.0"}', "no OpenAPI document"),
        ("a: [b", "neither JSON nor YAML"),
        ("openapi: 3.0.0", "no operations"),
        ('{"openapi": "3.0.0", "paths": {"/x": null}}', "no operations"),
        (_paths({"$ref": "https://evil.test/schema"}), "only references within"),
        (_paths({"$ref": "#/nowhere"}), "does not have"),
        (_paths({"$ref": "#/paths/~1x/post/requestBody/content/application~1json/schema"}), "without end"),
        ("[" * 100_000, "more than 200 levels"),
        ('{"a":' * 100_000, "more than 200 levels"),
        ("openapi: " + "- " * 100_000, "neither|levels"),
        ("a: &a [*a]", "no OpenAPI document"),
        (_merged(levels=7), "takes over more than 1000 members"),
        ("a: &a 1\nb: [" + "*a, " * 1001 + "]", "more than 1000 aliases"),
        ("x" * 2_000_001, "more than 2000000 characters"),
    ],
)
def test_bad_documents_say_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(BadDocument, match=says):
        operations_of(parsed(text))


def test_a_large_document_is_read_also_from_yaml() -> None:
    paths = "\n".join(f"  /p{n}: {{get: {{operationId: o{n}, summary: x}}}}" for n in range(1500))
    assert [o.path for o in operations_of(parsed(f"openapi: 3.0.0\npaths:\n{paths}"), ["o1499"])] == ["/p1499"]


def test_a_document_that_explodes_is_refused() -> None:
    schemas: dict[str, Any] = {"s0": {"type": "string"}}
    for n in range(1, 12):
        schemas[f"s{n}"] = {"anyOf": [{"$ref": f"#/components/schemas/s{n - 1}"}] * 9}
    body = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/s11"}}}}
    document = {
        "openapi": "3.0.0",
        "paths": {"/x": {"post": {"requestBody": body}}},
        "components": {"schemas": schemas},
    }
    with pytest.raises(BadDocument, match="too large"):
        operations_of(document)


async def test_a_document_without_a_server_needs_a_base_url() -> None:
    anybody: Any = None
    scope = ToolScope(agent=anybody, session_id=None, task_id=None, requests=None)
    host = ToolHost(settings=ToolSettings(), storage=anybody, inference=anybody)
    document = SHOP.replace("servers: [{url: https://shop.test/v1}]", "")
    with pytest.raises(InvalidArgument, match="base_url"):
        async with OpenApiKind().open({"document": document}, scope, host):
            pass
    async with OpenApiKind().open({"document": document, "base_url": "https://x.test"}, scope, host) as tools:
        assert len(tools) == 3


@pytest.mark.parametrize("url", ["http://[::1/openapi.json", "https://x.test:99999/", "https:///openapi.json"])
async def test_a_place_that_is_no_url_is_refused(url: str) -> None:
    anybody: Any = None
    scope = ToolScope(agent=anybody, session_id=None, task_id=None, requests=None)
    host = ToolHost(settings=ToolSettings(), storage=anybody, inference=anybody)
    for config in ({"url": url}, {"document": SHOP, "base_url": url}):
        with pytest.raises(InvalidArgument, match="is no "):
            async with OpenApiKind().open(config, scope, host):
                pass
