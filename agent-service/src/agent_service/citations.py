"""What of an answer stands in which of the passages that the run has looked up.

A model may cite by the passages' numbers, "[1]". A citation holds if most of the sentence's own words are in the
passage, all of its numbers, and what it quotes word by word; one that does not hold is dropped, and told of. Models
that are small cite seldom: a sentence that cites nothing is attributed to the passage that says the same, if there is
one, by a stricter measure. `how` tells the two apart: "cited" by the model, or "attributed" to the passage by words.

A run has looked up what `search_documents` gave it, and what the answers of its sub-tasks stand on: their citations'
quotes are its passages.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

# Which share of a sentence's words must be in a passage, where the model says so and where nobody does.
CITED_SHARE, ATTRIBUTED_SHARE = 0.5, 0.7
# So few words could be anywhere.
LEAST_ATTRIBUTED_WORDS = 3
MAX_CITATIONS = 50
QUOTE_CHARACTERS = 500
# Words that begin alike count as one: "holiday" and "holidays".
STEM_CHARACTERS = 6

_MARKER = re.compile(r"\[(\d{1,3}(?:\s*[,;]\s*\d{1,3})*)\]")
_SENTENCE = re.compile(
    r"[^.!?。！？\n]+(?:[.!?](?![\s\[]|$)[^.!?。！？\n]*)*"  # a point within it, as in 2.5, does not end it
    r"[.!?。！？]*[\"'”’)]*(?:\s*\[[\d,; ]+\])*"
)
_WORD = re.compile(r"[^\W_]+")
_IDEOGRAPHS = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af]")
_QUOTED = re.compile(r"[\"“„«]([^\"“”„«»]{12,400})[\"”“»]")
_COMMON = re.compile(
    r"a|an|and|are|as|at|be|been|but|by|can|could|did|do|does|for|from|had|has|have|he|her|his|how|i|if|in|into|is|it|its"
    r"|may|me|more|most|must|my|no|nor|not|of|on|or|our|she|should|so|such|than|that|the|their|them|then|there|these|they"
    r"|this|those|to|was|we|were|what|when|where|which|who|why|will|with|would|you|your"
    # Of a source one says these, whatever is in it.
    r"|according|documents?|mention(?:s|ed)?|passages?|results?|says?|said|states?|stated|texts?"
)


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A chunk as a run was given it, under the number `marker`; `start` is where it begins in the document's text."""

    marker: int
    document_id: str
    name: str
    page: int | None
    start: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Citation:
    """Where something that the answer says stands: `quote` is what is there, `span` its place in the document's text.

    `marker` is the number that the passage was given under; `sentence` the place in the answer, in characters.
    """

    document_id: str
    name: str
    page: int | None
    span: tuple[int, int]
    quote: str
    marker: int
    how: str
    sentence: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class DroppedCitation:
    """A number in the answer for which there is no passage ("unknown_marker"), or not one that says so
    ("not_in_text")."""

    marker: int
    reason: str
    sentence: tuple[int, int]


def cited(output: dict[str, Any], results: Iterable[Any]) -> dict[str, Any]:
    """The run's output with `citations` and `dropped_citations`, where any of the results, the `data` of tools that
    search and of sub-tasks, is of looking something up; else the output as it is."""
    found = [data for data in results if has_looked_up(data)]
    if not found:
        return output
    passages = [passage for data in found for passage in passages_of(data)]
    citations, dropped = cite(output["text"], passages)
    return {
        **output,
        "citations": [_json(citation) for citation in citations],
        "dropped_citations": [_json(citation) for citation in dropped],
    }


def has_looked_up(data: Any) -> bool:
    """Whether a tool result's `data` is that of a search, or of a sub-task that has searched, whatever it found."""
    match data:
        case {"chunks": []} | {"task_id": str(), "citations": []}:
            return True
    return next(passages_of(data), None) is not None


def passages_of(data: Any) -> Iterator[Passage]:
    """The passages in what the tool `search_documents` gave to programs, or what a sub-task's answer cites; none in
    anything else."""
    match data:
        case {"task_id": str(), "citations": [*citations]}:
            for citation in citations:
                match citation:
                    case {"quote": str(quote)}:
                        yield from passages_of({"chunks": [{**citation, "text": quote}]})
        case {"chunks": [*chunks]}:
            for chunk in chunks:
                match chunk:
                    case {
                        "marker": int(marker),
                        "document_id": str(document_id),
                        "name": str(name),
                        "page": page,
                        "span": [int(start), int()],
                        "text": str(text),
                    }:
                        yield Passage(
                            marker=marker, document_id=document_id, name=name, page=page, start=start, text=text
                        )


