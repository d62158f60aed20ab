"""The OpenAPI document: valid, whole, and true."""

from typing import Any

import jsonschema_rs
import pytest
from hearth.agent.v1 import agent_pb2
from hearth_runtime.identifiers import new_id
from servers.gateway import World

EXPECTED = {
    ("post", "/api/v1/agents/create"): {"201", "400", "413", "415", "422", "500", "503", "504"},
    ("post", "/api/v1/agents/run"): {
        "202",
        "400",
        "404",
        "409",
        "413",
        "415",
        "422",
        "429",
        "500",
        "501",
        "503",
        "504",
    },
    ("get", "/api/v1/agents"): {"200", "422", "500", "503", "504"},
    ("get", "/api/v1/agents/{agent_id}"): {"200", "404", "422", "500", "503", "504"},
    ("put", "/api/v1/agents/{agent_id}"): {"200", "400", "404", "409", "413", "415", "422", "500", "503", "504"},
    ("delete", "/api/v1/agents/{agent_id}"): {"204", "404", "409", "422", "500", "503", "504"},
    ("get", "/api/v1/tools"): {"200", "422", "500", "503", "504"},
    ("post", "/api/v1/tools/{name}/try"): {
        "200",
        "400",
        "404",
        "409",
        "413",
        "415",
        "422",
        "429",
        "500",
        "503",
        "504",
    },
    ("get", "/api/v1/agents/{agent_id}/tools"): {"200", "404", "422", "500", "503", "504"},
    ("post", "/api/v1/agents/{agent_id}/tools"): {"201", "400", "404", "409", "413", "415", "422", "500", "503", "504"},
    ("get", "/api/v1/agents/{agent_id}/tools/{tool_id}"): {"200", "404", "422", "500", "503", "504"},
    ("put", "/api/v1/agents/{agent_id}/tools/{tool_id}"): {
        "200",
        "400",
        "404",
        "409",
        "413",
        "415",
        "422",
        "500",
        "503",
        "504",
    },
    ("delete", "/api/v1/agents/{agent_id}/tools/{tool_id}"): {"204", "404", "422", "500", "503", "504"},
    ("get", "/api/v1/agents/{agent_id}/tools/{tool_id}/check"): {
        "200",
        "404",
        "409",
        "422",
        "429",
        "500",
        "503",
        "504",
    },
    ("get", "/api/v1/tasks"): {"200", "422", "500", "503", "504"},
    ("get", "/api/v1/tasks/{task_id}/status"): {"200", "404", "422", "500", "503", "504"},
    ("get", "/api/v1/tasks/{task_id}/logs"): {"200", "404", "422", "500", "503", "504"},
    ("get", "/api/v1/tasks/{task_id}/attempts"): {"200", "404", "422", "500", "503", "504"},
    ("post", "/api/v1/tasks/{task_id}/retry"): {
        "202",
        "400",
        "404",
        "409",
        "413",
        "415",
        "422",
        "429",
        "500",
        "503",
        "504",
    },
    ("post", "/api/v1/tasks/{task_id}/resume"): {
        "202",
        "400",
        "404",
        "409",
        "413",
        "415",
        "422",
        "500",
        "503",
        "504",
    },
    ("get", "/api/v1/tasks/{task_id}/checkpoints"): {"200", "404", "410", "422", "500", "503", "504"},
    ("post", "/api/v1/tasks/{task_id}/fork"): {
        "202",
        "400",
        "404",
        "409",
        "410",
        "413",
        "415",
        "422",
        "429",
        "500",
        "503",
        "504",
    },
    ("post", "/api/v1/tasks/{task_id}/replay"): {"202", "404", "409", "410", "422", "429", "500", "503", "504"},
    ("delete", "/api/v1/tasks/{task_id}"): {"202", "404", "409", "422", "500", "503", "504"},
    ("get", "/api/v1/agents/{agent_id}/memories"): {"200", "404", "422", "500", "503", "504"},
    ("post", "/api/v1/agents/{agent_id}/memories"): {
        "201",
        "400",
        "404",
        "413",
        "415",
        "422",
        "500",
        "501",
        "503",
        "504",
    },
    ("delete", "/api/v1/agents/{agent_id}/memories"): {"200", "404", "422", "500", "503", "504"},
    ("post", "/api/v1/memories/search"): {"200", "400", "404", "413", "415", "422", "500", "501", "503", "504"},
    ("get", "/api/v1/memories/{memory_id}"): {"200", "404", "422", "500", "503", "504"},
    ("patch", "/api/v1/memories/{memory_id}"): {
        "200",
        "400",
        "404",
        "409",
        "413",
        "415",
        "422",
        "500",
        "501",
        "503",
        "504",
    },
    ("delete", "/api/v1/memories/{memory_id}"): {"204", "404", "422", "500", "503", "504"},
    ("get", "/api/v1/sessions"): {"200", "422", "500", "503", "504"},
    ("get", "/api/v1/sessions/{session_id}"): {"200", "404", "422", "500", "503", "504"},
    ("get", "/api/v1/sessions/{session_id}/export"): {"200", "404", "422", "500", "503", "504"},
    ("patch", "/api/v1/sessions/{session_id}"): {"200", "400", "404", "413", "415", "422", "500", "503", "504"},
    ("post", "/api/v1/sessions/{session_id}/fork"): {"201", "400", "404", "413", "415", "422", "500", "503", "504"},
    ("delete", "/api/v1/sessions/{session_id}"): {"204", "404", "409", "422", "500", "503", "504"},
    ("get", "/api/v1/logs/stream/{task_id}"): {"200", "404", "422", "429", "500", "503", "504"},
    ("post", "/api/v1/documents"): {"202", "400", "404", "409", "413", "415", "422", "429", "500", "503", "504"},
    ("get", "/api/v1/documents"): {"200", "422", "500", "503", "504"},
    ("get", "/api/v1/documents/{document_id}"): {"200", "404", "422", "500", "503", "504"},
    ("get", "/api/v1/documents/{document_id}/content"): {"200", "404", "422", "500", "503", "504"},
    ("delete", "/api/v1/documents/{document_id}"): {"204", "404", "422", "500", "503", "504"},
    ("post", "/api/v1/collections"): {"201", "400", "409", "413", "415", "422", "500", "503", "504"},
    ("get", "/api/v1/collections"): {"200", "422", "500", "503", "504"},
    ("get", "/api/v1/collections/{name}"): {"200", "404", "422", "500", "503", "504"},
    ("put", "/api/v1/collections/{name}"): {"200", "400", "404", "413", "415", "422", "429", "500", "503", "504"},
    ("delete", "/api/v1/collections/{name}"): {"204", "404", "422", "500", "503", "504"},
    ("post", "/api/v1/search"): {"200", "400", "404", "413", "415", "422", "429", "500", "501", "503", "504"},
    ("get", "/api/v1/logs/history"): {"200", "422", "500", "503", "504"},
    ("get", "/api/v1/models"): {"200", "422", "500", "503", "504"},
    ("get", "/api/v1/health"): {"200", "500", "503"},
    ("get", "/api/v1/health/live"): {"200", "500"},
    ("get", "/api/v1/metrics"): {"200", "500", "503", "504"},
    ("post", "/api/v1/tickets"): {"201", "409", "422", "500", "503", "504"},
}
OPEN = {("get", "/api/v1/health"), ("get", "/api/v1/health/live")}


