"""Requests of Ollama's API, checked, and its errors. Source: https://docs.ollama.com/api"""

import json
import re
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

ROLES = ("system", "user", "assistant", "tool")
MAX_BATCH = 2048
MAX_CONTEXT = 1 << 20
MAX_TOKEN = 1 << 31
MAX_BODY_BYTES = 16 << 20

NO_IMAGES = "this model is missing data required for image input"

_DURATION = re.compile(r"-?([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+")

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
WHOLE = ("top_k", "seed", "num_predict", "repeat_last_n")
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
    context_tokens: int | None = None  # Ollama's num_ctx: prompt and answer together
    truncates: bool = True  # leaves out the oldest messages where they do not fit
    context: tuple[int, ...] = ()  # tokens to go on from, as an earlier answer gave them
    remembers: bool = False  # whether the answer gives such tokens


def read(raw: bytes) -> dict[str, Any]:
    """A request's body. Raises ApiError."""
    if not raw:
        raise ApiError(400, "missing request body")
    try:
        body = json.loads(raw, parse_constant=_no_number)
        # JSON may hold half a surrogate pair, which is no character and which llama.cpp does not take.
        body = json.loads(json.dumps(body, ensure_ascii=False).encode(errors="replace"))
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"invalid request body: {error}") from error
    if not isinstance(body, dict):
        raise ApiError(400, "invalid request body: not an object")
    return body


def _no_number(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON number")


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
    """The sign of `keep_alive`: 0 unloads. Models stay loaded otherwise, so its length does not matter."""
    value = body.get("keep_alive")
    if isinstance(value, bool):
        raise ApiError(400, "keep_alive must be a duration or a number of seconds")
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, str):
        if _DURATION.fullmatch(value):
            return 1.0 if any(digit in "123456789" for digit in value) else 0.0
        if re.fullmatch(r"-?[0-9]+", value):
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
            raise ApiError(400, NO_IMAGES)
        messages.append({"role": message["role"], "content": text(message, "content")})
    return tuple(messages)


def generation(
    body: dict[str, Any],
    *,
    messages: tuple[dict[str, str], ...],
    prompt: str | None = None,
    remembers: bool = False,
) -> Generation:
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
        if not isfinite(value):
            raise ApiError(400, f'option "{name}" must be a finite number')
        sampling[native] = int(value) if name in WHOLE else value
    if sampling.get("max_tokens", 0) <= 0:  # Ollama's words for "until it stops"
        sampling.pop("max_tokens", None)
    if sampling.get("seed", 0) < 0:  # and for "any"
        sampling.pop("seed")
    context_tokens = options.get("num_ctx")
    if context_tokens is not None and (
        type(context_tokens) not in (int, float) or not 1 < context_tokens < MAX_CONTEXT
    ):
        raise ApiError(400, f'option "num_ctx" must be a number from 2 to {MAX_CONTEXT}')
    stop = options.get("stop") or []
    stop = [stop] if isinstance(stop, str) else stop
    if not isinstance(stop, list) or not all(isinstance(s, str) for s in stop):
        raise ApiError(400, 'option "stop" must be of type array')
    output, context = _output(body), _context(body)
    if output and (prompt is not None or context):
        raise ApiError(400, "format is supported here only where there is neither raw nor context")
    return Generation(
        messages=messages,
        prompt=prompt,
        sampling=sampling,
        stop=tuple(s for s in stop if s),  # llama.cpp would stop at the empty one at once
        output=output,
        context_tokens=None if context_tokens is None else int(context_tokens),
        truncates=flag(body, "truncate", default=True),
        context=context,
        remembers=remembers,
    )


def _context(body: dict[str, Any]) -> tuple[int, ...]:
    given = body.get("context") or []
    if not isinstance(given, list) or not all(type(t) is int and 0 <= t < MAX_TOKEN for t in given):
        raise ApiError(400, "context must be a list of tokens, as an earlier answer gave them")
    return tuple(given)


def _output(body: dict[str, Any]) -> dict[str, Any] | bool | None:
    match body.get("format"):
        case None | "":
            return None
        case "json":
            return True
        case dict(schema):
            return schema
    raise ApiError(400, 'invalid format: expected "json" or a JSON schema')
