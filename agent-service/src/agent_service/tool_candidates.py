"""Which values of a question belong to which arguments: each pair is scored by what stands around the value."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import Any

from agent_service.tool import ToolSpec
from agent_service.tool_dates import Date
from agent_service.tool_schemas import properties_of, required_of, type_of
from agent_service.tool_spans import Span, SpanKind, spans_of
from agent_service.tool_words import FUNCTION_WORDS, MEASURES, TOKEN, UNITS, content_of, parts_of, stem, words_of


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A value for an argument, how well it fits (higher is better, about 0 where nothing speaks for it), and where it
    stands in the question."""

    value: Any
    score: float
    span: Span | None = None


@dataclass(frozen=True, kw_only=True)
class Argument:
    """An argument of a tool, with the words that its name and description are made of."""

    name: str
    schema: dict[str, Any]
    required: bool
    place: int
    description: str
    name_words: tuple[str, ...]  # stems
    words: frozenset[str]  # stems

    @property
    def head(self) -> str:
        """The word of the name that says what it is."""
        return next((word for word in reversed(self.name_words) if not word.isdigit()), "")

    @property
    def family(self) -> tuple[str, ...]:
        """What arguments have in common that differ in a number or letter alone: "side1" and "side2"."""
        return tuple(word for word in self.name_words if not word.isdigit() and len(word) > 1)

    @property
    def type(self) -> str:
        return type_of(self.schema)


def _stems(words: str) -> frozenset[str]:
    return frozenset(map(stem, words.split()))


# What arguments are called that take what stands after "from", after "to", after "in", ...
SOURCES = _stems("from source origin start starting departure initial")
TARGETS = _stems("to target destination end ending arrival dest recipient receiver")
PLACES = _stems("location city country place state region area town address venue where destination origin")
PEOPLE = _stems("artist author person player name composer director actor celebrity recipient contact")
TIMES = _stems("date day when month time")
KINDS = _stems("type kind category genre material species mode method style format")
TEXTS = _stems("text message content body sentence note comment")
FORMULAS = _stems("function expression equation formula func polynomial")


def arguments_in(schema: dict[str, Any], root: dict[str, Any] | None = None) -> list[Argument]:
    """The arguments of a tool, or of an object within its schema `root`, in their order."""
    required = required_of(schema)
    made = []
    for place, (name, value) in enumerate(properties_of(schema, root).items()):
        description = str(value.get("description", ""))
        name_words = tuple(stem(part) for part in parts_of(name))
        made.append(
            Argument(
                name=name,
                schema=value,
                required=name in required,
                place=place,
                description=description,
                name_words=name_words,
                words=frozenset(content_of(_before_default(description))) | set(name_words),
            )
        )
    return made


def _before_default(description: str) -> str:
    return re.split(r"\b(?:[Dd]efault|[Oo]ptional|e\.g\.|E\.g\.|for example|such as|\()", description)[0]