@pytest.fixture(scope="module")
async def document(world: World) -> Any:
    """What /openapi.json answers."""
    return (await world.http.get("/openapi.json")).json()


def operations(document: Any) -> list[tuple[str, str, Any]]:
    """Each operation with its method and path."""
    return [(method, path, op) for path, item in document["paths"].items() for method, op in item.items()]


def validator(document: Any, schema: Any) -> Any:
    """What checks values by a schema of the document."""
    return jsonschema_rs.Draft202012Validator({**schema, "components": document["components"]})


def test_every_row_is_there_with_every_status_it_answers(document: Any) -> None:
    assert document["openapi"].startswith("3.1")
    found = {(method, path): set(op["responses"]) for method, path, op in operations(document)}
    # Where a key may be asked for.
    assert found == {
        # A body may be too slow, where one is taken.
        row: statuses | (set() if row in OPEN else {"401", "403"}) | ({"408"} if "413" in statuses else set())
        for row, statuses in EXPECTED.items()
    }
    for method, path, op in operations(document):
        assert bool(op["security"]) is ((method, path) not in OPEN)
        assert all(set(way) <= set(document["components"]["securitySchemes"]) for way in op["security"])


def test_every_operation_is_described(document: Any) -> None:
    ids = [op["operationId"] for _, _, op in operations(document)]
    assert len(set(ids)) == len(ids)
    tags = {tag["name"] for tag in document["tags"]}
    for method, path, op in operations(document):
        assert op["summary"], (method, path)
        assert op["description"], (method, path)
        assert set(op["tags"]) <= tags
        for parameter in op.get("parameters", []):
            assert parameter["description"], (method, path, parameter["name"])
        if "requestBody" in op:
            assert all(content["examples"] for content in op["requestBody"]["content"].values())


