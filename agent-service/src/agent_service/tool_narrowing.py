"""Which tools fit a question, by embeddings and by what the question says of their arguments."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from agent_service.tool import ToolSpec
from agent_service.tool_choice import ChoiceModel
from agent_service.tool_filling import fill
from agent_service.tool_schemas import required_of
from agent_service.tool_spans import SpanKind
from agent_service.tool_words import content_of, parts_of, stem

# Tools of everyday kinds. How near a question is to these tells how near is near: embeddings of one model are all
# between 0.7 and 0.9, those of another between 0 and 0.6.
EVERYDAY = (
    "weather: The weather forecast for a place.",
    "send_email: Send an e-mail to somebody.",
    "calendar: Create an event in a calendar.",
    "search_web: Search the web for pages.",
    "translate: Translate a text into another language.",
    "read_file: Read a file from a folder.",
    "play_music: Play a song or an album.",
    "set_alarm: Set an alarm or a timer.",
    "book_flight: Book a flight between two cities.",
    "stock_price: The price of a company's stock.",
    "calculator: Evaluate an arithmetic expression.",
    "recipe: Find a recipe for a dish.",
    "map_route: The way from one place to another.",
    "database_query: Query rows of a table.",
    "news: The latest news on a topic.",
    "movie: Information on a film or a series.",
)
# Weights of a logistic regression: tools that answer their question against other tools for the same question.
# docs/tools-on-small-models.md says what it was made from.
NEARNESS, WORDS, NAME, ARGUMENTS = 36.0, 3.0, 3.0, 0.65
LEAST_FIT = 4.14  # 95 of 100 tools that answer their question reach it
UNKNOWN_ARGUMENTS = 1.5
NO_ARGUMENTS = -1.0  # of a tool for whose arguments the question says nothing
# For so many tools, the nearest to a question, it is looked at what it says of their arguments.
MOST_FILLED = 20
# A formula in the question for a tool that takes one: "What is 12 * 7?" has no other word that says what it is about.
FORMULA = 2.0


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """A tool and how well it fits a question; one below LEAST_FIT does not."""

    tool: ToolSpec
    fit: float


async def rank(
    questions: Sequence[str], tools: Sequence[ToolSpec], model: ChoiceModel, *, arguments: bool
) -> list[list[Ranked]]:
    """For each question the tools, the best first. `arguments` says whether what a question says of them counts.

    With many tools and a long question that is seconds of work, in which the worker goes on with its other runs.
    """
    vectors = await model.embed(
        [f"query: {q}" for q in questions] + [f"passage: {text}" for text in (*EVERYDAY, *map(described, tools))]
    )
    asked, everyday = vectors[: len(questions)], vectors[len(questions) : len(questions) + len(EVERYDAY)]
    known = vectors[len(questions) + len(EVERYDAY) :]

    def ranked() -> list[list[Ranked]]:
        return [
            _ranked(question, vector, tools, everyday=everyday, known=known, arguments=arguments)
            for question, vector in zip(questions, asked, strict=True)
        ]

    return await asyncio.to_thread(ranked)


def _ranked(
    question: str,
    vector: Sequence[float],
    tools: Sequence[ToolSpec],
    *,
    everyday: Sequence[Sequence[float]],
    known: Sequence[Sequence[float]],
    arguments: bool,
) -> list[Ranked]:
    usual = sum(cosine(vector, other) for other in everyday) / len(everyday)
    near = [
        Ranked(tool=tool, fit=NEARNESS * (cosine(vector, other) - usual) + _words_fit(question, tool))
        for tool, other in zip(tools, known, strict=True)
    ]
    nearest = sorted(range(len(near)), key=lambda n: -near[n].fit)[:MOST_FILLED]
    ranked = [
        Ranked(tool=item.tool, fit=item.fit + _arguments_fit(question, item.tool, arguments, is_near=n in nearest))
        for n, item in enumerate(near)
    ]
    return sorted(ranked, key=lambda item: -item.fit)


def described(tool: ToolSpec) -> str:
    """What a tool is, in one line."""
    return f"{tool.name}: {tool.description}"


def _words_fit(question: str, tool: ToolSpec) -> float:
    words = set(content_of(question))
    name = [stem(part) for part in parts_of(tool.name)]
    purpose = set(content_of(tool.description)) | set(name)
    fit = WORDS * len(words & purpose) / max(1, len(words))
    return fit + NAME * sum(part in words for part in name) / max(1, len(name))


def _arguments_fit(question: str, tool: ToolSpec, arguments: bool, *, is_near: bool) -> float:
    if not arguments:
        return ARGUMENTS * UNKNOWN_ARGUMENTS
    if not is_near:
        return ARGUMENTS * NO_ARGUMENTS
    required = required_of(tool.parameters)
    found = fill(tool, question).candidates
    scores = [found[name][0].score if found.get(name) else NO_ARGUMENTS for name in required]
    best = [found[name][0].span for name in required if found.get(name)]
    written_out = any(span is not None and span.kind is SpanKind.FORMULA for span in best)
    return ARGUMENTS * (sum(scores) / len(scores) if scores else 1.0) + FORMULA * written_out


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    """The cosine of two vectors; 0 where one has no length."""
    lengths = sum(x * x for x in a) ** 0.5 * sum(y * y for y in b) ** 0.5
    return sum(x * y for x, y in zip(a, b, strict=True)) / lengths if lengths else 0.0
