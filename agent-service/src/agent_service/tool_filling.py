"""The arguments of a call as far as the question itself says them."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from agent_service.tool import ToolSpec
from agent_service.tool_candidates import (
    CHOICES_SHOWN,
    PLACES,
    Argument,
    Candidate,
    Question,
    arguments_in,
    assign,
    overlap,
)
from agent_service.tool_dates import Date, written
from agent_service.tool_lists import lists_in
from agent_service.tool_mentions import mention, said_options
from agent_service.tool_schemas import properties_of
from agent_service.tool_spans import Span, SpanKind
from agent_service.tool_words import parts_of, stem, words_of

NEGATIONS = frozenset(
    ["no", "not", "never", "without", "few", "isn't", "don't", "doesn't", "exclude", "excluding", "little"]
)
LEAST_NUMBER_FIT = 1.0  # below it, an optional number is not spoken of
LEAST_TEXT_FIT = 2.2
MAX_OBJECTS = 32
_PAIR = re.compile(r"['\"]?([\w ]+?)['\"]?\s*[:=]\s*['\"]?([\w.]+)['\"]?(?=\s*[,}]|\s|$)")


@dataclass(frozen=True, kw_only=True)
class Filling:
    """What the question says of each argument: candidates, the best first. An argument that is missing here is one that
    the question does not speak of."""

    candidates: dict[str, list[Candidate]] = field(default_factory=dict)

    @property
    def best(self) -> dict[str, Any]:
        return {name: found[0].value for name, found in self.candidates.items() if found}


def fill(tool: ToolSpec, text: str) -> Filling:
    """What `text` says of the tool's arguments."""
    return _Filler(Question(text, tool), tool.parameters).filling(tool.parameters)


class _Filler:
    """Fills in the objects of the schema `root`: none within itself, since the question says each thing once, and
    MAX_OBJECTS at most."""

    def __init__(self, question: Question, root: dict[str, Any]) -> None:
        self._question = question
        self._root = root
        self._around: list[Any] = []
        self._room = MAX_OBJECTS

    def filling(self, schema: dict[str, Any]) -> Filling:
        named = schema.get("properties")
        if self._room == 0 or any(named is one for one in self._around):
            return Filling()
        self._room -= 1
        self._around.append(named)
        made = self._filled(schema)
        self._around.pop()
        return made

    def _filled(self, schema: dict[str, Any]) -> Filling:
        question = self._question
        arguments = arguments_in(schema, self._root)
        found: dict[str, list[Candidate]] = {}
        left: list[Argument] = []
        for argument in arguments:
            ready = _named_value(question, argument)
            if ready is not None:
                found[argument.name] = ready
            else:
                left.append(argument)
        taken = [c.span for cs in found.values() for c in cs[:1] if c.span is not None]
        of_numbers = [a for a in left if a.type in ("integer", "number")]
        found |= _numbers(question, of_numbers, taken)
        taken += [
            c.span for name in (a.name for a in of_numbers) for c in found.get(name, [])[:1] if c.span is not None
        ]
        lists = [a for a in left if a.type == "array"]
        found |= lists_in(question, lists, taken)
        found |= _texts(question, [a for a in left if a.type in ("string", "any")], taken)
        for argument in left:
            if argument.type == "object":
                value = self._object(argument)
                if value:
                    found[argument.name] = [Candidate(value=value, score=1.0)]
        ordered = {a.name: found[a.name] for a in arguments if found.get(a.name)}
        return Filling(candidates=ordered)

    def _object(self, argument: Argument) -> dict[str, Any]:
        """An object out of its own arguments, or out of pairs in braces."""
        if properties_of(argument.schema, self._root):
            return self.filling(argument.schema).best
        braces = re.search(r"\{([^{}]*)\}", self._question.text)
        if braces:
            return {m[1].strip(): _scalar(m[2]) for m in _PAIR.finditer(braces[1])}
        return {}


