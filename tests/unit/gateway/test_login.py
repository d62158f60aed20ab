"""Who is let in: keys, scopes, tickets and tokens, attacked."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from agent_service.keys import KeyDraft
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from gateway.settings import GatewaySettings
from hearth_runtime.errors import QuotaExceeded
from hearth_runtime.identifiers import new_id
from hearth_runtime.keys import Scope, new_key
from httpx import Response
from pydantic import ValidationError
from servers.gateway import World, open_world, until
from websockets.exceptions import ConnectionClosed, InvalidStatus

from gateway import scopes

ISSUER, AUDIENCE = "https://id.example.org", "hearth"
FRESH_SECONDS = 0.3
RUN = {"agent_id": new_id(), "input": {"prompt": "hi"}}


@dataclass(frozen=True, kw_only=True)
class Guarded:
    """A gateway that asks for a login, and keys to it by their scopes."""

    world: World
    keys: dict[str, str] = field(default_factory=dict)

    async def key(self, *wanted: Scope, **fields: Any) -> tuple[str, str]:
        """A new key, as a client sends it, and its prefix."""
        draft: dict[str, Any] = {"name": "k", "owner": None, "tasks_per_minute": None, "concurrent_runs": None,
                                 "tokens_per_day": None, "expires_at": None, **fields}  # fmt: skip
        key, secret = await self.world.services.keys.create(KeyDraft(scopes=tuple(wanted), **draft))
        return secret, key.prefix

    async def get(self, path: str, secret: str) -> Response:
        """Reads with this key."""
        return await self.world.http.get(path, headers=bearer(secret))


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


@pytest.fixture(scope="module")
async def guarded() -> AsyncIterator[Guarded]:
    async with open_world(login="required", key_cache_seconds=FRESH_SECONDS) as world:
        yield Guarded(world=world)


def refused(answer: Response, code: str = "key_refused", status: int = 401) -> bool:
    """Whether it was answered so, as problem details with a challenge."""
    return (
        (answer.status_code, answer.json()["code"]) == (status, code)
        and answer.headers["content-type"] == "application/problem+json"
        and answer.headers["www-authenticate"].startswith('Bearer realm="hearth"')
    )


def filled(path: str) -> str:
    return re.sub(r"\{[^}]+\}", lambda found: "x" if "name" in found[0] else new_id(), path)


async def operations(world: World) -> list[tuple[str, str, str]]:
    """Each operation of the OpenAPI document: its method, a path and its id."""
    document = (await world.http.get("/openapi.json")).json()
    return [
        (method, filled(path).removeprefix("/api/v1"), operation["operationId"])
        for path, item in document["paths"].items()
        for method, operation in item.items()
    ]


async def test_no_route_answers_without_a_key(guarded: Guarded) -> None:
    listed = await operations(guarded.world)
    assert len(listed) > 50
    for method, path, operation in listed:
        answer = await guarded.world.http.request(method, path)
        if operation in scopes.OPEN:
            assert answer.status_code == 200, operation
            continue
        assert refused(answer, "unauthenticated"), operation
        assert "hearth-admin keys create" in answer.json()["detail"]


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PATCH"])
async def test_no_other_method_gets_around_it(guarded: Guarded, method: str) -> None:
    answer = await guarded.world.http.request(method, "/agents")
    assert answer.status_code == 405


async def test_no_spelling_of_a_path_gets_around_it(guarded: Guarded) -> None:
    for path in ("/agents/", "//agents", "/./agents", "/%61gents", "/health/../agents", "/health/%2e%2e/agents",
                 "/agents;x", "/agents%00", "/AGENTS", "/../../metrics", "/health%2f..%2fagents"):  # fmt: skip
        url = f"http://127.0.0.1:{guarded.world.port}/api/v1{path}"
        assert (await guarded.world.http.get(url)).status_code in (400, 401, 404), path
    assert (await guarded.world.http.get(f"http://127.0.0.1:{guarded.world.port}/metrics")).status_code == 401


async def test_no_route_answers_a_wrong_key_or_one_that_is_for_something_else(guarded: Guarded) -> None:
    _, wrong = new_key()
    for method, path, operation in await operations(guarded.world):
        if operation in scopes.OPEN:
            continue
        assert refused(await guarded.world.http.request(method, path, headers=bearer(wrong))), operation
        others = set(Scope) - {Scope.ADMIN, *scopes.NEEDED[operation]}
        if not others:
            continue
        secret, _ = await guarded.key(*others)
        answer = await guarded.world.http.request(method, path, headers=bearer(secret))
        assert refused(answer, "scope_missing", 403), operation
        for scope in scopes.NEEDED[operation]:
            assert scope.value in answer.json()["detail"]
            assert scope.value in answer.headers["www-authenticate"]


async def test_a_key_does_what_its_scopes_say_and_admin_does_all(guarded: Guarded) -> None:
    reader, _ = await guarded.key(Scope.AGENTS_READ)
    admin, _ = await guarded.key(Scope.ADMIN)
    for secret in (reader, admin):
        assert (await guarded.get("/agents", secret)).status_code == 200
    assert refused(await guarded.get("/tasks", reader), "scope_missing", 403)
    assert (await guarded.get("/tasks", admin)).status_code == 200
    assert (await guarded.get("/metrics", admin)).status_code == 200


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Basic aGVhcnRoOng=", "Bearer null", "Bearer hearth__", "bearer hearth_aaaaaaaaaa_",
     "{key}", "Token {key}", "Bearer {key}x", "Bearer x{key}", "Bearer {cut}", "Bearer {upper}", "Bearer {key} {key}",
     "Bearer {key},Bearer {key}", "Bearer hearth_' OR 1=1 --_x", "Bearer \xe9"],
)  # fmt: skip
async def test_no_form_of_the_header_gets_around_it(guarded: Guarded, header: str) -> None:
    secret, _ = await guarded.key(Scope.ADMIN)
    value = header.format(key=secret, cut=secret[:-1], upper=secret.upper())
    answer = await guarded.world.http.get("/agents", headers=[(b"Authorization", value.encode("latin-1"))])
    assert answer.status_code == 401, answer.text
    twice = [("Authorization", f"Bearer {secret}"), ("Authorization", f"Bearer {secret}")]
    assert (await guarded.world.http.get("/agents", headers=twice)).status_code == 401
    for name in ("X-Api-Key", "X-Forwarded-User", "X-Hearth-Principal", "hearth-principal-bin", "Cookie"):
        assert (await guarded.world.http.get("/agents", headers={name: secret})).status_code == 401


async def test_no_key_is_taken_from_an_address(guarded: Guarded) -> None:
    secret, _ = await guarded.key(Scope.ADMIN)
    task = await guarded.world.state.add_task()
    for name in ("key", "token", "access_token", "ticket", "authorization"):
        assert (await guarded.world.http.get("/agents", params={name: secret})).status_code == 401
        assert (await guarded.world.http.get(f"/logs/stream/{task.id}", params={name: secret})).status_code == 401


async def test_a_key_that_is_over_lets_nobody_in(guarded: Guarded) -> None:
    secret, _ = await guarded.key(Scope.ADMIN, expires_at=datetime.now(UTC) + timedelta(seconds=0.2))
    await until(lambda: guarded_is_over(guarded, secret))


async def guarded_is_over(guarded: Guarded, secret: str) -> bool:
    return (await guarded.get("/agents", secret)).status_code == 401


async def test_a_revoked_key_lets_nobody_in_within_the_time_that_is_said(guarded: Guarded) -> None:
    secret, prefix = await guarded.key(Scope.ADMIN)
    assert (await guarded.get("/agents", secret)).status_code == 200
    await guarded.world.services.keys.revoke(prefix)
    await asyncio.sleep(FRESH_SECONDS)
    assert refused(await guarded.get("/agents", secret))


async def test_a_key_is_looked_up_once_in_a_while_and_counts_on_while_its_service_is_away() -> None:
    async with open_world(login="required", key_cache_seconds=0.5) as world:
        guarded = Guarded(world=world)
        secret, _ = await guarded.key(Scope.AGENTS_READ)
        rows = world.services.key_rows
        for _ in range(20):
            assert (await guarded.get("/models", secret)).status_code == 200
        assert rows.lookups <= 3
        await world.services.agent.stop()
        await asyncio.sleep(0.6)
        assert (await guarded.get("/models", secret)).status_code == 200
        _, unknown = new_key()
        assert (await guarded.get("/models", unknown)).status_code == 503


async def test_streams_end_when_their_key_is_revoked(guarded: Guarded) -> None:
    world, task = guarded.world, await guarded.world.state.add_task()
    secret, prefix = await guarded.key(Scope.LOGS_READ)
    headers = bearer(secret)
    async with (
        world.socket("/logs", additional_headers=headers) as logs,
        world.socket(f"/tasks/{task.id}", additional_headers=headers) as of_task,
        world.http.stream("GET", f"/logs/stream/{task.id}", headers=headers) as events,
    ):
        await logs.send('{"subscribe": {}}')
        assert "subscribed" in json.loads(await logs.recv())
        assert events.status_code == 200
        # The two of the task share a call.
        await until(lambda: world.state.open_streams == 2)
        await world.services.keys.revoke(prefix)
        async with asyncio.timeout(FRESH_SECONDS * 2 + 5):
            text = (await events.aread()).decode()
            for socket in (logs, of_task):
                frames = [json.loads(frame) async for frame in _frames(socket)]
                assert socket.close_code == 4401
                assert frames[-1]["error"]["code"] == "key_refused"
    assert "event: error" in text
    assert "key_refused" in text
    await until(lambda: world.state.open_streams == 0)


async def _frames(socket: Any) -> AsyncIterator[Any]:
    try:
        while True:
            yield await socket.recv()
    except ConnectionClosed:
        return


async def test_no_socket_opens_without_the_right_key(guarded: Guarded) -> None:
    task = await guarded.world.state.add_task()
    reader, _ = await guarded.key(Scope.AGENTS_READ)
    _, wrong = new_key()
    for path in ("/logs", f"/tasks/{task.id}", "/nothing"):
        for headers, status in (({}, 401), (bearer(wrong), 401), (bearer(reader), 403)):
            with pytest.raises(InvalidStatus) as caught:
                async with guarded.world.socket(path, additional_headers=headers):
                    pass
            response = caught.value.response
            assert response.status_code == status
            assert json.loads(response.body)["code"] in ("unauthenticated", "key_refused", "scope_missing")
            assert "WWW-Authenticate" in response.headers


async def test_a_ticket_opens_one_stream_once(guarded: Guarded) -> None:
    world, task = guarded.world, await guarded.world.state.add_task()
    secret, prefix = await guarded.key(Scope.LOGS_READ)

    async def ticket() -> str:
        answer = await world.http.post("/tickets", headers=bearer(secret))
        assert answer.status_code == 201, answer.text
        return str(answer.json()["ticket"])

    first = await ticket()
    async with world.http.stream("GET", f"/logs/stream/{task.id}", params={"ticket": first}) as answer:
        assert answer.status_code == 200
    again = await world.http.get(f"/logs/stream/{task.id}", params={"ticket": first})
    assert refused(again, "ticket_refused")
    async with world.socket(f"/tasks/{task.id}?ticket={await ticket()}"):
        pass
    # It opens nothing else, and no more than its key.
    assert (await world.http.get("/agents", params={"ticket": await ticket()})).status_code == 401
    assert refused(await world.http.get("/agents", headers=bearer(await ticket())))
    left = await ticket()
    await world.services.keys.revoke(prefix)
    await asyncio.sleep(FRESH_SECONDS)
    assert (await world.http.get(f"/logs/stream/{task.id}", params={"ticket": left})).status_code == 401
    forged = await world.http.get(f"/logs/stream/{task.id}", params={"ticket": "ticket_" + "A" * 43})
    assert refused(forged, "ticket_refused")


async def test_a_ticket_of_a_key_that_reads_no_logs_opens_no_stream(guarded: Guarded) -> None:
    secret, _ = await guarded.key(Scope.AGENTS_READ)
    made = (await guarded.world.http.post("/tickets", headers=bearer(secret))).json()["ticket"]
    answer = await guarded.world.http.get(f"/logs/stream/{new_id()}", params={"ticket": made})
    assert refused(answer, "scope_missing", 403)


async def test_a_quota_that_is_used_up_says_which_and_how_long(guarded: Guarded) -> None:
    secret, _ = await guarded.key(Scope.RUNS_WRITE)
    guarded.world.state.failures["CreateTask"] = QuotaExceeded(
        "enough", metadata={"quota": "tasks_per_minute", "limit": "60", "window_seconds": "60"}, retry_after_seconds=7.2
    )
    answer = await guarded.world.http.post("/agents/run", json=RUN, headers=bearer(secret))
    assert (answer.status_code, answer.json()["code"]) == (429, "quota_exceeded")
    assert answer.headers["retry-after"] == "8"
    assert answer.headers["ratelimit-policy"] == '"tasks_per_minute";q=60;w=60'
    assert answer.headers["ratelimit"] == '"tasks_per_minute";r=0;t=8'


async def test_what_was_done_and_what_was_tried_is_kept(guarded: Guarded) -> None:
    world = guarded.world
    secret, prefix = await guarded.key(Scope.AGENTS_WRITE)
    body = {"name": "n", "model_name": "m"}
    assert (await world.http.post("/agents/create", json=body, headers=bearer(secret))).status_code == 201
    assert (await guarded.get("/agents", secret)).status_code == 403
    found = await until(lambda: [a for a in world.services.key_rows.actions if a.actor == f"key:{prefix}"][1:] or None)
    done = [a for a in world.services.key_rows.actions if a.actor == f"key:{prefix}"]
    assert found
    assert [(a.action, a.status, a.code) for a in done] == [
        ("POST /api/v1/agents/create", 201, ""), ("GET /api/v1/agents", 403, "scope_missing")
    ]  # fmt: skip
    assert all(secret not in str(a) for a in world.services.key_rows.actions)


async def test_on_loopback_the_first_key_closes_the_door() -> None:
    async with open_world(key_cache_seconds=0.1) as world:
        guarded = Guarded(world=world)
        assert (await world.http.get("/agents")).status_code == 200
        answer = await world.http.post("/tickets")
        assert (answer.status_code, answer.json()["code"]) == (409, "login_not_needed")
        assert refused(await guarded.get("/agents", "nonsense"))
        secret, prefix = await guarded.key(Scope.ADMIN)
        await until(lambda: _answers(world, 401))
        assert (await guarded.get("/agents", secret)).status_code == 200
        # It stays closed when the only key is revoked.
        await world.services.keys.revoke(prefix)
        await asyncio.sleep(0.2)
        assert (await world.http.get("/agents")).status_code == 401


async def _answers(world: World, status: int) -> bool:
    return (await world.http.get("/agents")).status_code == status


async def test_where_it_is_not_known_whether_there_is_a_key_nobody_is_let_in() -> None:
    async with open_world(rpc_timeout_seconds=0.3) as world:
        await world.services.agent.stop()
        assert (await world.http.get("/models")).status_code == 503


@pytest.mark.parametrize(
    ("settings", "decided"),
    [({"host": "0.0.0.0"}, False), ({"host": "::"}, False), ({"host": "192.0.2.1"}, False),
     ({"host": "127.0.0.1"}, True),
     ({"host": "0.0.0.0", "publish": "127.0.0.1"}, True), ({"host": "127.0.0.1", "publish": "0.0.0.0"}, False),
     ({"host": "0.0.0.0", "login": "none"}, True), ({"host": "0.0.0.0", "login": "required"}, True),
     ({"host": "0.0.0.0", "jwt_issuer": "i", "jwt_audience": "a", "jwt_jwks": "f"}, True)],
)  # fmt: skip
def test_who_serves_others_must_say_who_is_let_in(settings: dict[str, str], decided: bool) -> None:
    assert GatewaySettings(**settings).is_login_decided is decided  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "settings",
    [{"jwt_issuer": "i"}, {"jwt_issuer": "i", "jwt_audience": "a"}, {"jwt_jwks": "f"},
     {"jwt_audience": "a", "jwt_jwks": "f"},
     {"jwt_issuer": "i", "jwt_audience": "a", "jwt_secret": "short"},
     {"jwt_issuer": "i", "jwt_audience": "a", "jwt_secret": "x" * 32, "jwt_jwks": "f"}],
)  # fmt: skip
def test_half_of_the_settings_of_tokens_is_an_error(settings: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        GatewaySettings(**settings)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class Provider:
    """An identity provider with a key, and a gateway that believes it."""

    world: World
    private: bytes
    public: bytes

    def token(self, *, key: Any = None, algorithm: str = "RS256", headers: Any = None, **claims: Any) -> str:
        """A token that is good but for what is said."""
        whole = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "ann",
            "exp": time.time() + 60,
            "scope": "agents:read",
            **claims,
        }
        whole = {name: value for name, value in whole.items() if value is not None}
        return jwt.encode(whole, key or self.private, algorithm=algorithm, headers={"kid": "one", **(headers or {})})

    async def status(self, token: str, path: str = "/agents") -> int:
        return (await self.world.http.get(path, headers=bearer(token))).status_code


@pytest.fixture(scope="module")
def private() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="module")
def key_set(private: rsa.RSAPrivateKey, tmp_path_factory: pytest.TempPathFactory) -> Path:
    jwk = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(private.public_key()))
    path = tmp_path_factory.mktemp("keys") / "jwks.json"
    path.write_text(json.dumps({"keys": [{**jwk, "kid": "one", "use": "sig"}]}))
    return path


@pytest.fixture(scope="module")
async def provider(private: rsa.RSAPrivateKey, key_set: Path) -> AsyncIterator[Provider]:
    async with open_world(jwt_issuer=ISSUER, jwt_audience=AUDIENCE, jwt_jwks=str(key_set)) as world:
        yield Provider(
            world=world,
            private=private.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
            public=private.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            ),
        )


async def test_a_token_lets_in_with_its_scopes(provider: Provider) -> None:
    assert await provider.status(provider.token()) == 200
    assert await provider.status(provider.token(), "/tasks") == 403
    assert await provider.status(provider.token(scope="runs:write nonsense"), "/tasks") == 200
    assert await provider.status(provider.token(scope="admin"), "/tasks") == 200
    assert await provider.status(provider.token(scope=["agents:read"])) == 200
    assert await provider.status(provider.token(scope=None)) == 403
    assert (await provider.world.http.get("/agents")).status_code == 401


def unsigned(token: str, **header: Any) -> str:
    """The token with another header and no signature."""
    head = jwt.utils.base64url_encode(json.dumps({"typ": "JWT", **header}).encode()).decode()
    return f"{head}.{token.split('.')[1]}."


async def test_no_forged_token_lets_in(provider: Provider) -> None:
    good = provider.token()
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    head, body, signature = good.split(".")
    # PyJWT does not sign with a public key by itself.
    hmac = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    forged_head = jwt.utils.base64url_encode(json.dumps({"alg": "HS256", "typ": "JWT", "kid": "one"}).encode()).decode()
    with_public = jwt.utils.base64url_encode(hmac.sign(f"{forged_head}.{body}".encode(), provider.public)).decode()
    changed = jwt.utils.base64url_encode(json.dumps({"sub": "root", "scope": "admin"}).encode()).decode()
    attacks = {
        "alg none": unsigned(good, alg="none"),
        "alg None": unsigned(good, alg="None", kid="one"),
        "no signature": f"{head}.{body}.",
        "HS256 by the public key": f"{forged_head}.{body}.{with_public}",
        "another's key": provider.token(key=other),
        "unknown kid": provider.token(headers={"kid": "two"}),
        "its own key": provider.token(key=other, headers={"jwk": json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(
            other.public_key())), "jku": "http://evil.example/jwks.json"}),
        "changed claims": f"{head}.{changed}.{signature}",
        "over": provider.token(exp=time.time() - 60),
        "never over": provider.token(exp=None),
        "not yet": provider.token(nbf=time.time() + 600),
        "wrong audience": provider.token(aud="other"),
        "no audience": provider.token(aud=None),
        "wrong issuer": provider.token(iss="https://evil.example"),
        "no subject": provider.token(sub=None),
        "empty subject": provider.token(sub=""),
        "long": provider.token(more="x" * 12_000),
        "two parts": f"{head}.{body}",
        "nothing": "..",
    }  # fmt: skip
    for name, token in attacks.items():
        answer = await provider.world.http.get("/agents", headers=bearer(token))
        assert answer.status_code == 401, name
        assert 'error="invalid_token"' in answer.headers["www-authenticate"], name


async def test_a_shared_secret_signs_tokens_and_nothing_else_does() -> None:
    secret = "a secret of at least thirty-two bytes"
    async with open_world(jwt_issuer=ISSUER, jwt_audience=AUDIENCE, jwt_secret=secret) as world:
        provider = Provider(world=world, private=secret.encode(), public=b"")
        assert await provider.status(provider.token(algorithm="HS256")) == 200
        assert await provider.status(provider.token(algorithm="HS256", key="another secret of thirty-two bytes")) == 401
        assert await provider.status(unsigned(provider.token(algorithm="HS256"), alg="none")) == 401


async def spoken(world: World, data: bytes) -> bytes:
    """What is answered to this, before the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    writer.write(data)
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    return answer


