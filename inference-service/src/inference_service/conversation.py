"""A conversation as a model is shown it: messages, images, what tools there are and what was called."""

import re
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from hearth_runtime.errors import FieldViolation

ROLES = ("system", "user", "assistant", "tool")
MAX_IMAGES = 32
MAX_IMAGE_BYTES = 20 * 1024 * 1024  # of all images: they leave room in gRPC's message, and grow by a third for Ollama
MAX_TOOLS = 128
MAX_TOOL_CHARACTERS = 65_536  # of one tool's description and parameters, or of the arguments of a call
MAX_TOOLS_CHARACTERS = 1_000_000

_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
# A host that is sent another format fails as if it were broken, and would be left alone for it.
_IMAGE = re.compile(rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|RIFF.{4}WEBP", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """A call of a tool; `arguments` is a JSON object, as JSON text."""

    name: str
    arguments: str

    def for_ollama(self) -> dict[str, Any]:
        """Ollama's element of `tool_calls`."""
        return {"function": {"name": self.name, "arguments": orjson.loads(self.arguments)}}


@dataclass(frozen=True, kw_only=True)
class Tool:
    """What a model can call; `parameters` is the JSON Schema of an object, as JSON text."""

    name: str
    description: str
    parameters: str

    def for_ollama(self) -> dict[str, Any]:
        """Ollama's element of `tools`."""
        function = {
            "name": self.name,
            "description": self.description,
            "parameters": orjson.loads(self.parameters),
        }
        return {"type": "function", "function": function}


@dataclass(frozen=True, kw_only=True)
class Message:
    """One message of a conversation; `tool_name` says whose result one of role "tool" is."""

    role: str
    content: str
    images: tuple[bytes, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_name: str | None = None

    def for_ollama(self) -> dict[str, Any]:
        """Ollama's element of `messages`."""
        message: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.images:
            message["images"] = [b64encode(image).decode() for image in self.images]
        if self.tool_calls:
            message["tool_calls"] = [call.for_ollama() for call in self.tool_calls]
        if self.tool_name is not None:
            message["tool_name"] = self.tool_name
        return message


def wrong_messages(messages: Sequence[Message]) -> Iterator[FieldViolation]:
    """What is wrong with the messages of a chat."""
    images = [image for message in messages for image in message.images]
    if len(images) > MAX_IMAGES:
        yield FieldViolation(
            field="messages", message=f"they have {len(images)} images; at most {MAX_IMAGES} are taken"
        )
    if (size := sum(map(len, images))) > MAX_IMAGE_BYTES:
        text = f"their images have {size} bytes; at most {MAX_IMAGE_BYTES} are taken. Send fewer or smaller ones"
        yield FieldViolation(field="messages", message=text)
    for index, message in enumerate(messages):
        field = f"messages.{index}"
        if message.role not in ROLES:
            yield FieldViolation(field=f"{field}.role", message=f"must be one of {', '.join(ROLES)}")
        for number, image in enumerate(message.images):
            if _IMAGE.match(image) is None:
                yield FieldViolation(field=f"{field}.images.{number}", message="must be a PNG, JPEG or WebP file")
        for number, call in enumerate(message.tool_calls):
            if wrong := _no_object(call.arguments):
                yield FieldViolation(field=f"{field}.tool_calls.{number}.arguments", message=wrong)


def wrong_tools(tools: Sequence[Tool]) -> Iterator[FieldViolation]:
    """What is wrong with the tools of a chat."""
    if len(tools) > MAX_TOOLS:
        yield FieldViolation(field="tools", message=f"there are {len(tools)}; at most {MAX_TOOLS} are taken")
    if (size := sum(len(tool.description) + len(tool.parameters) for tool in tools)) > MAX_TOOLS_CHARACTERS:
        text = f"they have {size} characters; at most {MAX_TOOLS_CHARACTERS} are taken"
        yield FieldViolation(field="tools", message=text)
    names: set[str] = set()
    for index, tool in enumerate(tools):
        field = f"tools.{index}"
        if _TOOL_NAME.fullmatch(tool.name) is None:
            yield FieldViolation(field=f"{field}.name", message="must be 1 to 64 letters, digits, _ and -")
        elif tool.name in names:
            yield FieldViolation(field=f"{field}.name", message=f"{tool.name} is there twice")
        names.add(tool.name)
        if len(tool.description) > MAX_TOOL_CHARACTERS:
            text = f"has {len(tool.description)} characters; at most {MAX_TOOL_CHARACTERS} are taken"
            yield FieldViolation(field=f"{field}.description", message=text)
        if wrong := _no_object(tool.parameters):
            yield FieldViolation(field=f"{field}.parameters", message=wrong)


def _no_object(text: str) -> str | None:
    """What keeps `text` from being a JSON object, if anything."""
    if len(text) > MAX_TOOL_CHARACTERS:
        return f"has {len(text)} characters; at most {MAX_TOOL_CHARACTERS} are taken"
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return f"is not JSON: {error}"
    return None if isinstance(value, dict) else "must be a JSON object"
