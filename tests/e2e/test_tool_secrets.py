"""A tool's secret: sent where it belongs, seen nowhere else, and told of where the key of the home is lost."""

import asyncio
import base64
import os
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from system.client import Client
from system.instance import Instance

SECRET = "Bearer sk-0123456789abcdef"


class EchoServer:
    """An HTTP server that answers with the head of the request."""

    def __init__(self) -> None:
        self.heads: list[str] = []
        self.port = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request, one answer."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(head), head.encode())
        )
        await writer.drain()
        writer.close()


@asynccontextmanager
async def echo_server() -> AsyncIterator[EchoServer]:
    """One on a free port."""
    echo = EchoServer()
    server = await asyncio.start_server(echo.answer, "127.0.0.1", 0)
    echo.port = server.sockets[0].getsockname()[1]
    async with server:
        yield echo


async def test_a_secret_is_sent_where_it_belongs_and_seen_nowhere_else(short_folder: Path, model_server: str) -> None:
    instance = Instance(short_folder / "keys", env={"OLLAMA_URL": model_server})
    client = Client(instance.url)
    await asyncio.to_thread(instance.start)
    try:
        async with echo_server() as echo:
            await _walk(instance, echo, client)
    finally:
        await client.http.aclose()
        instance.kill()


def rotate(home: Path) -> str:
    """What `hearth-admin secrets rotate` prints."""
    command = str(Path(sys.executable).with_name("hearth-admin"))
    done = subprocess.run(
        [command, "secrets", "rotate"],
        env={**os.environ, "HEARTH_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


async def _walk(instance: Instance, echo: EchoServer, client: Client) -> None:
    agent = await client.create_agent(config={"workflow": "tools", "max_tokens": 8})
    tools = f"/agents/{agent['id']}/tools"
    url = f"http://127.0.0.1:{echo.port}/"
    config = {"allow": [url], "private": ["127.0.0.0/8"], "headers": {"Authorization": SECRET}}
    shown = {**config, "headers": {"Authorization": "********"}}
    draft: dict[str, Any] = {"tool_name": "http_request", "name": "api", "tool_config": config}
    made = await client.http.post(tools, json=draft)
    assert made.status_code == 201, made.text
    path = f"{tools}/{made.json()['id']}"
    seen = [made.text, (await client.http.get(path)).text, (await client.http.get(tools)).text]

    async def try_it() -> Any:
        answer = await client.http.post("/tools/api/try", json={"agent_id": agent["id"], "arguments": {"url": url}})
        seen.append(answer.text)
        return answer

    tried = await try_it()
    assert tried.status_code == 200, tried.text
    assert SECRET in echo.heads[-1]
    assert "uthorization: ********" in tried.json()["content"]

    # The marker keeps it; nothing but the marker is ever shown.
    put = await client.http.put(path, json={**draft, "tool_config": shown, "description": "The API."})
    assert put.status_code == 200, put.text
    assert put.json()["tool_config"] == shown
    await try_it()
    assert SECRET in echo.heads[-1]
    wrong = await client.http.put(
        path, json={**draft, "tool_config": {**config, "headers": {"Authorization": f"{SECRET}\n"}}}
    )
    assert wrong.status_code == 422
    assert wrong.json()["errors"][0]["field"] == "tool_config.headers.Authorization"
    seen += [put.text, wrong.text]

    # Without the key everything starts, and what cannot be read is named.
    await asyncio.to_thread(instance.stop)
    key = instance.home / "secret.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    key.unlink()
    await asyncio.to_thread(instance.start)
    heads = len(echo.heads)
    unreadable = await try_it()
    assert (unreadable.status_code, unreadable.json()["code"]) == (409, "secret_unreadable")
    assert "'api'" in unreadable.json()["detail"]
    assert f"PUT /api/v1{path}" in unreadable.json()["detail"]
    checked = await client.http.get(f"{path}/check")
    assert checked.json()["code"] == "secret_unreadable"
    kept = await client.http.put(path, json={**draft, "tool_config": shown})
    assert kept.json()["code"] == "secret_unreadable"
    task = await client.wait(await client.run(agent["id"]))
    assert (task["status"], task["error_code"]) == ("failed", "secret_unreadable")
    assert len(echo.heads) == heads
    assert (await client.http.get(path)).json()["tool_config"] == shown
    assert (await client.http.put(path, json=draft)).status_code == 200
    await try_it()
    assert SECRET in echo.heads[-1]

    # With a new key before the old one all are encrypted again, and the old one is needed no more.
    await asyncio.to_thread(instance.stop)
    old = key.read_text().strip()
    key.write_text(f"{base64.b64encode(os.urandom(32)).decode()},{old}\n")
    await asyncio.to_thread(instance.start)
    for counts in ("encrypted again: 1; were already: 0", "encrypted again: 0; were already: 1"):
        assert f"{counts}; no key can read: 0" in await asyncio.to_thread(rotate, instance.home)
    await try_it()
    assert SECRET in echo.heads[-1]

    logs = "".join(file.read_text(errors="replace") for file in instance.home.glob("logs/*")) + instance.console()
    for text in (*seen, logs, key.read_text()):
        assert SECRET not in text
        assert "sk-0123456789" not in text