async def test_a_slow_body_and_a_slow_head_are_given_up() -> None:
    head = b"POST /api/v1/agents/create HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    async with open_world(head_timeout_seconds=0.3, body_timeout_seconds=0.3) as world:
        answer = await spoken(world, head + b"Content-Length: 100\r\n\r\n{")
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"body_too_slow" in answer
        assert await spoken(world, b"") == b""
        assert await spoken(world, head + b"X-Slow: ") == b""
        # A request in time leaves the connection as it was, also for the next one.
        get = b"GET /api/v1/health/live HTTP/1.1\r\nHost: localhost\r\n"
        assert (await spoken(world, get + b"\r\n" + get + b"Connection: close\r\n\r\n")).count(b" 200 OK") == 2
        # A stream outlives both.
        task = await world.state.add_task()
        async with world.http.stream("GET", f"/logs/stream/{task.id}") as stream, world.socket("/logs") as socket:
            await asyncio.sleep(0.6)
            assert stream.status_code == 200
            await socket.send('{"subscribe": {}}')
            assert "subscribed" in json.loads(await socket.recv())


async def test_heads_that_mean_two_things_are_no_way_in(guarded: Guarded) -> None:
    get = b"GET /api/v1/agents HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    for more in (
        b"Authorization : Bearer x\r\n\r\n",
        b"Authorization:\r\n Bearer x\r\n\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        + b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"Content-Length: 5\r\nContent-Length: 0\r\n\r\n",
        b"X-Original-Url: /api/v1/health\r\nX-Rewrite-Url: /health\r\n\r\n",
        b"X-Http-Method-Override: OPTIONS\r\nX-Forwarded-For: 127.0.0.1\r\nForwarded: for=127.0.0.1\r\n\r\n",
        b"Long: " + b"x" * 200_000 + b"\r\n\r\n",
    ):
        answer = await spoken(guarded.world, get + more)
        assert answer.startswith((b"HTTP/1.1 401 ", b"HTTP/1.1 400 ", b"HTTP/1.1 431 ")), (more[:60], answer[:80])
        assert b" 200 OK" not in answer


