"""The tool `ask_human`: a question to a person, for whose answer the run waits."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from hearth_runtime.errors import FieldViolation, InvalidArgument
from hearth_runtime.tasks import Pending, PendingKind

from agent_service.requests import Requests
from agent_service.tool import Tool, ToolHost, ToolResult, ToolScope, ToolSpec

MAX_QUESTION_CHARACTERS = 4000


class AskHuman:
    """The one tool of its kind. `choices` are the answers that there may be, any text where there are none."""

    def __init__(
        self,
        requests: Requests | None,
        *,
        choices: Sequence[str] = (),
        timeout_seconds: float | None = None,
        default: str | None = None,
    ) -> None:
        self._requests = requests
        self._choices = list(choices)
        self._timeout_seconds = timeout_seconds
        self._default = default
        # Asking again is no second question: a request is known by its call's id.
        self.spec = ToolSpec(
            name="ask_human",
            description="Asks a person a question and waits for the answer.",
            parameters={
                "type": "object",
                "properties": {
                    "question": {
                        "type": "string",
                        "minLength": 1,
                        "maxLength": MAX_QUESTION_CHARACTERS,
                        "description": "The question, with all that the person needs to know to answer it",
                    }
                },
                "required": ["question"],
                "additionalProperties": False,
            },
            repeatable=True,
        )

    async def call(self, arguments: dict[str, Any], *, call_id: str) -> ToolResult:
        """The answer. Raises RunWaits until there is one."""
        if self._requests is None:
            return ToolResult(content="Only a run can ask and wait for an answer.", is_error=True)
        asked = {"question": arguments["question"], **({"choices": self._choices} if self._choices else {})}
        answer = await self._requests.ask(
            Pending(
                id=call_id,
                kind=PendingKind.QUESTION,
                name=self.spec.name,
                arguments=asked,
                timeout_seconds=self._timeout_seconds,
                default=None if self._default is None else {"output": self._default},
            )
        )
        if "output" not in answer:
            return ToolResult(content="Nobody answered in time. Go on without the answer.", is_error=True)
        return ToolResult(content=answer["output"])


class AskHumanKind:
    """`ask_human`."""

    name = "ask_human"
    description = "A question to a person; the run waits for the answer and holds no worker meanwhile."
    config_schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "choices": {
                "type": "array",
                "items": {"type": "string", "minLength": 1, "maxLength": 1000},
                "minItems": 1,
                "maxItems": 50,
                "uniqueItems": True,
                "description": "The answers that there may be; any text if left out",
            },
            "timeout_seconds": {
                "type": "number",
                "exclusiveMinimum": 0,
                "maximum": 2592000,
                "description": "How long the run waits; for ever if left out",
            },
            "default": {
                "type": "string",
                "maxLength": 4000,
                "description": "What is taken for the answer when the time is over; none if left out",
            },
        },
        "additionalProperties": False,
    }

    @asynccontextmanager
    async def open(self, config: dict[str, Any], scope: ToolScope, host: ToolHost) -> AsyncIterator[Sequence[Tool]]:
        """Raises InvalidArgument where the default is none of the choices."""
        choices, default = config.get("choices", ()), config.get("default")
        if choices and default is not None and default not in choices:
            message = "must be one of the choices"
            raise InvalidArgument(f"default {message}.", fields=[FieldViolation(field="default", message=message)])
        yield [
            AskHuman(scope.requests, choices=choices, timeout_seconds=config.get("timeout_seconds"), default=default)
        ]
