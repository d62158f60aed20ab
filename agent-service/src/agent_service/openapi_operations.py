"""Operations out of an OpenAPI 3 document, each as a tool would need it.

Format: https://spec.openapis.org/oas/v3.1.1.html. Of a document is taken what a call needs: paths, parameters, JSON
bodies, and schemas within the document.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import yaml

MAX_DOCUMENT_CHARACTERS = 2_000_000
MAX_OPERATIONS = 100
MAX_REFERENCE_DEPTH = 12
# Values that may be read while references are followed: a document may be small and refer to itself a thousand times.
MAX_VALUES = 200_000
MAX_DESCRIPTION_CHARACTERS = 1000
METHODS = ("get", "post", "put", "patch", "delete", "head")
BODY = "body"


class BadDocument(Exception):
    """Why there are no operations to be had from a document, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation. `places` says of each parameter whether it goes into the path, query, header or the body's members
    ("body", with the name "" for the body as a whole)."""

    name: str
    method: str
    path: str
    description: str
    parameters: dict[str, Any]
    places: dict[str, str]
    is_repeatable: bool


def parsed(text: str) -> dict[str, Any]:
    """The document, JSON or YAML. Raises BadDocument."""
    if len(text) > MAX_DOCUMENT_CHARACTERS:
        raise BadDocument(f"It has more than {MAX_DOCUMENT_CHARACTERS} characters.")
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        try:
            document = yaml.load(text, Loader=yaml.CSafeLoader)
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            raise BadDocument(f"It is neither JSON nor YAML: {str(error)[:200]}") from error
    if not isinstance(document, dict) or not str(document.get("openapi", "")).startswith("3."):
        raise BadDocument("It is no OpenAPI document of version 3: it has no `openapi: 3.…`.")
    return document


def base_url_of(document: Mapping[str, Any]) -> str | None:
    """The first server's URL, where it is whole."""
    match document.get("servers"):
        case [{"url": str(url)}, *_] if re.match(r"https?://[^{}]+$", url):
            return url
    return None


def operations_of(document: dict[str, Any], wanted: list[str] | None = None) -> list[Operation]:
    """The operations, of these names only where any are wanted. Raises BadDocument, also where one is missing."""
    reader = _Reader(document)
    found: list[Operation] = []
    paths = document.get("paths")
    for path, given in paths.items() if isinstance(paths, dict) else ():
        item = reader.followed(given)
        if not isinstance(item, dict) or not isinstance(path, str):
            continue
        for method in METHODS:
            if isinstance(item.get(method), dict):
                operation = reader.operation(method, path, item[method], item.get("parameters"))
                if wanted is None or operation.name in wanted:
                    found.append(operation)
    if wanted is not None and (missing := set(wanted) - {operation.name for operation in found}):
        raise BadDocument(f"It has no operations named {', '.join(sorted(missing))}.")
    if not found:
        raise BadDocument("It has no operations.")
    if len(found) > MAX_OPERATIONS:
        raise BadDocument(f"It has {len(found)} operations. Name at most {MAX_OPERATIONS} of them in `operations`.")
    return found


class _Reader:
    """Reads what an operation needs, within MAX_VALUES."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._left = MAX_VALUES

    def operation(self, method: str, path: str, item: dict[str, Any], shared: Any) -> Operation:
        properties: dict[str, Any] = {}
        places: dict[str, str] = {}
        required: list[str] = []
        for parameter in (*_list(shared), *_list(item.get("parameters"))):
            match self.followed(parameter):
                case {"name": str(name), "in": "path" | "query" | "header" as place, **rest}:
                    schema = self.whole(rest.get("schema", {}))
                    match rest.get("description"):
                        case str(said):
                            schema = {**schema, "description": said[:MAX_DESCRIPTION_CHARACTERS]}
                    properties[name], places[name] = schema, place
                    if (rest.get("required") or place == "path") and name not in required:
                        required.append(name)
        self._add_body(self.followed(item.get("requestBody")), properties, places, required)
        about = item.get("summary") or item.get("description") or f"{method.upper()} {path}"
        name = item.get("operationId") or f"{method}{path}"
        repeatable = item.get("x-hearth-repeatable")
        return Operation(
            name=re.sub(r"[^A-Za-z0-9_-]+", "_", str(name)).strip("_")[:64] or method,
            method=method.upper(),
            path=path,
            description=str(about)[:MAX_DESCRIPTION_CHARACTERS],
            parameters={
                "type": "object",
                "properties": properties,
                "required": required,
                "additionalProperties": False,
            },
            places=places,
            is_repeatable=bool(repeatable) if repeatable is not None else method in ("get", "head"),
        )

    def _add_body(self, body: Any, properties: dict[str, Any], places: dict[str, str], required: list[str]) -> None:
        """The body's members as parameters beside the others, where their names let it; else the body as one."""
        match body:
            case {"content": {"application/json": {"schema": schema}}}:
                schema = self.whole(schema)
            case _:
                return
        members = schema.get("properties")
        if isinstance(members, dict) and members and not set(members) & set(properties):
            properties |= members
            places |= dict.fromkeys(members, BODY)
            required += [name for name in _list(schema.get("required")) if name in members]
        elif BODY not in properties:
            properties[BODY], places[BODY] = schema, ""
            if body.get("required"):
                required.append(BODY)

    def followed(self, value: Any) -> Any:
        """What a reference within the document stands for; any other value as it is."""
        for _ in range(MAX_REFERENCE_DEPTH):
            match value:
                case {"$ref": str(reference)}:
                    value = self._at(reference)
                case _:
                    return value
        raise BadDocument("Its references refer to references without end.")

    def whole(self, value: Any, depth: int = 0) -> Any:
        """The value with all references in it followed; what is too deep may be anything."""
        self._left -= 1
        if self._left < 0:
            raise BadDocument("It is too large once its references are followed. Name fewer `operations`.")
        if depth > MAX_REFERENCE_DEPTH:
            return {}
        value = self.followed(value)
        match value:
            case dict():
                return {str(name): self.whole(item, depth + 1) for name, item in value.items()}
            case list():
                return [self.whole(item, depth + 1) for item in value]
        return value

    def _at(self, reference: str) -> Any:
        if not reference.startswith("#/"):
            raise BadDocument(f"It refers to {reference[:200]}; only references within the document are followed.")
        value: Any = self._document
        for part in reference[2:].split("/"):
            name = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(value, dict) or name not in value:
                raise BadDocument(f"It refers to {reference[:200]}, which it does not have.")
            value = value[name]
        return value


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
