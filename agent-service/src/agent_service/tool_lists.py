"""Lists that a question has: in brackets, or side by side."""

import re
from collections.abc import Sequence
from typing import Any

from agent_service.tool_candidates import CHOICES_SHOWN, Argument, Candidate, Question, overlap
from agent_service.tool_mentions import mention, said_options
from agent_service.tool_schemas import type_of
from agent_service.tool_spans import Span, SpanKind


def lists_in(question: Question, arguments: list[Argument], taken: Sequence[Span]) -> dict[str, list[Candidate]]:
    """For each argument of type array what the question lists, the best first."""
    found: dict[str, list[Candidate]] = {}
    used: list[Span] = []
    for argument in arguments:
        items = argument.schema.get("items")
        inner = type_of(items) if isinstance(items, dict) else "any"
        spans = [s for s in question.spans if s.kind is SpanKind.LIST and s not in used and _items_fit(s.value, inner)]
        if spans:
            found[argument.name] = [Candidate(value=_typed(s.value, inner), score=3.0, span=s) for s in spans]
            used.append(spans[0])
            continue
        if inner in ("integer", "number"):
            numbers = [s for s in question.numbers() if not overlap(s, [*taken, *used])]
            numbers = [s for s in numbers if inner == "number" or isinstance(s.value, int)]
            if numbers and (argument.required or len(numbers) > 1):
                found[argument.name] = [Candidate(value=[s.value for s in numbers], score=1.0)]
                used += numbers
        elif inner in ("string", "any"):
            candidates = _text_lists(question, argument, [*taken, *used], items if isinstance(items, dict) else {})
            if candidates:
                found[argument.name] = candidates
    return found


def _items_fit(items: list[Any], inner: str) -> bool:
    if inner in ("integer", "number"):
        return all(isinstance(i, int | float) for i in items)
    return inner in ("string", "any")


def _typed(items: list[Any], inner: str) -> list[Any]:
    return [str(item) for item in items] if inner == "string" else items


def _text_lists(
    question: Question, argument: Argument, taken: Sequence[Span], items: dict[str, Any]
) -> list[Candidate]:
    values = items.get("enum")
    options = list(values) if isinstance(values, list) else said_options(argument.description)
    named = [option for option in options if mention(question, str(option)) is not None]
    if named and isinstance(values, list):
        return [Candidate(value=named, score=3.0)]
    series = series_of(question, taken)
    scored = sorted(
        (
            Candidate(
                value=[s.value for s in spans],
                score=sum(question.text_fit(s, argument) for s in spans) / len(spans) + 0.5 * len(spans),
                span=Span(kind=SpanKind.LIST, start=spans[0].start, end=spans[-1].end, value=None),
            )
            for spans in series
        ),
        key=lambda c: -c.score,
    )
    if named and (not scored or len(named) >= len(scored[0].value)):
        return [Candidate(value=named, score=3.0), *scored[:CHOICES_SHOWN]]
    if scored and (argument.required or scored[0].score > 2.5):
        return scored[:CHOICES_SHOWN]
    if not argument.required:
        return []
    kinds = (SpanKind.QUOTED, SpanKind.NAME, SpanKind.PHRASE)
    single = [s for s in question.spans if s.kind in kinds and not overlap(s, taken)]
    best = sorted(((question.text_fit(s, argument), s) for s in single), key=lambda pair: -pair[0])
    return [Candidate(value=[s.value], score=fit, span=s) for fit, s in best[:CHOICES_SHOWN]]


def series_of(question: Question, taken: Sequence[Span]) -> list[list[Span]]:
    """Values that the question names side by side: "a, b and c", the longest series first."""
    kinds = (SpanKind.QUOTED, SpanKind.NAME, SpanKind.PHRASE)
    spans = [s for s in question.spans if s.kind in kinds and not overlap(s, taken)]
    # Whole phrases only: the longest span that begins at each place.
    longest: dict[int, Span] = {}
    for span in spans:
        if not any(o.start <= span.start and span.end <= o.end and o is not span for o in longest.values()):
            longest[span.start] = span
    ordered = [longest[start] for start in sorted(longest)]
    found: list[list[Span]] = []
    for span in ordered:
        between = question.text[found[-1][-1].end : span.start] if found else ""
        if found and re.fullmatch(r"\s*(?:,|,?\s*(?:and|or|&|as well as))\s*(?:the |their |a |an )?", between):
            found[-1].append(span)
        else:
            found.append([span])
    return sorted((s for s in found if len(s) > 1), key=len, reverse=True)
