"""The search engine's answers, good and bad, from a server that speaks its protocol."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from agent_service.builtin.web_search import WebSearch, WebSearchKind
from agent_service.settings import ToolSettings
from agent_service.tool import ToolHost
from agent_service.web import Web
from agent_service.web_rules import WebRules
from hearth_runtime.errors import InvalidArgument

RESULT = {"title": "Hearth", "url": "https://hearth.test/", "content": "Agents <b>that</b> end."}


@asynccontextmanager
async def search(body: str, status: str = "200 OK") -> AsyncIterator[tuple[WebSearch, list[str]]]:
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode().split(" ")[1])
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    web = Web(WebRules(allow=("127.0.0.1",), private=("127.0.0.1",)), timeout_seconds=2, max_bytes=10_000)
    yield WebSearch(web, f"http://127.0.0.1:{port}", limit=2, language="de"), asked
    server.close()


async def test_results_have_titles_addresses_and_snippets() -> None:
    async with search(json.dumps({"results": [RESULT, RESULT, RESULT]})) as (tool, asked):
        result = await tool.call({"query": "what is hearth?"}, call_id="c")
    assert asked == ["/search?q=what+is+hearth%3F&format=json&language=de"]
    assert result.content.startswith("1. Hearth\nhttps://hearth.test/\nAgents that end.")
    assert len(result.data["results"]) == 2


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ("no JSON", "200 OK", "nothing readable"),
        ("[]", "200 OK", "nothing readable"),
        ('{"results": [{"title": "no address"}]}', "200 OK", "nothing readable"),
        ('{"results": 1}', "200 OK", "nothing readable"),
        ("", "403 Forbidden", "search.formats"),
        ("", "500 Internal Server Error", "HTTP 500"),
    ],
)
async def test_bad_answers_say_what_is_wrong(body: str, status: str, says: str) -> None:
    async with search(body, status) as (tool, _):
        result = await tool.call({"query": "q"}, call_id="c")
    assert result.is_error
    assert says in result.content


async def test_without_a_search_engine_it_says_which_setting() -> None:
    channel: Any = None
    host = ToolHost(settings=ToolSettings(), storage=channel, inference=channel)
    scope: Any = None
    with pytest.raises(InvalidArgument, match="HEARTH_SEARXNG_URL"):
        async with WebSearchKind().open({}, scope, host):
            pass
