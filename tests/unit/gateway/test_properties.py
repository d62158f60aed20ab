"""Whatever a client sends, the answer is the client's fault or none: never a 5xx, and always JSON."""

import json
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from servers.gateway import World, open_world

FEW = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)

ids = st.one_of(st.uuids().map(str), st.text(min_size=1), st.sampled_from([".", "..", "create", "run", "%", "0" * 5000]))
values = st.one_of(st.text(), st.integers().map(str), st.datetimes().map(str), st.floats().map(str))
names = st.sampled_from([
    "limit", "cursor", "is_active", "name", "agent_id", "status", "created_after", "created_before", "level", "since",
    "until", "contains", "descending", "task_id", "kind", "kinds", "last_event_id", "context.a", "context.", "",
])  # fmt: skip
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
config_names = st.sampled_from(["system_prompt", "temperature", "stop", "seed", "output_schema", "keep_alive", "x"])
bodies = st.one_of(
    json_values,
    st.fixed_dictionaries(
        {"name": st.text(), "model_name": st.text()},
        optional={"config": st.dictionaries(config_names, json_values), "is_active": json_values},
    ),
    st.fixed_dictionaries({"agent_id": ids, "input": json_values}, optional={"session_id": json_values}),
)


class Caller:
    """A client that can be used from a test that Hypothesis calls."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def __call__(self, method: str, path: str, **options: Any) -> None:
        url = httpx.URL(f"http://127.0.0.1:{self._world.port}/api/v1").join(path)
        request = self._world.http.build_request(method, url, **options)
        async with self._world.http.stream(request.method, request.url, **options) as answer:
            if answer.headers.get("content-type", "").startswith("text/event-stream"):
                return
            text = await answer.aread()
            assert answer.status_code < 500, (method, path, options, text)
            if answer.status_code >= 400:
                problem = json.loads(text)
                assert answer.headers["content-type"] == "application/problem+json"
                assert problem["status"] == answer.status_code
                assert problem["code"]
