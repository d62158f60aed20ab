"""Files that come with a run: their text goes before the question, and images to models that see.

They are read when the run is accepted, so that a file that cannot be read, or a model that cannot see, is refused
before anything runs. What was read stands in the task's input (`agent_service.attached`).
"""

import base64
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from hearth_runtime.errors import DocumentUnreadable, FieldViolation, InvalidArgument, ModelLacksCapability

from agent_service.extraction import FileName, extract
from agent_service.inference import Models
from agent_service.settings import ExtractionSettings
from agent_service.storage import StoredAgents

MAX_ATTACHMENTS = 10
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
    """Reads files for the agents that are to be given them."""

    def __init__(self, agents: StoredAgents, models: Models, settings: ExtractionSettings) -> None:
        self._agents = agents
        self._models = models
        self._settings = settings

    async def added_to(
        self, task_input: dict[str, Any], attachments: Sequence[Attachment], *, agent_id: str
    ) -> dict[str, Any]:
        """The input with what was read of the attachments.

        Raises AgentNotFound, DocumentUnreadable, ModelLacksCapability, and InvalidArgument where they are too many or
        too long.
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
            text = await self._text(attachment, room=MAX_CHARACTERS - characters)
            characters += len(text)
            read.append({"name": attachment.name, "media_type": attachment.media_type, "text": text})
        return {**task_input, "attachments": read}

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
