"""Who may ask: `Host`, `Origin`, CORS and the headers of answers."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from gateway.origins import is_loopback
from gateway.settings import GatewaySettings
from pydantic import ValidationError
from servers.gateway import World, open_world
from websockets.exceptions import InvalidStatus

APP = "https://app.example.org"


@pytest.fixture(scope="module")
async def public() -> AsyncIterator[World]:
    """A gateway with names and a foreign page that may ask."""
    async with open_world(allowed_hosts="hearth.example.org, *.example.net", cors_origins=APP) as opened:
        yield opened


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "LOCALHOST:8000", "api.localhost:8000", "[::1]:8000", "192.0.2.7", "Hearth.example.org",
     "hearth.example.org:443", "a.example.net"],
)  # fmt: skip
async def test_takes_addresses_and_names_that_it_knows(public: World, host: str) -> None:
    answer = await public.http.get("/health/live", headers={"Host": host})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "example.net", "evilexample.net",
     "evil\\@localhost",
     "user@localhost", "hearth.example.org.", "localhost:8000:1", "", "[localhost]", "[evil.example]"],
)  # fmt: skip
async def test_refuses_other_hosts(public: World, host: str) -> None:
    for path in ("/health/live", "/agents", "/no/such/path"):
        answer = await public.http.get(path, headers={"Host": host})
        assert (answer.status_code, answer.json()["code"]) == (421, "host_not_allowed")
        assert "HEARTH_ALLOWED_HOSTS" in answer.json()["detail"]


@pytest.mark.parametrize("head", [b"Host: localhost\r\nHost: evil.example\r\n", b""])
async def test_refuses_a_host_that_is_there_twice_or_not_at_all(public: World, head: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", public.port)
    writer.write(b"GET /health/live HTTP/1.1\r\nConnection: close\r\n" + head + b"\r\n")
    answer = await asyncio.wait_for(reader.read(), 5)
    assert answer.startswith((b"HTTP/1.1 421 ", b"HTTP/1.1 400 ")), answer
    writer.close()


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "http://localhost", "http://localhost:1", "https://app.example.org:444",
     "http://app.example.org", "https://app.example.org.evil.example", "file://", "http://hearth.example.org@evil.example"],
)  # fmt: skip
async def test_refuses_pages_from_elsewhere(public: World, origin: str) -> None:
    headers = {"Origin": origin, "Host": f"localhost:{public.port}"}
    for method, path in (
        ("GET", "/agents"),
        ("POST", "/agents/create"),
        ("OPTIONS", "/agents"),
        ("DELETE", "/tasks/x"),
    ):
        answer = await public.http.request(method, path, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "origin_not_allowed"), (method, path)
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("path", ["/tasks/0199f0a7-3c00-7a22-9b33-4d5e6f7a8b9c", "/logs"])
async def test_refuses_sockets_of_pages_from_elsewhere(public: World, path: str) -> None:
    with pytest.raises(InvalidStatus) as caught:
        async with public.socket(path, origin="http://evil.example"):
            pass
    assert caught.value.response.status_code == 403
    assert json.loads(caught.value.response.body)["code"] == "origin_not_allowed"


async def test_refuses_sockets_for_another_host(public: World) -> None:
    with pytest.raises(InvalidStatus) as caught:
        async with public.socket("/logs", additional_headers={"Host": "evil.example"}):
            pass
    assert caught.value.response.status_code in (400, 421)


async def test_takes_its_own_pages_and_those_it_is_told_of(public: World) -> None:
    own = f"http://127.0.0.1:{public.port}"
    assert (await public.http.get("/agents", headers={"Origin": own})).status_code == 200
    behind_tls = {"Origin": "https://hearth.example.org", "Host": "hearth.example.org"}
    assert (await public.http.get("/agents", headers=behind_tls)).status_code == 200
    foreign = await public.http.get("/agents", headers={"Origin": APP})
    assert (foreign.status_code, foreign.headers["access-control-allow-origin"]) == (200, APP)
    assert "access-control-allow-credentials" not in foreign.headers
    async with public.socket("/logs", origin=APP) as socket:
        await socket.send('{"subscribe": {}}')
        assert "subscribed" in json.loads(await socket.recv())


async def test_answers_preflights_of_those_it_is_told_of(public: World) -> None:
    asked = {"Origin": APP, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    answer = await public.http.options("/agents/create", headers=asked)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, APP)
    allowed = set(answer.headers["access-control-allow-methods"].split(", "))
    document = (await public.http.get(f"http://127.0.0.1:{public.port}/openapi.json")).json()
    assert {method.upper() for path in document["paths"].values() for method in path} <= allowed


@pytest.mark.parametrize("path", ["/agents", "/no/such/path", "/health/live", "/metrics"])
async def test_answers_carry_headers_that_tie_browsers(world: World, path: str) -> None:
    answer = await world.http.get(path)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"


async def test_the_page_of_the_documentation_may_load_what_it_is_made_of(world: World) -> None:
    answer = await world.http.get("/docs")
    assert "https://cdn.jsdelivr.net" in answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("variable", "value"),
    [("allowed_hosts", "http://a.example"), ("allowed_hosts", "a.example:80"), ("allowed_hosts", "a.*.example"),
     ("cors_origins", "a.example"), ("cors_origins", "https://a.example/"), ("cors_origins", "https://*.example")],
)  # fmt: skip
def test_refuses_settings_that_could_never_fit(variable: str, value: str) -> None:
    with pytest.raises(ValidationError, match="such as"):
        GatewaySettings.model_validate({variable: value})


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.8.0.1", True), ("::1", True), ("[::1]", True), ("localhost", True), ("0.0.0.0", False),
     ("::", False), ("192.0.2.1", False), ("example.org", False)],
)  # fmt: skip
def test_knows_what_only_this_machine_reaches(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
