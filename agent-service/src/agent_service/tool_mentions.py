"""Values of a fixed set, or of a description's examples, that a question names."""

import re

from agent_service.tool_candidates import Candidate, Question
from agent_service.tool_spans import Span, SpanKind
from agent_service.tool_words import FUNCTION_WORDS, stem, words_of

_OPTION_LISTS = re.compile(
    r"(?:e\.g\.?,?|E\.g\.?,?|i\.e\.?|such as|[Ee]ither|[Cc]an be|[Oo]ptions?(?: are|:)|[Aa]llowed values?:?|"
    r"[Ss]upported values?:?|[Cc]hoose from|[Ff]or example,?|[Ii]nclude|[Oo]ne of:?|[Vv]alues?:|\()\s*([^.()]+)"
)


def said_options(description: str) -> list[str]:
    """The values that a description gives as examples: quoted ones, and those of lists like "(walk, bike, drive)"."""
    quoted = re.findall(r"(?<!\w)['\"‘“]([^'\"’”]{2,40})['\"’”](?!\w)", description)
    listed: list[str] = []
    for match in _OPTION_LISTS.finditer(description):
        parts = re.split(r",\s*(?:or\s+|and\s+)?|\s+or\s+|/", match[1].replace("etc", ""))
        listed += [part.strip(" '\"‘’“”") for part in parts]
    return list(dict.fromkeys(o for o in [*quoted, *listed] if o and len(o.split()) <= 4 and not o[0].isdigit()))


def mention(question: Question, value: str) -> Candidate | None:
    """Where a value is named in the question, in whatever form of its words, but not as a part of a longer name."""
    words = [stem(word) for word in words_of(value.replace("_", " "))]
    if not words or all(word in FUNCTION_WORDS for word in words_of(value)):
        return None
    exact = re.search(rf"(?<!\w){re.escape(value)}(?!\w)", question.text, re.IGNORECASE)
    if exact:
        whole = next(
            (s for s in question.spans if s.kind in (SpanKind.NAME, SpanKind.QUOTED) and _contains(s, exact)), None
        )
        if whole is not None and value[:1].islower():
            return None
        span = Span(kind=SpanKind.NAME, start=exact.start(), end=exact.end(), value=value)
        return Candidate(value=value, score=3.0 + len(words), span=span)
    said = [stem(word) for word in words_of(question.text)]
    if len(value) > 2 and any(said[n : n + len(words)] == words for n in range(len(said))):
        return Candidate(value=value, score=2.0 + len(words))
    return None


def _contains(span: Span, match: re.Match[str]) -> bool:
    return (
        span.start <= match.start()
        and match.end() <= span.end
        and span.end - span.start > match.end() - match.start() + 2
    )