def test_every_attack_of_the_table_is_a_test() -> None:
    root = Path(__file__).parents[3]
    page = (root / "docs" / "security.md").read_text()
    files = dict(re.findall(r"`(tests/[a-z_0-9/]+\.py)` \(([a-d])\)", page))
    texts = {letter: (root / path).read_text() for path, letter in files.items()}
    rows = re.findall(r"\| `(test_[a-z_]+)` \(([a-d])\) \|", page)
    assert len(rows) > 25
    for name, letter in rows:
        assert f"def {name}(" in texts[letter], name
    for scope in Scope:
        assert f"| `{scope.value}` |" in page


async def test_a_key_set_may_be_at_an_address_and_is_not_asked_for_by_each_token(
    private: rsa.RSAPrivateKey, key_set: Path
) -> None:
    served = {"text": await asyncio.to_thread(key_set.read_bytes)}
    asked = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + served["text"])
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/jwks.json"
        async with open_world(jwt_issuer=ISSUER, jwt_audience=AUDIENCE, jwt_jwks=url) as world:
            pem = private.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            provider = Provider(world=world, private=pem, public=b"")
            assert await provider.status(provider.token()) == 200
            # Names of keys that nobody has do not make it ask each time.
            for number in range(5):
                assert await provider.status(provider.token(headers={"kid": f"x{number}"})) == 401
            assert asked == 1
        served["text"] = b"not JSON"
        async with open_world(jwt_issuer=ISSUER, jwt_audience=AUDIENCE, jwt_jwks=url) as world:
            provider = Provider(world=world, private=pem, public=b"")
            assert await provider.status(provider.token()) == 503