class Question:
    """A question's text and spans, and how well a span fits an argument of a tool."""

    def __init__(self, text: str, tool: ToolSpec) -> None:
        self.text = text
        self.spans = spans_of(text)
        self.stems = set(map(stem, words_of(text)))
        self._purpose = set(content_of(tool.description)) | set(map(stem, parts_of(tool.name)))

    def numbers(self) -> list[Span]:
        return [span for span in self.spans if span.kind is SpanKind.NUMBER]

    def before(self, span: Span, count: int) -> list[str]:
        """The tokens before a span in its sentence, the nearest first."""
        tokens = list(TOKEN.findall(self.text[max(0, span.start - 120) : span.start]))
        sentence = len(tokens) - next((n for n, t in enumerate(reversed(tokens)) if t in ".?!;"), len(tokens))
        return tokens[sentence:][::-1][:count]

    def after(self, span: Span, count: int) -> list[str]:
        tokens = TOKEN.findall(self.text[span.end : span.end + 120])
        end = next((n for n, t in enumerate(tokens) if t in ".?!;"), len(tokens))
        return tokens[:end][:count]

    def number_fit(self, span: Span, argument: Argument) -> float:
        """How well a number fits; what speaks for it are the words around and the unit."""
        score = 0.0 if self.text[span.start].isdigit() or not self.text[span.start].isalpha() else -0.4
        before, after = self.before(self._first_of_series(span), 7), self.after(span, 5)
        for distance, token in enumerate(before):
            if token[0].isdigit():
                break
            score += self._word_fit(token, argument) * (1.0 - 0.12 * distance)
        for distance, token in enumerate(after):
            if token[0].isdigit() or (distance and token in (",", "and")):
                break
            score += 0.8 * self._word_fit(token, argument) * (1.0 - 0.18 * distance)
        score += _unit_fit(span, argument)
        is_year = isinstance(span.value, int) and 1000 <= span.value <= 2100 and span.unit is None
        names_year = "year" in parts_of(argument.name) or "year" in words_of(_before_default(argument.description))
        if is_year and "years" not in words_of(argument.name + " " + argument.description):
            score += 2.0 if names_year else -0.5
        if names_year and not is_year and span.unit is None:
            score -= 1.0
        return score

    def counts(self, span: Span, argument: Argument, relatives: int) -> bool:
        """Whether the number only says how many arguments of a kind there are: "three sides" of side1, side2, side3."""
        after = self.after(span, 1)
        return relatives > 1 and span.value == relatives and bool(after) and stem(after[0]) in argument.family

    def _first_of_series(self, span: Span) -> Span:
        """Of "the sides 3, 4 and 5" what is said before the 3 is said of all."""
        numbers = self.numbers()
        place = numbers.index(span)
        while place > 0:
            between = TOKEN.findall(self.text[numbers[place - 1].end : numbers[place].start])
            joined = [t for t in between if t.lower() not in UNITS and t.lower() not in ("units", "unit")]
            if not between or any(t.lower() not in (",", "and", "or", "&") for t in joined) or not joined:
                break
            place -= 1
        return numbers[place]

    def _word_fit(self, token: str, argument: Argument) -> float:
        if len(argument.name) <= 2 and token.lower() == argument.name.lower():
            return 3.0 if token == argument.name else 2.0
        if not token[0].isalpha() or token.lower() in FUNCTION_WORDS:
            return 0.0
        word = stem(token)
        if word in argument.name_words:
            return 2.0
        return 1.0 if word in argument.words else 0.0

    def text_fit(self, span: Span, argument: Argument) -> float:
        """How well a text fits."""
        score = {SpanKind.QUOTED: 1.5, SpanKind.NAME: 1.2, SpanKind.FORMULA: -1.0, SpanKind.DATE: -1.0}.get(
            span.kind, 0.0
        )
        is_time = bool(TIMES & set(argument.name_words)) or stem("date") in argument.words
        is_formula = argument.head in FORMULAS
        if span.kind is SpanKind.DATE:
            score += 4.0 if is_time or argument.schema.get("format") in ("date", "date-time") else 0.0
        if span.kind is SpanKind.FORMULA:
            score += 4.0 if is_formula else -1.0
        if argument.head == stem("name") and span.kind in (SpanKind.QUOTED, SpanKind.NAME):
            score += 0.8
        if argument.head in TEXTS:
            score += 1.5 if span.kind is SpanKind.QUOTED else -0.8 if span.kind is SpanKind.NAME else 0.0
        if argument.head in KINDS and span.kind is SpanKind.NAME:
            score -= 0.8
        if span.kind is SpanKind.NAME and span.end - span.start <= 2:
            score -= 0.8
        text = str(span.value.text if isinstance(span.value, Date) else span.value)
        stems = [stem(word) for word in words_of(text)]
        before, after = self.before(span, 4), self.after(span, 2)
        preposition = next((t.lower() for t in before[:2] if t.lower() in FUNCTION_WORDS), "")
        score += self._preposition_fit(preposition, argument, span)
        for distance, token in enumerate(before[:3]):
            if token[0].isalpha() and token.lower() not in FUNCTION_WORDS:
                score += 0.6 * self._word_fit(token, argument) * (1 - 0.25 * distance)
        for token in after[:1]:
            if token[0].isalpha() and token.lower() not in FUNCTION_WORDS:
                score += 0.5 * self._word_fit(token, argument)
        if span.kind is SpanKind.NAME and len(stems) > 1 and argument.head in stems:
            score += 1.5  # "Yosemite National Park" is a park
        if span.kind is SpanKind.PHRASE:
            known = [s for s in stems if s in self._purpose or s in argument.name_words]
            score -= 1.5 * len(known) / max(1, len(stems))
            score += 0.15 * min(len(stems), 3) - 0.1 * max(0, len(stems) - 3)
            longer = self.text[span.end : span.end + 1] == "-" or self.text[span.start - 1 : span.start] == "-"
            score -= 1.0 if longer else 0.0
        return score

    def _preposition_fit(self, preposition: str, argument: Argument, span: Span) -> float:
        names, words = set(argument.name_words), argument.words
        place = bool(PLACES & names) or bool({stem("city"), stem("location"), stem("country")} & words)
        source, target = bool(SOURCES & names), bool(TARGETS & names)
        if preposition == "from":
            return 2.5 if source else -1.0 if target else 0.3 * place
        if preposition in ("to", "into"):
            return 2.5 if target else -1.0 if source else 0.0
        if preposition in ("in", "at", "near", "around", "within"):
            return (
                (1.5 if span.kind is SpanKind.NAME else 0.3) if place else -0.2 if span.kind is SpanKind.NAME else 0.0
            )
        if preposition == "by":
            return 1.2 if PEOPLE & (names | words) else 0.0
        if preposition in ("of", "for", "about", "on"):
            return 0.4
        return 0.0