def cite(answer: str, passages: Sequence[Passage]) -> tuple[list[Citation], list[DroppedCitation]]:
    """What of the answer stands in which passage, in the answer's order; and the citations that hold for none."""
    read = [(passage, frozenset(_words(passage.text))) for passage in passages]
    citations: list[Citation] = []
    dropped: list[DroppedCitation] = []
    for place, sentence, markers in _sentences(answer):
        found = False
        for marker in markers:
            # Two searches of a run number their passages alike.
            meant = [(passage, words) for passage, words in read if passage.marker == marker]
            # Of a sentence that cites several, each has a part.
            others = frozenset(word for passage, words in read if passage.marker in markers for word in words)
            best = _best(sentence, meant, share=CITED_SHARE / len(markers), beside=others)
            if best is not None:
                citations.append(_citation(sentence, best, how="cited", place=place))
                found = True
            else:
                reason = "not_in_text" if meant else "unknown_marker"
                dropped.append(DroppedCitation(marker=marker, reason=reason, sentence=place))
        if not found and len(_words(sentence)) >= LEAST_ATTRIBUTED_WORDS:
            best = _best(sentence, read, share=ATTRIBUTED_SHARE)
            if best is not None:
                citations.append(_citation(sentence, best, how="attributed", place=place))
    return citations[:MAX_CITATIONS], dropped[:MAX_CITATIONS]


def _sentences(answer: str) -> Iterator[tuple[tuple[int, int], str, list[int]]]:
    """Each sentence: its place, its text without the markers in and after it, and these."""
    for match in _SENTENCE.finditer(answer):
        text = match[0].strip()
        bare = _MARKER.sub(" ", text)
        if not _WORD.search(bare):
            continue
        start = match.start() + len(match[0]) - len(match[0].lstrip())
        numbers = [int(number) for found in _MARKER.finditer(text) for number in re.findall(r"\d+", found[1])]
        yield (start, start + len(text)), bare, list(dict.fromkeys(numbers))


def _best(
    sentence: str,
    read: Sequence[tuple[Passage, frozenset[str]]],
    *,
    share: float,
    beside: frozenset[str] = frozenset(),
) -> Passage | None:
    """The passage that has the most of the sentence, if it has enough. Its numbers may also be in what is `beside`."""
    words = _words(sentence)
    best: tuple[float, Passage] | None = None
    for passage, known in read:
        if not words or not _numbers(words) <= known | beside or not _has_quotes(sentence, passage.text):
            continue
        overlap = len(words & known) / len(words)
        if overlap >= share and (best is None or overlap > best[0]):
            best = overlap, passage
    return None if best is None else best[1]


def _citation(sentence: str, passage: Passage, *, how: str, place: tuple[int, int]) -> Citation:
    """Quotes the sentence of the passage that has the most of the answer's."""
    words = _words(sentence)
    start, end, overlap = 0, len(passage.text), -1.0
    for match in _SENTENCE.finditer(passage.text):
        found = _words(match[0])
        # Of two that have as much, the one that says less besides.
        shared = len(words & found) - len(found - words) / 1000
        if found and shared > overlap:
            lead = len(match[0]) - len(match[0].lstrip())
            start, end, overlap = match.start() + lead, match.start() + len(match[0].rstrip()), shared
    end = min(end, start + QUOTE_CHARACTERS)
    return Citation(
        document_id=passage.document_id,
        name=passage.name,
        page=passage.page,
        span=(passage.start + start, passage.start + end),
        quote=passage.text[start:end],
        marker=passage.marker,
        how=how,
        sentence=place,
    )


def _words(text: str) -> frozenset[str]:
    """What the text says, as stems: without the words that every text has; of languages without spaces, pairs of
    characters."""
    words: set[str] = set()
    for word in _WORD.findall(text.lower()):
        if _IDEOGRAPHS.search(word):
            words |= {word[n : n + 2] for n in range(max(1, len(word) - 1))}
        elif word.isdigit():
            words.add(word)
        elif not _COMMON.fullmatch(word):
            words.add(word[:STEM_CHARACTERS])
    return frozenset(words)


def _numbers(words: frozenset[str]) -> frozenset[str]:
    return frozenset(word for word in words if word.isdigit())


def _has_quotes(sentence: str, text: str) -> bool:
    """Whether what the sentence quotes stands in the text, word by word."""
    plain = " ".join(text.lower().split())
    return all(" ".join(quote.lower().split()).rstrip(".,;:!?") in plain for quote in _QUOTED.findall(sentence))


def _json(citation: Citation | DroppedCitation) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(citation).items()}
