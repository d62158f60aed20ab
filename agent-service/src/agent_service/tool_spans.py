"""The values that occur in a question: numbers, dates, lists, quoted texts, names, phrases."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from agent_service.tool_dates import dates_in
from agent_service.tool_words import FUNCTION_WORDS, TOKEN, UNITS, Unit

MAX_QUESTION = 4_000
MAX_PHRASE_WORDS = 5


class SpanKind(StrEnum):
    """What a span looks like."""

    NUMBER = "number"
    DATE = "date"
    LIST = "list"  # in brackets
    QUOTED = "quoted"
    NAME = "name"  # words with capital letters
    FORMULA = "formula"
    PHRASE = "phrase"


@dataclass(frozen=True, kw_only=True)
class Span:
    """A piece of a question, from `start` to `end`, and what it says: an int or float of a number, a list, a Date, or
    the text itself."""

    kind: SpanKind
    start: int
    end: int
    value: Any
    unit: Unit | None = None


_NUMBER = re.compile(
    r"(?<![\w.^])(?P<sign>[-−])?(?P<money>[$€£])?(?P<digits>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)"
    r"(?:(?P<many>[kKmMbB]|bn|BN)(?![\w^/])|\s?(?P<much>thousand|million|billion|trillion)\b)?"
    r"(?P<ordinal>st|nd|rd|th)?(?P<unit>\s?%|°[CF]?|(?:\s|-)?[a-zA-Z]+(?:/[a-z]+(?:\^?2|²)?)?²?)?"
)
_MANY = {
    "k": 1_000,
    "m": 1_000_000,
    "b": 10**9,
    "bn": 10**9,
    "thousand": 1_000,
    "million": 1_000_000,
    "billion": 10**9,
    "trillion": 10**12,
}
_WORDS = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "eleven": 11, "twelve": 12, "fifteen": 15, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60,
    "hundred": 100, "thousand": 1000, "dozen": 12, "couple": 2, "half": 0.5, "first": 1, "second": 2, "third": 3,
    "twice": 2,
}  # fmt: skip
_WORD = re.compile(rf"\b(?:{'|'.join(_WORDS)})\b(?:[\s-]+([a-z]+))?", re.IGNORECASE)
# A stretch of time that stands for a number of smaller units.
_STRETCH = re.compile(
    r"\b(?:next|coming|upcoming|past|last|following|previous|a|one|this)\s+(day|week|month|year|decade|century)\b",
    re.IGNORECASE,
)
_STRETCHES = {
    "day": ((1, "day"),),
    "week": ((7, "day"), (1, "week")),
    "month": ((1, "month"), (30, "day")),
    "year": ((1, "year"), (12, "month")),
    "decade": ((10, "year"),),
    "century": ((100, "year"),),
}
_LIST = re.compile(r"\[([^\[\]]*)\]|\(([^()]*,[^()]*)\)")
_QUOTED = re.compile(r"(?<!\w)'([^'\n]+?)'(?!\w)|\"([^\"\n]+)\"|“([^”\n]+)”|‘([^’\n]+)’|`([^`\n]+)`")
_POWER = r"(?:\^\d+|\*\*\d+|²|³)"
_TERMS = r"(?:\s?[-+*/]\s?[\w.^²³*()]+)"
_FORMULA = re.compile(
    rf"(?<![\w.])(?:[-+]?\s?\d*\.?\d*\s?\*?\s?[a-z]{_POWER}?{_TERMS}+"  # x + 1
    rf"|\d+\.?\d*\s?\*?[xyzt]{_POWER}?(?![\w^])|[xyzt]{_POWER}{_TERMS}*)"  # 3x^2, x^2 + 1
)
_NAME = re.compile(
    r"\b(?:[A-Z][\w&’'.-]*[\w]|[A-Z])"
    r"(?:\s+(?:(?:of|the|de|la|and the|von|van|del|da|di|du|der|bin)\s+)?(?:[A-Z][\w&’'.-]*[\w]|[A-Z]|\d+)\b)*"
)
_SECOND_NAME = re.compile(
    r",\s+([A-Z][\w.-]*(?:\s[A-Z][\w.-]*)*)(?!\w|,\s+[A-Z]|,?\s+(?:and|or|&)\s+[A-Z][\w.-]*(?:\s[A-Z][\w.-]*)*(?![\w,]))"
)
# Written without a space, and meant as a whole.
_URL = r"https?://[^\s\"'<>]*[\w/]"
_MAIL = r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
_PATH = r"(?<![\w/])(?:/|\./)?(?:[\w.-]+/)+[\w.-]*\.[a-z]\w{0,4}\b|(?<![\w/])/(?:[\w.-]+/)+[\w-]+"
_IDENTIFIER = re.compile(rf"{_URL}|{_MAIL}|{_PATH}|\b[A-Za-z]\w*_\w+\b|\b[\w.-]+\.[a-z]{{2,4}}\b")
# Numbers with operators between them; a stroke or a hyphen alone may be a date, a range or "and/or".
_OPERATOR = r"(?:\s*[*×÷+^]\s*|\s+[-−/%x]\s+|\s*[-−/%]\s*(?=[\d.,\s()]*\s*[*×÷+^(]))"
_ARITHMETIC = re.compile(
    rf"\d[\d.]*\s?%\s+of\s+\d(?:[\d.,]*\d)?|[-−(]*\d[\d.,]*\)*(?:{_OPERATOR}[-−(\s]*\d(?:[\d.,]*\d)?\)*)+"
)
VERBS_FOLLOW = frozenset(["i", "you", "we", "they", "who", "that", "which", "please"])
_OPENERS = frozenset(".!?:;\n")


def spans_of(text: str) -> list[Span]:
    """All spans, in their order; they may overlap."""
    text = text[:MAX_QUESTION]
    dates = [Span(kind=SpanKind.DATE, start=start, end=end, value=date) for start, end, date in dates_in(text)]
    lists = list(_lists(text))
    values = [*dates, *_quoted(text), *_formulas(text)]
    numbers = [n for n in _numbers(text) if not any(v.start <= n.start < v.end for v in values)]
    units = [n.end for n in numbers if n.unit is not None]
    names = [
        n for n in _names(text) if not any(end <= n.start <= end + 1 and n.value.lower() in UNITS for end in units)
    ]
    names = [n for n in names if not any(d.start <= n.start < d.end for d in dates)]
    names += [Span(kind=SpanKind.NAME, start=m.start(), end=m.end(), value=m[0]) for m in _IDENTIFIER.finditer(text)]
    whole = [*values, *names]
    phrases = [p for p in _phrases(text) if not any(_cuts(p, w) for w in whole)]
    # Its numbers may be meant one by one: "add 5 + 3".
    found = [*values, *lists, *names, *phrases, *numbers, *_arithmetic(text)]
    return sorted(found, key=lambda span: (span.start, -span.end))


def _cuts(phrase: Span, whole: Span) -> bool:
    """Whether the phrase is, or ends within, a value that is written as one."""
    inside = phrase.start >= whole.start and phrase.end <= whole.end
    return inside or phrase.start < whole.start < phrase.end < whole.end or whole.start < phrase.start < whole.end


def _numbers(text: str) -> Iterator[Span]:
    for match in _NUMBER.finditer(text):
        after = (match["unit"] or "").strip().lower().removeprefix("-")
        attached = bool(match["unit"]) and not match["unit"][0].isspace() and match["unit"][0] != "-"
        unit = UNITS.get(after)
        if attached and after not in ("%",) and unit is None:
            continue  # a part of a word or formula: "3x", "4K"
        if unit is None and match["unit"]:
            unit = _later_unit(text, match.start("unit"))
        digits = match["digits"].replace(",", "")
        value: int | float = float(digits) if "." in digits else int(digits)
        many = (match["many"] or match["much"] or "").lower()
        if many == "m" and not match["money"]:
            unit, many = UNITS["m"], ""
        if many:
            value *= _MANY[many]
            value = int(value) if value == int(value) else value
        if match["sign"]:
            value = -value
        if match["money"]:
            unit = UNITS[match["money"]]
        end = match.end("much") if match["much"] else match.end("many") if match["many"] else match.end("digits")
        yield Span(kind=SpanKind.NUMBER, start=match.start(), end=end, value=value, unit=unit)
    for match in _WORD.finditer(text):
        unit = UNITS.get((match[1] or "").lower())
        word = match[0].split()[0].split("-")[0].lower()
        yield Span(
            kind=SpanKind.NUMBER, start=match.start(), end=match.start() + len(word), value=_WORDS[word], unit=unit
        )
    for match in _STRETCH.finditer(text):
        for value, name in _STRETCHES[match[1].lower()]:
            yield Span(kind=SpanKind.NUMBER, start=match.start(), end=match.end(), value=value, unit=UNITS[name])


def _later_unit(text: str, start: int) -> Unit | None:
    """The unit after an adjective: "square meters", "US dollars"."""
    words = [token.lower() for token in TOKEN.findall(text[start : start + 40])][:2]
    if words[:1] in (["square"], ["cubic"], ["sq"]):
        return Unit(
            name="area" if words[0] != "cubic" else "volume", measures="area" if words[0] != "cubic" else "volume"
        )
    return UNITS.get(words[1]) if len(words) == 2 and words[0] not in FUNCTION_WORDS and words[0].isalpha() else None


def _lists(text: str) -> Iterator[Span]:
    for match in _LIST.finditer(text):
        items = [_item(part) for part in (match[1] if match[1] is not None else match[2]).split(",") if part.strip()]
        if match[1] is None and not all(isinstance(item, int | float) for item in items):
            continue
        yield Span(kind=SpanKind.LIST, start=match.start(), end=match.end(), value=items)


def _item(text: str) -> Any:
    bare = text.strip().strip("'\"“”‘’")
    if bare != text.strip():
        return bare
    try:
        return float(bare) if "." in bare else int(bare)
    except ValueError:
        return bare


def _quoted(text: str) -> Iterator[Span]:
    for match in _QUOTED.finditer(text):
        value = next(group for group in match.groups() if group)
        yield Span(kind=SpanKind.QUOTED, start=match.start(), end=match.end(), value=value.strip().rstrip(",."))


def _arithmetic(text: str) -> Iterator[Span]:
    for match in _ARITHMETIC.finditer(text):
        yield Span(kind=SpanKind.FORMULA, start=match.start(), end=match.end(), value=match[0])


def _formulas(text: str) -> Iterator[Span]:
    for match in _FORMULA.finditer(text):
        value = match[0].strip()
        is_measure = value.lstrip("0123456789. ").lower() in UNITS  # "20 m/s"
        if not is_measure and any(c.isdigit() for c in value) and any(c.isalpha() for c in value):
            yield Span(
                kind=SpanKind.FORMULA, start=match.start(), end=match.start() + len(match[0].rstrip()), value=value
            )


def _names(text: str) -> Iterator[Span]:
    for match in _NAME.finditer(text):
        start, value = match.start(), match[0]
        before = text[:start].rstrip()
        if not before or before[-1] in _OPENERS:
            # The first word of a sentence has its capital for that.
            first, _, rest = value.partition(" ")
            if first.lower() in FUNCTION_WORDS or not rest or not rest[0].isupper():
                start, value = start + len(first) + 1, rest
                while value and not value[0].isupper():
                    word, _, value = value.partition(" ")
                    start += len(word) + 1
            else:
                yield from _name(start + len(first) + 1, rest)
        yield from _name(start, value)
        # "Paris, France", but not the first two of "Oslo, Paris and Rome".
        after = _SECOND_NAME.match(text, match.end())
        if after and value and after[1] != "I":
            yield Span(
                kind=SpanKind.NAME, start=start, end=after.end(1), value=value + text[match.end() : after.end(1)]
            )


def _name(start: int, value: str) -> Iterator[Span]:
    value = value.removesuffix("'s").removesuffix("’s")
    if value and value not in ("I", "I'm", "I'd"):
        yield Span(kind=SpanKind.NAME, start=start, end=start + len(value), value=value)


def _phrases(text: str) -> Iterator[Span]:
    """Runs of words between words that only join, and the shorter runs within them."""
    run: list[tuple[int, str]] = []
    before = "."
    for match in [*TOKEN.finditer(text), None]:
        token = match[0] if match else ""
        # What begins a sentence, or follows these, is a verb.
        is_verb, before = (before in VERBS_FOLLOW and token.islower()) or before in _OPENERS, token.lower()
        if match and token[0].isalpha() and token.lower() not in FUNCTION_WORDS and not is_verb:
            run.append((match.start(), token))
            continue
        if match and run and _is_hyphen(text, match):
            run.append((match.start(), token))
            continue
        for first in range(len(run)):
            for last in range(first, min(len(run), first + MAX_PHRASE_WORDS)):
                start, end = run[first][0], run[last][0] + len(run[last][1])
                if run[first][1] != "-" and run[last][1] != "-":
                    yield Span(kind=SpanKind.PHRASE, start=start, end=end, value=text[start:end])
        run = []


def _is_hyphen(text: str, match: re.Match[str]) -> bool:
    around = text[match.start() - 1 : match.start()], text[match.end() : match.end() + 1]
    return match[0] == "-" and all(c.isalpha() for c in around)
