"""Requests of Ollama's API, checked, and its errors. Source: https://docs.ollama.com/api"""

import re
from dataclasses import dataclass, field
from typing import Any

ROLES = ("system", "user", "assistant", "tool")
MAX_BATCH = 2048

_DURATION = re.compile(r"-?(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+")

# Ollama's option, and what llama.cpp calls it.
SAMPLING = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "typical_p": "typical_p",
    "seed": "seed",
    "num_predict": "max_tokens",
    "repeat_penalty": "repeat_penalty",
    "repeat_last_n": "repeat_last_n",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
}
DEFAULTS: dict[str, float | int] = {"temperature": 0.8, "top_k": 40, "top_p": 0.9, "min_p": 0.0, "repeat_penalty": 1.1}


class ApiError(Exception):
    """An answer `{"error": message}` with a status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, kw_only=True)
class Generation:
    """What to generate: a conversation, or a raw prompt. `sampling` has llama.cpp's names."""

    messages: tuple[dict[str, str], ...] = ()
    prompt: str | None = None
    sampling: dict[str, Any] = field(default_factory=dict)
    stop: tuple[str, ...] = ()
    output: dict[str, Any] | bool | None = None  # a JSON Schema; True for any JSON


def text(body: dict[str, Any], name: str, *, default: str = "") -> str:
    """A string field."""
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, str):
        raise ApiError(400, f"{name} must be a string")
    return value


def flag(body: dict[str, Any], name: str, *, default: bool) -> bool:
    """A boolean field."""
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise ApiError(400, f"{name} must be true or false")
    return value


def check_keep_alive(body: dict[str, Any]) -> float | None:
    """The sign of `keep_alive` in seconds: 0 unloads. Models stay loaded here, so its length does not matter."""
    value = body.get("keep_alive")
    if isinstance(value, bool):
        raise ApiError(400, "keep_alive must be a duration or a number of seconds")
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, str):
        if _DURATION.fullmatch(value):
            return 0.0 if float(re.sub(r"[^\d.]", "", value) or 0) == 0 else 1.0
        if re.fullmatch(r"-?\d+", value):
            return float(value)
    raise ApiError(400, f'time: invalid duration "{value}"')


def messages_of(body: dict[str, Any]) -> tuple[dict[str, str], ...]:
    """The messages of a chat."""
    given = body.get("messages") or []
    if not isinstance(given, list):
        raise ApiError(400, "messages must be a list")
    messages = []
    for message in given:
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise ApiError(400, f"invalid message: role must be one of {', '.join(ROLES)}")
        if message.get("images"):
            raise ApiError(400, "this model is missing data required for image input")
        messages.append({"role": message["role"], "content": text(message, "content")})
    return tuple(messages)


def generation(body: dict[str, Any], *, messages: tuple[dict[str, str], ...], prompt: str | None = None) -> Generation:
    """The rest of a chat's or a generate's request."""
    options = body.get("options") or {}
    if not isinstance(options, dict):
        raise ApiError(400, "options must be an object")
    sampling: dict[str, Any] = {}
    for name, native in SAMPLING.items():
        value = options.get(name, DEFAULTS.get(name))
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ApiError(400, f'option "{name}" must be a number')
        sampling[native] = value
    if sampling.get("max_tokens", -1) < 0:
        sampling.pop("max_tokens", None)
    stop = options.get("stop") or []
    stop = [stop] if isinstance(stop, str) else stop
    if not isinstance(stop, list) or not all(isinstance(s, str) for s in stop):
        raise ApiError(400, 'option "stop" must be of type array')
    return Generation(messages=messages, prompt=prompt, sampling=sampling, stop=tuple(stop), output=_output(body))


def _output(body: dict[str, Any]) -> dict[str, Any] | bool | None:
    match body.get("format"):
        case None | "":
            return None
        case "json":
            return True
        case dict(schema):
            return schema
    raise ApiError(400, 'invalid format: expected "json" or a JSON schema')
