"""A scripted model for the tool-calling engine."""

import itertools
from collections.abc import Sequence
from typing import Any

import orjson
from agent_service.tool import ToolSpec
from agent_service.tool_choice import NativeAnswer
from hearth_runtime.errors import HearthError
from hearth_runtime.tasks import Turn

LETTERS = "abcdefghijklmnopqrstuvwxyz"


class ScriptedModel:
    """Answers by purpose; its vectors count letters, so that texts are near that have words in common.

    `answers` maps a purpose to the JSON value or the text to give, or to what makes it from messages and schema.
    """

    def __init__(
        self, *, native: NativeAnswer | HearthError | None = None, answers: dict[str, Any] | None = None
    ) -> None:
        self.asked: list[tuple[str, list[Turn], dict[str, Any]]] = []
        self._native = native
        self._answers = answers or {}

    @property
    def native(self) -> bool:
        return self._native is not None

    async def complete(self, messages: Sequence[Turn], *, schema: dict[str, Any], max_tokens: int, purpose: str) -> str:
        assert max_tokens > 0
        self.asked.append((purpose, list(messages), schema))
        answer = self._answers[purpose]
        if callable(answer):
            answer = answer(messages, schema)
        return answer if isinstance(answer, str) else orjson.dumps(answer).decode()

    async def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        return [_vector(text) for text in texts]

    async def call_tools(self, messages: Sequence[Turn], tools: Sequence[ToolSpec]) -> NativeAnswer:
        assert self._native is not None
        if isinstance(self._native, HearthError):
            raise self._native
        return self._native


def _vector(text: str) -> list[float]:
    """Pairs of letters within words, hashed by their letters alone."""
    values = [0.0] * 256
    words = text.partition(": ")[2].lower().split()
    for word in words:
        letters = [c for c in word if c in LETTERS]
        for a, b in itertools.pairwise(letters):
            values[(ord(a) * 31 + ord(b) * 17) % 256] += 1
    return values