def _unit_fit(span: Span, argument: Argument) -> float:
    if span.unit is None:
        return 0.0
    measured = {MEASURES[word] for word in argument.name_words if word in MEASURES} or {
        MEASURES[word] for word in argument.words if word in MEASURES
    }
    asked = [
        UNITS[word]
        for word in words_of(argument.description) + parts_of(argument.name)
        if word in UNITS and len(word) > 1
    ]
    if "%" in argument.description:
        asked.append(UNITS["%"])
    if any(symbol in argument.description for symbol in ("m/s^2", "m/s²")):
        asked.append(UNITS["m/s^2"])
    elif "m/s" in argument.description:
        asked.append(UNITS["m/s"])
    if span.unit in asked:
        return 2.0
    if any(unit.measures == span.unit.measures for unit in asked):
        return 0.7
    if span.unit.measures in measured:
        return 1.2
    return -1.5 if asked or measured else 0.0


CHOICES_SHOWN = 6  # candidates that are kept for an argument
MAX_TRIES = 5_000


def assign(
    fits: Sequence[Sequence[float]], spans: Sequence[Span], arguments: Sequence[Argument], *, least: float
) -> list[int | None]:
    """For each argument the place of its span: the assignment with the highest sum, no piece of text used twice.

    `fits` has a row for each argument. An argument that is not required takes a span only for a fit of `least`.
    Arguments that differ in a number alone ("side1", "side2") take theirs in order.
    """
    if not fits or not spans:
        return [None] * len(fits)
    most = max(3, int(MAX_TRIES ** (1 / len(fits))))
    options: list[list[int | None]] = []
    for row, argument in zip(fits, arguments, strict=True):
        order = [n for _, n in sorted((-fit, n) for n, fit in enumerate(row))][:most]
        options.append([*(n for n in order if argument.required or row[n] >= least), None])
    best_sum = float("-inf")
    best_choice: list[int | None] = [None] * len(fits)
    for choice in islice(product(*options), 4 * MAX_TRIES):
        taken = [spans[n] for n in choice if n is not None]
        if any(a.start < b.end and b.start < a.end for i, a in enumerate(taken) for b in taken[:i]):
            continue
        total, previous = 0.0, -1
        families: dict[tuple[str, ...], int] = {}
        for a, n in enumerate(choice):
            if n is None:
                total -= 3.0 if arguments[a].required else 0.0
                continue
            total += fits[a][n] + (0.25 if spans[n].start > previous else 0.0)
            previous = spans[n].start
            family = arguments[a].family
            if family in families and families[family] > previous:
                total -= 2.0
            families[family] = previous
        if total > best_sum:
            best_sum, best_choice = total, list(choice)
    return best_choice


def overlap(span: Span, others: Sequence[Span]) -> bool:
    """Whether a span shares text with any of the others."""
    return any(span.start < other.end and other.start < span.end for other in others)
