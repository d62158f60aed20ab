"""Operations out of an OpenAPI 3 document, each as a tool would need it.

Format: https://spec.openapis.org/oas/v3.1.1.html. Of a document is taken what a call needs: paths, parameters, JSON
bodies, and schemas within the document.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

import orjson
import yaml

from agent_service.references import target_of
from agent_service.tool import tool_names

MAX_DOCUMENT_CHARACTERS = 2_000_000
MAX_OPERATIONS = 100
MAX_REFERENCES = 12
MAX_SCHEMA_DEPTH = 8
# The parser of YAML calls itself for each level, and a process that does so too often dies.
MAX_YAML_DEPTH = 200
# A mapping may take over another's members (`<<: *other`), and that one another's: each level multiplies them.
MAX_YAML_MEMBERS = 1000
MAX_YAML_ALIASES = 1000
# Values that may be read while references are followed: a document may be small and refer to itself a thousand times.
MAX_VALUES = 200_000
MAX_DESCRIPTION_CHARACTERS = 1000
METHODS = ("get", "post", "put", "patch", "delete", "head")
BODY = "body"
# Header fields that are no parameters: the owner's, and those that make the request what it is.
# Source: https://spec.openapis.org/oas/v3.1.1.html#parameter-object, and RFC 9110.
NO_PARAMETERS = (
    "accept", "accept-encoding", "authorization", "connection", "content-length", "content-type", "cookie", "expect",
    "host", "keep-alive", "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade",
)  # fmt: skip
# Of a schema is kept what says which values are allowed, and what a model reads; the rest only costs tokens.
PLAIN = (
    "title", "type", "enum", "const", "default", "description", "format", "pattern", "minimum", "maximum", "multipleOf",
    "minLength", "maxLength", "minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties", "required",
)  # fmt: skip
ONE_SCHEMA = ("items", "additionalProperties", "not", "contains", "propertyNames")
MANY_SCHEMAS = ("allOf", "anyOf", "oneOf", "prefixItems")
NAMED_SCHEMAS = ("properties", "patternProperties")


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
            _check_shape(text)
            document = yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe one, that counts
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            raise BadDocument(f"It is neither JSON nor YAML: {str(error)[:200]}") from error
    if not isinstance(document, dict) or not str(document.get("openapi", "")).startswith("3."):
        raise BadDocument("It is no OpenAPI document of version 3: it has no `openapi: 3.…`.")
    return document


class _Loader(yaml.CSafeLoader):
    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        given = len(node.value)
        super().flatten_mapping(node)
        if len(node.value) > max(given, MAX_YAML_MEMBERS):
            raise BadDocument(f"A mapping in it takes over more than {MAX_YAML_MEMBERS} members.")


def _check_shape(text: str) -> None:
    depth = aliases = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_YAML_DEPTH:
            raise BadDocument(f"It has more than {MAX_YAML_DEPTH} levels.")
        aliases += isinstance(event, yaml.AliasEvent)
        if aliases > MAX_YAML_ALIASES:
            raise BadDocument(f"It has more than {MAX_YAML_ALIASES} aliases.")


def base_url_of(document: Mapping[str, Any], *, found_at: str | None = None) -> str | None:
    """The first server's URL. One that is not whole, or missing, is where the document is, if that is known."""
    match document.get("servers"):
        case [{"url": str(url)}, *_]:
            pass
        case _:
            url = "/"
    if found_at is not None:
        try:
            url = urljoin(found_at, url)
        except ValueError:
            return None
    return url if re.fullmatch(r"https?://[^{}]+", url) else None


def operations_of(document: dict[str, Any], wanted: list[str] | None = None) -> list[Operation]:
    """The operations, of those that are wanted only where any are: by their operationId, or by the name that a tool of
    it has. Raises BadDocument, also where one is missing."""
    reader = _Reader(document)
    found = list(reader.found())
    if wanted is not None:
        ids = set(wanted) & {given.operation_id for given in found}
        names = set(wanted) - ids
        found = [given for given in found if given.operation_id in ids or given.plain_name in names]
        if missing := names - {given.plain_name for given in found}:
            raise BadDocument(f"It has no operations named {', '.join(sorted(missing))}.")
    if not found:
        raise BadDocument("It has no operations.")
    if len(found) > MAX_OPERATIONS:
        raise BadDocument(f"It has {len(found)} operations. Name at most {MAX_OPERATIONS} of them in `operations`.")
    tools = tool_names([given.operation_id for given in found])
    return [reader.operation(given, tool) for given, tool in zip(found, tools, strict=True)]


@dataclass(frozen=True, kw_only=True)
class _Given:
    """An operation as the document has it; `shared` are the parameters of its path."""

    method: str
    path: str
    item: dict[str, Any]
    shared: Any

    @property
    def operation_id(self) -> str:
        return str(self.item.get("operationId") or f"{self.method}{self.path}")

    @property
    def plain_name(self) -> str:
        return tool_names([self.operation_id])[0]


