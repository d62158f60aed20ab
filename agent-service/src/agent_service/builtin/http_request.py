"""The tool `http_request`: a page or an API, where the agent's owner lets it go."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from hearth_runtime.errors import InvalidArgument

from agent_service.html_files import html_text
from agent_service.tool import Tool, ToolHost, ToolResult, ToolScope, ToolSpec
from agent_service.web import Web, WebAnswer, WebFailed, WebRequest
from agent_service.web_config import HEADERS, PRIVATE, REQUEST_SECONDS, web_rules
from agent_service.web_rules import MAX_URL_CHARACTERS, WebRefused, WebRules

SAFE_METHODS = ("GET", "HEAD")
METHODS = (*SAFE_METHODS, "POST", "PUT", "PATCH", "DELETE")
MAX_BODY_CHARACTERS = 100_000
# Reading HTML takes a second or so for as much.
MAX_HTML_CHARACTERS = 1_000_000


class HttpRequest:
    """The one tool of its kind."""

    def __init__(self, web: Web, rules: WebRules, methods: Sequence[str], headers: dict[str, str]) -> None:
        self._web = web
        self._rules = rules
        self._headers = headers
        self._default_method = methods[0]
        properties: dict[str, Any] = {
            "url": {
                "type": "string",
                "minLength": 8,
                "maxLength": MAX_URL_CHARACTERS,
                "description": f"The URL. Allowed: {', '.join(rules.allow)}",
            }
        }
        if len(methods) > 1:
            properties["method"] = {"enum": list(methods), "default": methods[0], "description": "The HTTP method"}
        if any(method not in SAFE_METHODS for method in methods):
            properties["body"] = {
                "type": "string",
                "maxLength": MAX_BODY_CHARACTERS,
                "description": "What to send, such as JSON",
            }
        self.spec = ToolSpec(
            name="http_request",
            description="Requests a URL over HTTP and gives the answer's text.",
            parameters={
                "type": "object",
                "properties": properties,
                "required": ["url"],
                "additionalProperties": False,
            },
            repeatable=all(method in SAFE_METHODS for method in methods),
        )

    async def call(self, arguments: dict[str, Any], *, call_id: str) -> ToolResult:
        method, body = arguments.get("method", self._default_method), arguments.get("body")
        request = WebRequest(
            method=method,
            url=arguments["url"],
            headers=self._headers,
            body=None if body is None or method in SAFE_METHODS else body.encode(),
        )
        try:
            if self._headers:
                self._rules.check_secrets(request.url)
            answer = await self._web.request(request)
        except (WebRefused, WebFailed) as problem:
            return ToolResult(content=str(problem), is_error=True)
        return await asyncio.to_thread(result_of, answer)


def result_of(answer: WebAnswer) -> ToolResult:
    """The answer for a model: its status, and its text, of HTML what a reader sees."""
    kind = answer.content_type.partition(";")[0].strip().lower()
    if kind in ("text/html", "application/xhtml+xml"):
        text = html_text(answer.text[:MAX_HTML_CHARACTERS])
    elif kind.startswith("text/") or kind.endswith(("json", "xml", "javascript", "x-www-form-urlencoded")) or not kind:
        text = answer.text
    else:
        text = f"({len(answer.body)} bytes of {kind}, which is no text)"
    cut = "\n(cut: the answer was longer)" if answer.is_cut else ""
    return ToolResult(
        content=f"HTTP {answer.status} {answer.url}\n{text}{cut}",
        is_error=answer.status >= 400,
        data={"status": answer.status, "url": answer.url, "content_type": answer.content_type},
    )


class HttpRequestKind:
    """`http_request`."""

    name = "http_request"
    description = "Requests URLs over HTTP, those that are allowed and no others."
    config_schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "allow": {
                "type": "array",
                "minItems": 1,
                "maxItems": 100,
                "items": {"type": "string", "minLength": 1, "maxLength": 500},
                "description": "Hosts (api.example.com), hosts below one (*.example.com), URL prefixes "
                "(https://example.com/v1/), or * for any public host",
            },
            "private": PRIVATE,
            "methods": {
                "type": "array",
                "minItems": 1,
                "uniqueItems": True,
                "items": {"enum": list(METHODS)},
                "description": "The methods; GET alone if left out",
            },
            "headers": HEADERS,
            "max_bytes": {"type": "integer", "minimum": 1, "maximum": 10_000_000, "default": 500_000},
        },
        "required": ["allow"],
        "additionalProperties": False,
    }

    @asynccontextmanager
    async def open(self, config: dict[str, Any], scope: ToolScope, host: ToolHost) -> AsyncIterator[Sequence[Tool]]:
        rules = web_rules(tuple(config["allow"]), config, host.settings)
        if config.get("headers") and "*" in rules.allow:
            # Whoever writes what the model reads could have the secrets sent to any place.
            raise InvalidArgument("`headers` are secret and `allow` has *: name the hosts that may have them.")
        web = Web(
            rules, timeout_seconds=scope.timeout_seconds or REQUEST_SECONDS, max_bytes=config.get("max_bytes", 500_000)
        )
        yield [HttpRequest(web, rules, config.get("methods", ["GET"]), config.get("headers", {}))]
