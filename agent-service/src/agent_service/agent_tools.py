"""Tools of agents: what a client may set of them, what they must be, and what of them is secret."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import orjson
from hearth_runtime.agent_tools import StoredTool
from hearth_runtime.errors import FieldViolation, InvalidArgument, SecretUnreadable
from hearth_runtime.identifiers import new_id

from agent_service.json_schema import violations
from agent_service.secret_fields import MARKER, Place, replaced, secret_places, value_at
from agent_service.secret_keys import SecretKeys, Undecipherable
from agent_service.tool import ToolKind
from agent_service.tool_kinds import ToolKinds

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
MAX_TIMEOUT_SECONDS = 3600.0
MAX_RESULT_CHARACTERS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class ToolDraft:
    """What a client may set of a tool. An empty name is the kind's; what is None is the tool's own."""

    name: str
    tool_name: str
    tool_config: dict[str, Any] = field(repr=False)
    is_enabled: bool
    description: str | None
    needs_approval: bool | None
    timeout_seconds: float | None
    result_characters: int | None

    def validate(self) -> None:
        """Raises InvalidArgument where a run could not use it. The configuration is the kind's to judge."""
        wrong = []
        if self.name and not NAME.fullmatch(self.name):
            message = "must have 1 to 64 letters, digits, `_` and `-`: models call the tool by it"
            wrong.append(FieldViolation(field="name", message=message))
        if self.timeout_seconds is not None and not 0 < self.timeout_seconds <= MAX_TIMEOUT_SECONDS:
            message = f"must be more than 0 and at most {MAX_TIMEOUT_SECONDS:g}"
            wrong.append(FieldViolation(field="timeout_seconds", message=message))
        if self.result_characters is not None and not 0 < self.result_characters <= MAX_RESULT_CHARACTERS:
            message = f"must be 1 to {MAX_RESULT_CHARACTERS}"
            wrong.append(FieldViolation(field="result_characters", message=message))
        if wrong:
            raise invalid(wrong)


@dataclass(frozen=True, kw_only=True)
class AgentTool:
    """A tool of an agent, with its secrets in their places: for runs, and for nobody's eyes."""

    id: str
    agent_id: str
    name: str
    tool_name: str
    tool_config: dict[str, Any] = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)  # the texts among the secrets
    description: str | None = None
    needs_approval: bool | None = None
    timeout_seconds: float | None = None
    result_characters: int | None = None


class ToolStore(Protocol):
    """Where the tools of agents are kept. Raises AgentNotFound, ToolNotFound, ToolNameTaken, TooManyTools."""

    async def insert(self, agent_id: str, tool_id: str, draft: ToolDraft, *, secrets: bytes) -> StoredTool: ...

    async def get(self, agent_id: str, tool_id: str) -> StoredTool: ...

    async def update(
        self, agent_id: str, tool_id: str, draft: ToolDraft, *, secrets: bytes, old_secrets: bytes | None
    ) -> StoredTool | None: ...


class AgentTools:
    """The rules over the store."""

    def __init__(self, store: ToolStore, kinds: ToolKinds, keys: SecretKeys) -> None:
        self._store = store
        self._kinds = kinds
        self._keys = keys

    async def create(self, agent_id: str, draft: ToolDraft) -> StoredTool:
        """A new tool of the agent. Raises ToolKindNotFound and SecretKeyMissing besides."""
        tool_id = new_id()
        kept, secrets = self._seal(agent_id, tool_id, draft, {})
        return await self._store.insert(agent_id, tool_id, kept, secrets=secrets)

    async def replace(self, agent_id: str, tool_id: str, draft: ToolDraft) -> StoredTool:
        """Replaces what a client may set. The marker in the place of a secret keeps the secret that is there."""
        while True:
            stored = await self._store.get(agent_id, tool_id)
            known: Mapping[Place, Any] = {}
            if stored.secrets and stored.tool_name == draft.tool_name and self._has_markers(draft):
                known = read_secrets(self._keys, stored)
            kept, secrets = self._seal(agent_id, tool_id, draft, known)
            old_secrets = stored.secrets if known else None
            after = await self._store.update(agent_id, tool_id, kept, secrets=secrets, old_secrets=old_secrets)
            if after is not None:
                return after
            # Somebody has stored others meanwhile: those are the ones to keep.

    def _has_markers(self, draft: ToolDraft) -> bool:
        places = secret_places(self._kinds.get(draft.tool_name).config_schema, draft.tool_config)
        return any(value_at(draft.tool_config, place) == MARKER for place in places)

    def _seal(
        self, agent_id: str, tool_id: str, draft: ToolDraft, known: Mapping[Place, Any]
    ) -> tuple[ToolDraft, bytes]:
        """What to store: the draft with markers for its secrets, and the secrets as ciphertext."""
        draft.validate()
        kind = self._kinds.get(draft.tool_name)
        config, places = checked_config(kind, draft.tool_config, known)
        draft = replace(draft, name=draft.name or draft.tool_name)
        if not places:
            return draft, b""
        values = [[place, value_at(config, place)] for place in places]
        secrets = self._keys.encrypt(orjson.dumps(values), purpose=purpose_of(agent_id, tool_id))
        return replace(draft, tool_config=replaced(config, dict.fromkeys(places, MARKER))), secrets


