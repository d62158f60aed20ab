"""Tool calls as a host gives them: cleaned and bounded, as all that it says."""

from collections.abc import Sequence
from math import isfinite
from typing import Any

import orjson
from hearth_runtime.errors import ModelOutputInvalid
from ollama import Message

from inference_service.conversation import MAX_TOOL_CHARACTERS, ToolCall
from inference_service.output import clean

MAX_CALLS = 64  # in one answer
MAX_NAME = 256
MAX_DEPTH = 64


def read_calls(given: Sequence[Message.ToolCall]) -> list[ToolCall]:
    """The calls of a chunk. Raises ModelOutputInvalid where one cannot be used."""
    if len(given) > MAX_CALLS:
        raise too_many()
    return [_read(call.function.name, call.function.arguments) for call in given]


def too_many() -> ModelOutputInvalid:
    """The answer has more calls than MAX_CALLS."""
    return ModelOutputInvalid(f"The model called more than {MAX_CALLS} tools in one answer.")


def _read(given_name: str, given: Any) -> ToolCall:
    name = clean(given_name[: MAX_NAME + 1])
    if not name.strip() or len(name) > MAX_NAME:
        raise ModelOutputInvalid(f"The model called a tool whose name is empty or has more than {MAX_NAME} characters.")
    arguments = orjson.dumps(_cleaned(dict(given), depth=0)).decode()
    if len(arguments) > MAX_TOOL_CHARACTERS:
        raise ModelOutputInvalid(
            f"The model called a tool with {len(arguments)} characters of arguments; at most {MAX_TOOL_CHARACTERS} "
            "are taken."
        )
    return ToolCall(name=name, arguments=arguments)


def _cleaned(value: Any, *, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise ModelOutputInvalid(f"The model called a tool with arguments that are nested over {MAX_DEPTH} levels.")
    match value:
        case str():
            return clean(value)
        case list():
            return [_cleaned(v, depth=depth + 1) for v in value]
        case dict():
            return {clean(k): _cleaned(v, depth=depth + 1) for k, v in value.items()}
        case int() if not -(2**63) <= value < 2**63:
            raise ModelOutputInvalid("The model called a tool with a whole number of more than 64 bits.")
        case float() if not isfinite(value):
            raise ModelOutputInvalid("The model called a tool with a number that is not finite.")
        case _:
            return value
