"""Choosing tools and their arguments with models of any size, also those that cannot call tools by themselves.

A model with native tool calls is asked for them first. Any other, and one whose calls do not fit, is led: the tool is
found by similarity, its arguments are asked for under that tool's own schema, and what does not fit is repaired.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from hearth_runtime.tasks import Turn

from agent_service.tool import ToolSpec


class How(StrEnum):
    """How a call came about."""

    NATIVE = "native"  # the model called the tool by itself
    CONSTRAINED = "constrained"  # the engine led it there, each answer held by a schema
    REPAIRED = "repaired"  # the same, after the model was shown what was wrong


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """A call to be made. The arguments are valid under the tool's schema."""

    name: str
    arguments: dict[str, Any]
    how: How


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The calls to make. No calls: no tool fits, and the question is to be answered directly, or has been in `text`."""

    calls: tuple[ToolCall, ...]
    text: str | None = None


@dataclass(frozen=True, kw_only=True)
class NativeCall:
    """A call as a model gave it: the name may be of no tool, the arguments may be anything."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class NativeAnswer:
    """What a model with native tool calls answered."""

    text: str
    calls: tuple[NativeCall, ...]


class ChoiceModel(Protocol):
    """The model, as choosing needs it. Whatever its methods raise passes through."""

    @property
    def native(self) -> bool:
        """Whether the model's capabilities include tools."""
        ...

    async def complete(self, messages: Sequence[Turn], *, schema: dict[str, Any], max_tokens: int, purpose: str) -> str:
        """JSON text that a JSON Schema holds, cut off at `max_tokens`, at temperature 0.

        `purpose` names the call within one choice, where no other has it, and is the same each time: "choose",
        "arguments:0", "repair:0:1", "led:repair:0:1".
        """
        ...

    async def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """One vector for each text. Texts begin with "query: " or "passage: ", as models of the E5 family want it."""
        ...

    async def call_tools(self, messages: Sequence[Turn], tools: Sequence[ToolSpec]) -> NativeAnswer:
        """The model's native calls; only asked of a model that is `native`."""
        ...


@dataclass(frozen=True, kw_only=True)
class ToolChoiceSettings:
    """What choosing makes use of; each technique can be switched off, which is what the benchmark measures."""

    native: bool = True  # native calls first, where the model has them
    narrowing: bool = True  # the tool by similarity; else the model picks from all names
    two_steps: bool = True  # first the tool, then its arguments; else both at once under a schema over all tools
    candidates: bool = True  # arguments from values that occur in the question
    omit_optional: bool = True  # optional arguments that the question does not speak of are left out
    none_fits: bool = True  # the answer may be that no tool fits
    examples: bool = True  # a worked example made from the tool's schema
    parallel: bool = True  # several calls where the question asks for several things
    repair_turns: int = 2  # how often a model is shown why its arguments are not valid
    margin: float = 0.5  # values of the question that fit an argument almost as well as the best: the model picks
    max_calls: int = 8
    argument_tokens: int = 256
