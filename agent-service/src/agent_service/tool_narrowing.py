"""Which tools are near to a question, by embeddings."""

from collections.abc import Sequence
from dataclasses import dataclass

from agent_service.tool import ToolSpec
from agent_service.tool_choice import ChoiceModel


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """A tool and the cosine between it and the question."""

    tool: ToolSpec
    similarity: float


async def rank(question: str, tools: Sequence[ToolSpec], model: ChoiceModel) -> list[Ranked]:
    """The tools, the nearest first."""
    vectors = await model.embed([f"query: {question}", *(f"passage: {described(tool)}" for tool in tools)])
    asked, *known = vectors
    ranked = [Ranked(tool=tool, similarity=cosine(asked, vector)) for tool, vector in zip(tools, known, strict=True)]
    return sorted(ranked, key=lambda item: -item.similarity)


def described(tool: ToolSpec) -> str:
    """What a tool is, in one line."""
    return f"{tool.name}: {tool.description}"


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    """The cosine of two vectors; 0 where one has no length."""
    lengths = sum(x * x for x in a) ** 0.5 * sum(y * y for y in b) ** 0.5
    return sum(x * y for x, y in zip(a, b, strict=True)) / lengths if lengths else 0.0