def checked_config(
    kind: ToolKind, config: dict[str, Any], known: Mapping[Place, Any]
) -> tuple[dict[str, Any], tuple[Place, ...]]:
    """The configuration with known secrets in the place of markers, and where its secrets are.

    Raises InvalidArgument where the kind's schema does not allow it, or a marker stands for no known secret. What the
    error says shows no value of a configuration with secrets.
    """
    places = secret_places(kind.config_schema, config)
    marked = [place for place in places if value_at(config, place) == MARKER]
    missing = [place for place in marked if place not in known]
    if missing:
        message = f"is {MARKER}, which keeps the stored secret, and none is stored here: give the secret itself"
        raise invalid([FieldViolation(field=_path(place), message=message) for place in missing])
    config = replaced(config, {place: known[place] for place in marked})
    wrong = violations(kind.config_schema, config, mask="the value" if places else None)
    if wrong:
        raise invalid([FieldViolation(field=_path(violation.place), message=violation.message) for violation in wrong])
    return config, places


def read_secrets(keys: SecretKeys, tool: StoredTool) -> dict[Place, Any]:
    """The tool's secrets by their places. Raises SecretUnreadable."""
    if not tool.secrets:
        return {}
    try:
        plain = keys.decrypt(tool.secrets, purpose=purpose_of(tool.agent_id, tool.id))
    except Undecipherable as error:
        raise SecretUnreadable(
            f"The secrets of the tool {tool.name!r} cannot be read with the present HEARTH_SECRET_KEY. Set the key "
            f"that they were stored with, or store them again: PUT /api/v1/agents/{tool.agent_id}/tools/{tool.id}.",
            metadata={"agent_id": tool.agent_id, "tool_id": tool.id},
        ) from error
    return {tuple(place): value for place, value in orjson.loads(plain)}


def open_secrets(keys: SecretKeys, tool: StoredTool) -> AgentTool:
    """The tool with its secrets in their places. Raises SecretUnreadable."""
    secrets = read_secrets(keys, tool)
    return AgentTool(
        id=tool.id,
        agent_id=tool.agent_id,
        name=tool.name,
        tool_name=tool.tool_name,
        tool_config=replaced(tool.tool_config, secrets),
        secrets=tuple(text for value in secrets.values() for text in texts_of(value)),
        description=tool.description,
        needs_approval=tool.needs_approval,
        timeout_seconds=tool.timeout_seconds,
        result_characters=tool.result_characters,
    )


def texts_of(value: Any) -> list[str]:
    """Every text in a JSON value, names of members apart."""
    match value:
        case str():
            return [value]
        case dict():
            return [text for item in value.values() for text in texts_of(item)]
        case list():
            return [text for item in value for text in texts_of(item)]
        case _:
            return []


def invalid(wrong: list[FieldViolation]) -> InvalidArgument:
    """The error about these fields."""
    return InvalidArgument("The tool is not valid: " + "; ".join(f"{w.field} {w.message}" for w in wrong), fields=wrong)


def _path(place: Place) -> str:
    return ".".join(["tool_config", *(str(step) for step in place)])


def purpose_of(agent_id: str, tool_id: str) -> str:
    """What the secrets of a tool are encrypted for."""
    # Ciphertext of one row is none in another.
    return f"agent_tools/{agent_id}/{tool_id}"
