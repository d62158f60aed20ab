"""Several calls of one tool that a question asks for: "the weather in Paris and in Rome" are two."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import islice, product

from agent_service.tool import ToolSpec
from agent_service.tool_candidates import Candidate, Question, arguments_in
from agent_service.tool_filling import Filling, fill
from agent_service.tool_schemas import required_of
from agent_service.tool_spans import Span, SpanKind
from agent_service.tool_words import UNITS

# What a value must fit at least to stand for a call of its own.
OWN_NUMBER, OWN_TEXT = 0.8, 1.2
_JOINED = re.compile(
    r"\s*(?P<unit>[a-z²/%°]+(?:\^2)?)?\s*(?P<by>,\s*(?:and|or)?|(?:and|or|&|as well as))\s+(?:the\s+|a\s+|an\s+)?",
    re.IGNORECASE,
)
_SPLIT = re.compile(r"(?<=[.?!;])\s+|,?\s+(?:and|then|also|plus)\s+(?:then\s+|also\s+)?|;\s*|,\s+", re.IGNORECASE)


def calls_in(tool: ToolSpec, text: str, filling: Filling, *, most: int) -> list[Filling]:
    """What the question says of each call of the tool; one for most questions."""
    side_by_side = _side_by_side(tool, text, filling, most)
    if len(side_by_side) > 1:
        return side_by_side
    return _repeated(tool, text, filling, most)


def _side_by_side(tool: ToolSpec, text: str, filling: Filling, most: int) -> list[Filling]:
    """Calls for values that are named in a row where the tool takes one: as many for each argument go together,
    otherwise each goes with each."""
    question = Question(text, tool)
    scalar = {a.name for a in arguments_in(tool.parameters) if a.type in ("string", "integer", "number")}
    best = {name: found[0] for name, found in filling.candidates.items() if found and found[0].span is not None}
    used = [c.span for name, c in best.items() if c.span is not None]
    rows: dict[str, list[Candidate]] = {}
    for name in scalar & best.keys():
        span = best[name].span
        if span is None:
            continue
        row = _row(question, span)
        if len(row) < 2 or any(o is not span and s is not span and _overlap(o, s) for o in used for s in row):
            continue
        options = _row_values(tool, name, text, row)
        if len(options) == len(row):
            rows[name] = options
    if not rows:
        return [filling]
    counts = {len(row) for row in rows.values()}
    names = list(rows)
    together = zip(*rows.values(), strict=True) if len(counts) == 1 else product(*rows.values())
    made = [
        Filling(candidates={**filling.candidates, **{n: [c] for n, c in zip(names, values, strict=True)}})
        for values in islice(together, most + 1)
    ]
    return made if len(made) <= most else [filling]


def _row(question: Question, span: Span) -> list[Span]:
    """The values that stand side by side with a span, itself included, in their order: "a, b and c"."""
    # In "5, 10 and 15 minutes" the unit is said once.
    alike = [s for s in question.spans if s.kind is span.kind and (not s.unit or not span.unit or s.unit == span.unit)]
    if span.kind is not SpanKind.NUMBER:
        # "Paris, France and Rome, Italy" are two places, "Oslo, Paris and Rome" three.
        whole = _row_in(question, span, _outermost(alike))
        if span.kind is not SpanKind.NAME or all("," in s.value for s in whole):
            return whole
        alike = _outermost([s for s in alike if "," not in s.value])
    return _row_in(question, span, alike)


def _row_in(question: Question, span: Span, alike: Sequence[Span]) -> list[Span]:
    place = next((n for n, s in enumerate(alike) if _overlap(s, span)), None)
    if place is None:
        return [span]
    first = last = place
    while first > 0 and _joint(question, alike[first - 1], alike[first]):
        first -= 1
    while last + 1 < len(alike) and _joint(question, alike[last], alike[last + 1]):
        last += 1
    # "Boston, MA" is one place: a row has a word before its last value.
    if first == last or not (_joint(question, alike[last - 1], alike[last]) or "").strip(" ,"):
        return [span]
    return list(alike[first : last + 1])


def _joint(question: Question, one: Span, other: Span) -> str | None:
    """What joins two neighbours of a row; None where they are none."""
    match = _JOINED.fullmatch(question.text[one.end : other.start])
    if match is None or (match["unit"] and (one.kind is not SpanKind.NUMBER or match["unit"].lower() not in UNITS)):
        return None
    return match["by"]


def _outermost(spans: Sequence[Span]) -> list[Span]:
    return [
        s
        for s in spans
        if not any(
            o is not s and o.start <= s.start and s.end <= o.end and (o.end - o.start) > (s.end - s.start)
            for o in spans
        )
    ]


def _row_values(tool: ToolSpec, name: str, text: str, row: Sequence[Span]) -> list[Candidate]:
    """The values of the row as the argument takes them: each is read from a question that has it alone."""
    made = []
    for span in row:
        alone = text[: row[0].start] + text[span.start : span.end] + text[row[-1].end :]
        found = fill(tool, alone).candidates.get(name)
        if not found:
            return []
        made.append(found[0])
    return made if len({str(c.value) for c in made}) == len(made) else []


def _repeated(tool: ToolSpec, text: str, filling: Filling, most: int) -> list[Filling]:
    """Calls for stretches of the question that each say the same arguments anew; what a later one does not say is
    as it was."""
    question = Question(text, tool)
    used = [found[0].span for found in filling.candidates.values() if found and found[0].span is not None]
    left = [
        s
        for s in question.spans
        if s.kind in (SpanKind.NUMBER, SpanKind.NAME, SpanKind.QUOTED, SpanKind.DATE)
        and s.end - s.start + 2 * (s.kind is SpanKind.NUMBER) > 2
        and not any(_overlap(s, u) for u in used)
    ]
    if not left:
        return [filling]
    arguments = arguments_in(tool.parameters)
    families = Counter(a.family for a in arguments)
    # Of "side1" and "side2" a second value is for the second.
    alone = {a.name for a in arguments if families[a.family] == 1}
    calls: list[dict[str, Candidate]] = []
    current: dict[str, Candidate] = {}
    for stretch in _stretches(question):
        found = _own(tool, stretch)
        if any(name in current and name in alone for name in found):
            calls.append(current)
            current = {}
        current.update(found)
    calls.append(current)
    said = calls[0].keys()
    shared = set(said).intersection(*calls)
    required = set(required_of(tool.parameters))
    if (
        not 2 <= len(calls) <= most
        or not shared & required & alone
        or len({str([c.value for c in call.values()]) for call in calls}) < len(calls)
    ):
        return [filling]
    made: list[Filling] = []
    before: dict[str, list[Candidate]] = dict(filling.candidates)
    for call in calls:
        before = {**before, **{name: [candidate] for name, candidate in call.items()}}
        made.append(Filling(candidates=before))
    return made


def _stretches(question: Question) -> list[str]:
    """The question, split where it may begin anew, but not within a value."""
    whole = (SpanKind.DATE, SpanKind.QUOTED, SpanKind.LIST, SpanKind.NAME)
    values = [span for span in question.spans if span.kind in whole]
    text, start, made = question.text, 0, []
    for match in _SPLIT.finditer(text):
        if not any(v.start < match.end() and match.start() < v.end for v in values):
            made.append(text[start : match.start()])
            start = match.end()
    return [*made, text[start:]]


def _own(tool: ToolSpec, stretch: str) -> dict[str, Candidate]:
    kept = {}
    for name, found in fill(tool, stretch).candidates.items():
        best = found[0]
        if best.span is None or best.span.kind is SpanKind.PHRASE:
            continue
        if best.score >= (OWN_NUMBER if best.span.kind is SpanKind.NUMBER else OWN_TEXT):
            kept[name] = best
    return kept


def _overlap(a: Span, b: Span) -> bool:
    return a.start < b.end and b.start < a.end
