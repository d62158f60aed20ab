"""What is asked of a model: a conversation or a prompt, and how to answer it."""

from dataclasses import dataclass
from typing import Any

from hearth_runtime.errors import FieldViolation, InvalidArgument

from inference_service.conversation import Message, Tool, wrong_messages, wrong_tools

MAX_MODEL_NAME = 256
MAX_FALLBACKS = 16


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to generate; what is None or empty is left to the model host."""

    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    context_tokens: int | None = None
    keep_alive: str | None = None
    output_schema: str | None = None
    think: bool | None = None

    def for_ollama(self) -> dict[str, Any]:
        """Ollama's `options`."""
        options = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "seed": self.seed,
            "num_predict": self.max_tokens,
            "stop": list(self.stop) or None,
            "num_ctx": self.context_tokens,
        }
        return {name: value for name, value in options.items() if value is not None}

    def keep_alive_for_ollama(self) -> float | str | None:
        """Ollama's `keep_alive`: seconds as a number, or a duration with its unit ("5m")."""
        try:
            return None if self.keep_alive is None else float(self.keep_alive)
        except ValueError:
            return self.keep_alive


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to generate: the continuation of `messages`, or of `prompt`. Raises InvalidArgument."""

    models: tuple[str, ...]  # the model, then its fallbacks
    messages: tuple[Message, ...] = ()
    tools: tuple[Tool, ...] = ()
    prompt: str | None = None
    system: str | None = None
    options: Options
    fair_key: str
    seconds: float | None = None  # the caller's deadline, from now

    def __post_init__(self) -> None:
        wrong = []
        if len(self.models) > MAX_FALLBACKS + 1:
            wrong.append(FieldViolation(field="fallback_models", message=f"at most {MAX_FALLBACKS} are tried"))
        for index, name in enumerate(self.models):
            if message := misnamed(name):
                field = f"fallback_models.{index - 1}" if index else "model"
                wrong.append(FieldViolation(field=field, message=message))
        if self.prompt is None and not self.messages:
            wrong.append(FieldViolation(field="messages", message="there must be one at least"))
        wrong.extend(wrong_messages(self.messages))
        wrong.extend(wrong_tools(self.tools))
        if self.prompt == "":
            # Ollama takes it for a wish to have the model loaded, and generates nothing.
            wrong.append(FieldViolation(field="prompt", message="must not be empty"))
        if wrong:
            raise InvalidArgument("; ".join(f"{w.field}: {w.message}" for w in wrong[:3]), fields=wrong[:20])

    @property
    def needs(self) -> tuple[str, ...]:
        """The capabilities that a model must have for it, besides those that all have."""
        vision = ("vision",) if any(message.images for message in self.messages) else ()
        return (*vision, "tools") if self.tools else vision


def misnamed(model: str) -> str | None:
    """What is wrong with a model's name, if anything."""
    if not model:
        return "must name a model, such as smollm2:135m"
    if len(model) > MAX_MODEL_NAME or not model.isprintable() or " " in model:
        return f"a model's name has at most {MAX_MODEL_NAME} printable characters and no space"
    return None
