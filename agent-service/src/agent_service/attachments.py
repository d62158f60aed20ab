"""Files that come with a run: their text goes before the question, and images to models that see.

They are read when the run is accepted, so that a file that cannot be read, or a model that cannot see, is refused
before anything runs. What was read stands in the task's input (`agent_service.attached`).
"""

import asyncio
import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from hearth_runtime.errors import (
    DocumentUnreadable,
    FieldViolation,
    InvalidArgument,
    ModelLacksCapability,
    TooManyAttachments,
)

from agent_service.extraction import FileName, extract
from agent_service.inference import Models
from agent_service.settings import ExtractionSettings
from agent_service.storage import StoredAgents

MAX_ATTACHMENTS = 10
# How many files may wait to be read: no more than are read before the callers give up.
WAITING = 8
# In all; a longer text is for a collection, where the run looks up what it needs.
MAX_CHARACTERS = 100_000
# Chunks are not used here, so the longest will do.
CHUNK_TOKENS = 8192
_IMAGES = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"))


@dataclass(frozen=True, kw_only=True)
class Attachment:
    """A file as the client sent it."""

    name: str
    media_type: str
    data: bytes


class AttachmentReader:
    """Reads files for the agents that are to be given them, `concurrency` at once."""

    def __init__(self, agents: StoredAgents, models: Models, settings: ExtractionSettings, *, concurrency: int) -> None:
        self._agents = agents
        self._models = models
        self._settings = settings
        self._slots = asyncio.Semaphore(concurrency)
        self._waiting = 0

    async def added_to(
        self, task_input: dict[str, Any], attachments: Sequence[Attachment], *, agent_id: str
    ) -> dict[str, Any]:
        """The input with what was read of the attachments.

        Raises AgentNotFound, DocumentUnreadable, ModelLacksCapability, TooManyAttachments where too many wait to be
        read, and InvalidArgument where these are too many or too long.
        """
        if not attachments:
            return task_input
        if len(attachments) > MAX_ATTACHMENTS:
            raise _invalid(f"has {len(attachments)} files; at most {MAX_ATTACHMENTS} are taken")
        read = []
        characters = 0
        for attachment in attachments:
            if (media_type := _image_type(attachment)) is not None:
                await self._check_sees(agent_id)
                image = base64.b64encode(attachment.data).decode()
                read.append({"name": attachment.name, "media_type": media_type, "image": image})
                continue
            async with self._slot():
                text = await self._text(attachment, room=MAX_CHARACTERS - characters)
            characters += len(text)
            read.append({"name": attachment.name, "media_type": attachment.media_type, "text": text})
        return {**task_input, "attachments": read}

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        if self._waiting >= WAITING:
            raise TooManyAttachments(f"{WAITING} files of runs wait to be read, the most that may. Try again later.")
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._slots.release()

    async def _check_sees(self, agent_id: str) -> None:
        agent = await self._agents.get(agent_id)
        capabilities = await self._models.capabilities(agent.model_name)
        if capabilities and "vision" not in capabilities:
            raise ModelLacksCapability(
                f"{agent.model_name} cannot see images. Leave them out, or give the agent a model with vision: "
                "GET /api/v1/models shows what each can do.",
                metadata={"capability": "vision", "model": agent.model_name},
            )

    async def _text(self, attachment: Attachment, *, room: int) -> str:
        async def whole() -> AsyncIterator[bytes]:
            yield attachment.data

        if not attachment.data:
            raise DocumentUnreadable(f"{attachment.name} is empty.")
        parts: list[str] = []
        file = FileName(name=attachment.name, media_type=attachment.media_type)
        pieces = extract(file, whole(), chunk_tokens=CHUNK_TOKENS, settings=self._settings)
        async for piece in pieces:
            if isinstance(piece, str):
                parts.append(piece)
                if sum(map(len, parts)) > room:
                    await pieces.aclose()
                    raise _invalid(
                        f"have more than {MAX_CHARACTERS} characters of text. Upload them with POST /api/v1/documents, "
                        "and give the agent the tool search_documents"
                    )
        return "".join(parts)


def _image_type(attachment: Attachment) -> str | None:
    for magic, media_type in _IMAGES:
        if attachment.data.startswith(magic):
            return media_type
    if attachment.media_type.lower().startswith("image/"):
        raise _invalid(f"{attachment.name} is of the type {attachment.media_type}; images are PNG or JPEG")
    return None


def _invalid(message: str) -> InvalidArgument:
    return InvalidArgument(f"attachments: {message}.", fields=[FieldViolation(field="attachments", message=message)])
