"""The tool `web_search`: a search engine of the operator's own, SearxNG.

Protocol: https://docs.searxng.org/dev/search_api.html.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar
from urllib.parse import urlencode, urlsplit

import orjson
from hearth_runtime.errors import InvalidArgument

from agent_service.html_files import html_text
from agent_service.tool import Tool, ToolHost, ToolResult, ToolScope, ToolSpec
from agent_service.web import Web, WebFailed, WebRequest
from agent_service.web_config import REQUEST_SECONDS
from agent_service.web_rules import WebRefused, WebRules

MAX_SNIPPET_CHARACTERS = 500


class WebSearch:
    """The one tool of its kind."""

    spec = ToolSpec(
        name="web_search",
        description="Searches the web and gives titles, addresses and snippets.",
        parameters={
            "type": "object",
            "properties": {
                "query": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 400,
                    "description": "What to search for, in a few words",
                }
            },
            "required": ["query"],
            "additionalProperties": False,
        },
        repeatable=True,
    )

    def __init__(self, web: Web, url: str, *, limit: int, language: str | None) -> None:
        self._web = web
        self._url = url
        self._limit = limit
        self._language = {"language": language} if language else {}

    async def call(self, arguments: dict[str, Any], *, call_id: str) -> ToolResult:
        query = urlencode({"q": arguments["query"], "format": "json", **self._language})
        try:
            answer = await self._web.request(WebRequest(method="GET", url=f"{self._url}/search?{query}"))
        except (WebRefused, WebFailed) as problem:
            return ToolResult(content=f"The search engine cannot be asked: {problem}", is_error=True)
        if answer.status == 403:
            return ToolResult(
                content="The search engine refuses JSON: its operator has to add json to search.formats.",
                is_error=True,
            )
        try:
            found = orjson.loads(answer.body)["results"][: self._limit]
            results = [
                {
                    "title": str(item.get("title") or ""),
                    "url": str(item["url"]),
                    "snippet": html_text(str(item.get("content") or ""))[:MAX_SNIPPET_CHARACTERS],
                }
                for item in found
            ]
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            return ToolResult(content=f"The search engine gave nothing readable (HTTP {answer.status}).", is_error=True)
        lines = [f"{n}. {r['title']}\n{r['url']}\n{r['snippet']}" for n, r in enumerate(results, start=1)]
        return ToolResult(content="\n\n".join(lines) or "Nothing was found.", data={"results": results})


class WebSearchKind:
    """`web_search`."""

    name = "web_search"
    description = "Searches the web with the SearxNG of this installation (HEARTH_SEARXNG_URL)."
    config_schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "limit": {"type": "integer", "minimum": 1, "maximum": 20, "default": 5, "description": "How many results"},
            "language": {"type": "string", "pattern": "^[a-z]{2}(-[A-Z]{2})?$", "description": "Such as en or de-DE"},
        },
        "additionalProperties": False,
    }

    @asynccontextmanager
    async def open(self, config: dict[str, Any], scope: ToolScope, host: ToolHost) -> AsyncIterator[Sequence[Tool]]:
        url = host.settings.searxng_url.rstrip("/")
        if not url:
            raise InvalidArgument("There is no search engine: set HEARTH_SEARXNG_URL to the URL of a SearxNG.")
        # The operator named it, so it may be anywhere; nothing else may.
        name = urlsplit(url).hostname or ""
        rules = WebRules(allow=(name,), private=(name,))
        web = Web(rules, timeout_seconds=scope.timeout_seconds or REQUEST_SECONDS, max_bytes=2_000_000)
        yield [WebSearch(web, url, limit=config.get("limit", 5), language=config.get("language"))]