def test_every_response_has_an_example_that_its_schema_allows(document: Any) -> None:
    for method, path, op in operations(document):
        for status, response in op["responses"].items():
            place = (method, path, status)
            assert response["description"], place
            if status == "204":
                assert "content" not in response
                continue
            assert response["content"], place
            for media_type, content in response["content"].items():
                # What the whole of Hearth answers with 503 is its health, and else that is a problem.
                if int(status) >= 400 and not (path == "/api/v1/health" and status == "503"):
                    assert media_type == "application/problem+json", place
                examples = [e["value"] for e in content.get("examples", {}).values()] or [content["example"]]
                for example in examples:
                    if media_type == "text/event-stream":
                        assert "event: end\ndata: {" in example
                        continue
                    validator(document, content["schema"]).validate(example)


def test_request_examples_are_what_the_schema_allows(document: Any) -> None:
    for _, _, op in operations(document):
        for content in op.get("requestBody", {}).get("content", {}).values():
            for example in content["examples"].values():
                validator(document, content["schema"]).validate(example["value"])


def test_every_field_of_the_config_is_described_with_an_example(document: Any) -> None:
    properties = document["components"]["schemas"]["AgentConfig"]["properties"]
    assert set(properties) == {field.name for field in agent_pb2.AgentConfig.DESCRIPTOR.fields}
    for name, schema in properties.items():
        assert schema["description"], name
        assert schema["examples"], name


def test_every_reference_leads_somewhere(document: Any) -> None:
    def walk(value: Any) -> None:
        if isinstance(value, dict):
            reference = value.get("$ref")
            if isinstance(reference, str):
                assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"], reference
            for item in value.values():
                walk(item)
        elif isinstance(value, list):
            for item in value:
                walk(item)

    walk(document)


def test_websockets_are_told_of(document: Any) -> None:
    for text in ("/api/v1/ws/tasks/{task_id}", "/api/v1/ws/logs", "4404", "1012"):
        assert text in document["info"]["description"]


async def test_real_answers_are_what_the_schema_allows(world: World, document: Any) -> None:
    agent = await world.state.add_agent()
    task = await world.state.add_task(agent_id=agent.id)
    await world.state.add_event(task)
    session = world.state.add_session("hi", "ho", agent_id=agent.id)
    draft = {"tool_name": "echo", "tool_config": {"url": "http://x"}}
    tool = (await world.http.post(f"/agents/{agent.id}/tools", json=draft)).json()
    kept = (await world.http.post(f"/agents/{agent.id}/memories", json={"content": "Likes tea."})).json()
    for path, url in {
        "/api/v1/agents": "/agents",
        "/api/v1/agents/{agent_id}": f"/agents/{agent.id}",
        "/api/v1/tasks": "/tasks",
        "/api/v1/tasks/{task_id}/status": f"/tasks/{task.id}/status",
        "/api/v1/tasks/{task_id}/logs": f"/tasks/{task.id}/logs",
        "/api/v1/tasks/{task_id}/attempts": f"/tasks/{task.id}/attempts",
        "/api/v1/agents/{agent_id}/memories": f"/agents/{agent.id}/memories",
        "/api/v1/memories/{memory_id}": f"/memories/{kept['memory']['id']}",
        "/api/v1/tasks/{task_id}/checkpoints": f"/tasks/{task.id}/checkpoints",
        "/api/v1/sessions": "/sessions",
        "/api/v1/sessions/{session_id}": f"/sessions/{session.id}",
        "/api/v1/sessions/{session_id}/export": f"/sessions/{session.id}/export",
        "/api/v1/logs/history": "/logs/history",
        "/api/v1/tools": "/tools",
        "/api/v1/agents/{agent_id}/tools": f"/agents/{agent.id}/tools",
        "/api/v1/agents/{agent_id}/tools/{tool_id}": f"/agents/{agent.id}/tools/{tool['id']}",
        "/api/v1/agents/{agent_id}/tools/{tool_id}/check": f"/agents/{agent.id}/tools/{tool['id']}/check",
        "/api/v1/models": "/models",
        "/api/v1/health": "/health",
        "/api/v1/health/live": "/health/live",
    }.items():
        schema = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        validator(document, schema).validate((await world.http.get(url)).json())
    problem = (await world.http.get(f"/agents/{new_id()}")).json()
    validator(document, {"$ref": "#/components/schemas/Problem"}).validate(problem)
    problem = (await world.http.get("/agents", params={"limit": 0})).json()
    validator(document, {"$ref": "#/components/schemas/Problem"}).validate(problem)