class _Reader:
    """Reads what an operation needs, within MAX_VALUES."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._left = MAX_VALUES

    def found(self) -> Iterator[_Given]:
        """The operations of the document, none of them read yet. Raises BadDocument."""
        paths = self._document.get("paths")
        for path, given in paths.items() if isinstance(paths, dict) else ():
            shared = self.followed(given)
            if not isinstance(shared, dict) or not isinstance(path, str):
                continue
            for method in METHODS:
                if isinstance(item := shared.get(method), dict):
                    yield _Given(method=method, path=path, item=item, shared=shared.get("parameters"))

    def operation(self, given: _Given, tool_name: str) -> Operation:
        """The operation with all that a tool of this name needs. Raises BadDocument."""
        method, path, item = given.method, given.path, given.item
        properties: dict[str, Any] = {}
        places: dict[str, str] = {}
        required: list[str] = []
        for parameter in (*_list(given.shared), *_list(item.get("parameters"))):
            match self.followed(parameter):
                case {"name": str(name), "in": "header"} if name.lower() in NO_PARAMETERS:
                    continue
                case {"name": str(name), "in": "path" | "query" | "header" as place, **rest}:
                    schema = self.schema(rest.get("schema", {}))
                    match rest.get("description"):
                        case str(said):
                            schema = {**schema, "description": said[:MAX_DESCRIPTION_CHARACTERS]}
                    properties[name], places[name] = schema, place
                    if (rest.get("required") or place == "path") and name not in required:
                        required.append(name)
        for name in re.findall(r"\{([^{}]+)\}", path):
            # What the path has and nobody describes has to be filled in all the same.
            if places.get(name) != "path":
                properties[name], places[name] = {"type": "string"}, "path"
                required += [name] if name not in required else []
        self._add_body(self.followed(item.get("requestBody")), properties, places, required)
        about = item.get("summary") or item.get("description") or f"{method.upper()} {path}"
        repeatable = item.get("x-hearth-repeatable")
        return Operation(
            name=tool_name,
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
                schema = self.schema(schema)
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
        for _ in range(MAX_REFERENCES):
            match value:
                case {"$ref": str(reference)}:
                    value = self._at(reference)
                case _:
                    return value
        raise BadDocument("Its references refer to references without end.")

    def schema(self, value: Any, depth: int = 0) -> dict[str, Any]:
        """The JSON Schema with all references in it followed, as JSON; what is too deep may be anything."""
        self._count()
        value = self.followed(value)
        if value is False:
            return {"not": {}}
        if not isinstance(value, dict) or depth > MAX_SCHEMA_DEPTH:
            return {}
        schema = {key: self._plain(value[key]) for key in PLAIN if key in value}
        for key in ONE_SCHEMA:
            if key in value:
                schema[key] = self.schema(value[key], depth + 1)
        for key in MANY_SCHEMAS:
            if options := _list(value.get(key)):
                schema[key] = [self.schema(option, depth + 1) for option in options]
        for key in NAMED_SCHEMAS:
            if isinstance(value.get(key), dict):
                schema[key] = {str(name): self.schema(item, depth + 1) for name, item in value[key].items()}
        return _of_today(schema, value)

    def _plain(self, value: Any, depth: int = 0) -> Any:
        """The value as JSON: YAML has dates, and names that are no text."""
        self._count()
        match value:
            case dict() if depth < MAX_SCHEMA_DEPTH:
                return {str(name): self._plain(item, depth + 1) for name, item in value.items()}
            case list() if depth < MAX_SCHEMA_DEPTH:
                return [self._plain(item, depth + 1) for item in value]
            case str() | int() | float() | None:
                return value
        return str(value)[:MAX_DESCRIPTION_CHARACTERS]

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise BadDocument("It is too large once its references are followed. Name fewer `operations`.")

    def _at(self, reference: str) -> Any:
        try:
            return target_of(self._document, reference)
        except KeyError:
            raise BadDocument(f"It refers to {reference[:200]}, which it does not have.") from None
        except ValueError:
            raise BadDocument(
                f"It refers to {reference[:200]}; only references within the document are followed."
            ) from None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _of_today(schema: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What OpenAPI 3.0 says in ways of its own, as JSON Schema says it."""
    for key, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        match given.get(key):
            case True if bound in schema:
                schema[key] = schema.pop(bound)
            case int() | float() as number if not isinstance(number, bool):
                schema[key] = number
    if given.get("nullable") is True and isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
        if "enum" in schema and None not in schema["enum"]:
            schema["enum"] = [*schema["enum"], None]
    return schema
