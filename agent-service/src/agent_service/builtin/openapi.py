"""The kind `openapi`: the operations of an HTTP API, as its OpenAPI document describes them."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar
from urllib.parse import quote, urlencode

import orjson
from hearth_runtime.errors import InvalidArgument, Unavailable

from agent_service.builtin.http_request import result_of
from agent_service.openapi_operations import (
    MAX_DOCUMENT_CHARACTERS,
    MAX_OPERATIONS,
    BadDocument,
    Operation,
    base_url_of,
    operations_of,
    parsed,
)
from agent_service.settings import ToolSettings
from agent_service.tool import Tool, ToolHost, ToolResult, ToolScope, ToolSpec
from agent_service.web import Web, WebFailed, WebRequest
from agent_service.web_config import HEADERS, PRIVATE, REQUEST_SECONDS, web_rules
from agent_service.web_rules import MAX_URL_CHARACTERS, WebRefused, origin, split_url


class OpenApiTool:
    """One operation."""

    def __init__(self, web: Web, base_url: str, operation: Operation, headers: Mapping[str, str]) -> None:
        self._web = web
        self._base_url = base_url.rstrip("/")
        self._operation = operation
        self._headers = headers
        self.spec = ToolSpec(
            name=operation.name,
            description=operation.description,
            parameters=operation.parameters,
            repeatable=operation.is_repeatable,
        )

    async def call(self, arguments: dict[str, Any], *, call_id: str) -> ToolResult:
        try:
            answer = await self._web.request(self.request(arguments))
        except (WebRefused, WebFailed) as problem:
            return ToolResult(content=str(problem), is_error=True)
        return await asyncio.to_thread(result_of, answer)

    def request(self, arguments: dict[str, Any]) -> WebRequest:
        """What the arguments come to. Raises WebRefused where one cannot stand where it has to."""
        path, query = self._operation.path, []
        headers, body = dict(self._headers), {}
        whole: Any = None
        owned = {name.lower() for name in headers}
        for name, value in arguments.items():
            match self._operation.places.get(name):
                case "path":
                    text = quote(_text(value), safe="")
                    if text in ("", ".", ".."):
                        raise WebRefused(f"{name} must not be empty or dots: it is a part of the path.")
                    path = path.replace("{" + name + "}", text)
                case "query":
                    query += [(name, _text(item)) for item in (value if isinstance(value, list) else [value])]
                case "header":
                    text = _text(value)
                    if not (text.isascii() and text.isprintable()):
                        raise WebRefused(f"{name} must be printable ASCII: it is a header field.")
                    if name.lower() not in owned:
                        headers[name] = text
                case "body":
                    body[name] = value
                case _:
                    whole = value
        content = whole if whole is not None else body or None
        if content is not None:
            headers |= {} if "content-type" in owned else {"Content-Type": "application/json"}
        url = f"{self._base_url}{path}" + (f"?{urlencode(query)}" if query else "")
        return WebRequest(
            method=self._operation.method,
            url=url,
            headers=headers,
            body=None if content is None else orjson.dumps(content),
        )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


class OpenApiKind:
    """`openapi`."""

    name = "openapi"
    description = "The operations of an HTTP API, by its OpenAPI document."
    config_schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "document": {
                "type": "string",
                "maxLength": MAX_DOCUMENT_CHARACTERS,
                "description": "The OpenAPI 3 document, JSON or YAML, as text",
            },
            "url": {
                "type": "string",
                "minLength": 8,
                "maxLength": MAX_URL_CHARACTERS,
                "pattern": "^https?://",
                "description": "Where the document is, in the place of the text",
            },
            "base_url": {
                "type": "string",
                "minLength": 8,
                "maxLength": MAX_URL_CHARACTERS,
                "pattern": "^https?://",
                "description": "Where the API is; the document's first server if left out",
            },
            "operations": {
                "type": "array",
                "minItems": 1,
                "maxItems": MAX_OPERATIONS,
                "items": {"type": "string", "maxLength": 200},
                "description": "Only these, by their operationId or the tool's name; all if left out",
            },
            "headers": HEADERS,
            "private": PRIVATE,
            "max_bytes": {"type": "integer", "minimum": 1, "maximum": 10_000_000, "default": 500_000},
        },
        "oneOf": [{"required": ["document"]}, {"required": ["url"]}],
        "additionalProperties": False,
    }

    @asynccontextmanager
    async def open(self, config: dict[str, Any], scope: ToolScope, host: ToolHost) -> AsyncIterator[Sequence[Tool]]:
        text = config["document"] if "document" in config else await _fetched(config, host.settings)
        try:
            document = await asyncio.to_thread(parsed, text)
            operations = await asyncio.to_thread(operations_of, document, config.get("operations"))
        except BadDocument as error:
            raise InvalidArgument(f"The OpenAPI document cannot be used. {error}") from error
        base_url = config.get("base_url") or base_url_of(document, found_at=config.get("url"))
        if base_url is None:
            raise InvalidArgument("The OpenAPI document names no server with a whole URL: give `base_url`.")
        rules = web_rules((base_url,), config, host.settings, field="`base_url`, the document's server, or ")
        is_its_word = "url" in config and "base_url" not in config
        if is_its_word and config.get("headers") and origin(base_url) != origin(config["url"]):
            # Whoever changes the document could have the secrets sent to any place.
            raise InvalidArgument(f"The document says that the API is at {base_url}: give it as `base_url`.")
        web = Web(
            rules, timeout_seconds=scope.timeout_seconds or REQUEST_SECONDS, max_bytes=config.get("max_bytes", 500_000)
        )
        yield [OpenApiTool(web, base_url, operation, config.get("headers", {})) for operation in operations]


async def _fetched(config: dict[str, Any], settings: ToolSettings) -> str:
    url = config["url"]
    try:
        rules = web_rules((split_url(url).hostname or "",), config, settings, field="`url` or ")
        web = Web(rules, timeout_seconds=REQUEST_SECONDS, max_bytes=MAX_DOCUMENT_CHARACTERS)
        answer = await web.request(WebRequest(method="GET", url=url))
    except WebRefused as error:
        raise InvalidArgument(f"The OpenAPI document cannot be had: {error}") from error
    except WebFailed as error:
        raise Unavailable(f"The OpenAPI document cannot be had now: {error}") from error
    if answer.status != 200 or answer.is_cut:
        raise Unavailable(f"The OpenAPI document cannot be had: {url} answers with {answer.status}.")
    return answer.text