def _named_value(question: Question, argument: Argument) -> list[Candidate] | None:
    """Of an argument with a set of values, those that the question names; None for any other argument."""
    if argument.type == "boolean":
        return _flag(question, argument)
    values: list[Any] = argument.schema.get("enum") or []
    if argument.type == "array" or not (argument.type == "string" or values):
        return None
    closed = bool(values)
    options = values or said_options(argument.description)
    if not closed and PLACES & set(argument.name_words):
        options = []  # a description's places are of its examples, not the ones to choose from
    scored = [(option, mention(question, str(option))) for option in options]
    named = sorted(((o, m) for o, m in scored if m is not None), key=lambda item: -item[1].score)
    if named:
        return [Candidate(value=option, score=m.score, span=m.span) for option, m in named]
    if closed:
        if not argument.required:
            return []
        default = argument.schema.get("default")
        return [
            Candidate(value=o, score=0.5 if o == default else 0.0) for o in sorted(values, key=lambda o: o != default)
        ]
    return None


def _flag(question: Question, argument: Argument) -> list[Candidate]:
    own = {stem(part) for part in parts_of(argument.name)} - set(
        map(stem, ["get", "is", "include", "calculate", "show", "has", "use"])
    )
    named = [word for word in own if word in question.stems]
    said = bool(own) and len(named) == len(own)
    if not said and not argument.required:
        return []
    negated = False
    if named:
        words = words_of(question.text)
        places = [n for n, word in enumerate(words) if stem(word) in named]
        negated = any(set(words[max(0, n - 3) : n]) & NEGATIONS for n in places[:1])
    return [Candidate(value=not negated, score=1.0), Candidate(value=negated, score=0.0)]


def _numbers(question: Question, arguments: list[Argument], taken: Sequence[Span]) -> dict[str, list[Candidate]]:
    spans = [s for s in question.numbers() if not overlap(s, taken)]
    lists = [s for s in question.spans if s.kind is SpanKind.LIST]
    if arguments and lists and len(spans) > len(arguments):
        outside = [s for s in spans if not overlap(s, lists)]
        spans = outside if len(outside) >= sum(a.required for a in arguments) else spans
    families = Counter(a.family for a in arguments)
    fits = [
        [
            -100.0
            if _number(s, a) is None
            else question.number_fit(s, a) - 3.0 * question.counts(s, a, families[a.family])
            for s in spans
        ]
        for a in arguments
    ]
    found: dict[str, list[Candidate]] = {}
    for argument, row, place in zip(
        arguments, fits, assign(fits, spans, arguments, least=LEAST_NUMBER_FIT), strict=True
    ):
        if place is None:
            continue
        others = sorted((n for n in range(len(spans)) if n != place and row[n] > -50), key=lambda n: -row[n])
        found[argument.name] = [
            Candidate(value=_number(spans[n], argument), score=row[n], span=spans[n])
            for n in [place, *others[: CHOICES_SHOWN - 1]]
        ]
    return found


def _number(span: Span, argument: Argument) -> int | float | None:
    """The value that a number has for the argument; None where its type does not take it."""
    value: int | float = span.value
    description = argument.description.lower()
    if (
        span.unit is not None
        and span.unit.measures == "share"
        and ("decimal" in description or "between 0 and 1" in description)
    ):
        value = round(value / 100, 10)
    if argument.type == "integer":
        return int(value) if value == int(value) else None
    return value


def _texts(question: Question, arguments: list[Argument], taken: Sequence[Span]) -> dict[str, list[Candidate]]:
    kinds = (SpanKind.QUOTED, SpanKind.NAME, SpanKind.PHRASE, SpanKind.FORMULA, SpanKind.DATE)
    spans = [s for s in question.spans if s.kind in kinds and not overlap(s, taken)]
    fits = [[question.text_fit(s, a) for s in spans] for a in arguments]
    found: dict[str, list[Candidate]] = {}
    for argument, row, place in zip(arguments, fits, assign(fits, spans, arguments, least=LEAST_TEXT_FIT), strict=True):
        if place is None:
            continue
        others = sorted((n for n in range(len(spans)) if n != place), key=lambda n: -row[n])
        found[argument.name] = [
            Candidate(value=_text(spans[n], argument), score=row[n], span=spans[n])
            for n in [place, *others[: CHOICES_SHOWN - 1]]
        ]
    return found


def _text(span: Span, argument: Argument) -> str:
    if not isinstance(span.value, Date):
        return str(span.value)
    return written(span.value, argument.name_words, argument.description)


def _scalar(text: str) -> Any:
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        return text
